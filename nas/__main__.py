"""`python -m nas`: the same as the command `isp-nas`."""

from nas.cli.main import main

if __name__ == "__main__":
    main()
