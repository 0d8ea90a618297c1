"""Jinja2 as our pages use it: texts from outside are escaped, and what is no visible character shows as its number."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from search_spaces.system.printable import printable


def environment(folder: Path) -> Environment:
    """Return what renders the templates of a folder; an unknown name in one is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
