"""The command line: one file per command parses, prints and draws; nothing else imports Rich or Typer."""

from nas.cli import launch

launch.loading()
