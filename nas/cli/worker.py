"""The commands of a cluster: `isp-nas worker`, which trains for a search elsewhere, and `isp-nas cluster keys`."""

import json
import sys
from pathlib import Path

import typer

from nas.cli.console import Console, plain, print_out, typed
from nas.cli.tables import SHORT_FORMATS, check_format, print_json
from nas.cluster.agent import End
from nas.cluster.agents import AgentOptions, run_agents
from nas.cluster.keys import AUTHORITY, CERTIFICATE, KEY, make_keys
from search_spaces.system.printable import json_printable

_CODES = {End.OVER: 0, End.LEFT: 0, End.ALONE: 2, End.REFUSED: 2}


def run_worker(options: AgentOptions, *, output_format: str) -> None:
    """Train for a search until it is over; exit code 2 where every agent was refused or found none."""
    check_format(output_format, SHORT_FORMATS)
    console = Console()

    def on_message(line: str) -> None:
        if output_format == "json":
            print_out(json_printable(json.dumps({"message": line}, ensure_ascii=False)) + "\n")
            sys.stdout.flush()
        else:
            console.print(plain(line), highlight=False, soft_wrap=True)

    ends = run_agents(options, on_message)
    for end in dict.fromkeys(ends):
        on_message(f"Ended: {end.value}.")
    code = min(_CODES[end] for end in ends)
    if code:
        raise typer.Exit(code)


def write_keys(folder: Path, *, output_format: str) -> None:
    """Make certificates, and say what to do with them."""
    check_format(output_format, SHORT_FORMATS)
    until = make_keys(folder)
    if output_format == "json":
        files = {"authority": AUTHORITY, "certificate": CERTIFICATE, "key": KEY}
        print_json({"folder": str(folder), "valid_until": until.isoformat(), "files": files})
        return
    Console().print(
        f"Wrote {AUTHORITY}, {CERTIFICATE} and {KEY} to {plain(folder)}; they hold until {until:%Y-%m-%d}.\n"
        f"Copy the folder to every machine, readable only by you: with {KEY} anyone can run programs on all of them.\n"
        f"Then: isp-nas search --cluster 0.0.0.0:8786 --tls {typed(folder)} …, and the line that it prints elsewhere.",
        highlight=False,
        soft_wrap=True,
    )
