"""`isp-nas worker` and the commands under `isp-nas cluster`. Heavy imports stay inside the commands, as in `main`."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.option_groups import argument, option
from nas.cli.options import ShortForm, Tls
from search_spaces.errors import UsageError

app = typer.Typer(help="Searches on several machines.", no_args_is_help=True)


def worker(
    address: Annotated[str, typer.Argument(help="HOST:PORT of a search, as it prints it.")],
    tls: Tls = None,
    workers: Annotated[
        str, option("--workers", help="Candidates trained at once here; auto: one per GPU, or per CPU core.")
    ] = "auto",
    memory: Annotated[
        str | None, option("--memory", help="Memory that one training may take, such as 8GB.", default="the machine's")
    ] = None,
    pairs: Annotated[
        list[Path] | None, option("--pairs", help="Folder in which prepared pairs may lie; repeatable.")
    ] = None,
    wait: Annotated[str, option("--wait", help="How long to wait for a search that is not there.")] = "30m",
    output_format: ShortForm = "table",
) -> None:
    """Train candidates for a search that was started with --cluster, here or on another machine.

    It may be started before the search, joins and leaves at any time, and ends with the search.
    """
    from nas.cluster.address import parse_address
    from nas.cluster.agents import AgentOptions
    from nas.search.budget import parse_budget
    from nas.train.workers import parse_workers
    from nas.units import parse_bytes

    patience = parse_budget(wait).seconds
    if patience is None:
        raise UsageError(f'--wait takes a time such as "30m"; got "{wait}".')
    options = AgentOptions(
        parse_address(address),
        tls,
        parse_workers(workers),
        None if memory is None else parse_bytes(memory),
        tuple(pairs or ()),
        patience,
    )
    from nas.cli.worker import run_worker

    run_worker(options, output_format=output_format)


@app.command("keys")
def keys(
    folder: Annotated[Path, argument(metavar="DIR", help="A new folder for the certificates.")],
    output_format: ShortForm = "table",
) -> None:
    """Make the certificates by which a search and its workers on other machines know each other."""
    from nas.cli.worker import write_keys

    write_keys(folder, output_format=output_format)
