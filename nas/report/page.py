"""Write a report as one self-contained page: no request leaves it, and nothing in it that came from outside is obeyed.

Texts are escaped by Jinja2; the data lies in the page as JSON in which no character can end its element; a content
security policy forbids everything else. plotly.js is packed, which takes a third of its size, and unpacked by the
browser.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from nas import units
from nas.report.comparison import ComparisonPage
from nas.report.data import Front, StudyReport
from nas.search.budget import duration
from nas.templates import environment
from search_spaces.errors import UsageError
from search_spaces.system import stored
from search_spaces.system.atomic_write import write_durably
from search_spaces.system.file_errors import acting_on
from search_spaces.system.printable import json_printable, printable

TEMPLATES = Path(__file__).parent / "templates"
# What every page of ours begins with, by which a later one knows that it may take its place.
BEGINNING = "<!doctype html>\n<!-- isp-nas page -->"


def study_page(report: StudyReport) -> str:
    """Return the page of one study."""
    return page("report.html.j2", asdict(report), title=report.overview.name)


def comparison_page(comparison: ComparisonPage) -> str:
    """Return the page of a comparison."""
    return page("compare.html.j2", comparison.to_dict(), title=" and ".join(comparison.labels))


def front_page(name: str, candidates: Sequence[Mapping[str, Any]], front: Front) -> str:
    """Return a page with the front of a study alone."""
    data = {"overview": {"name": name}, "candidates": candidates, "front": asdict(front)}
    return page("front.html.j2", data, title=name)


def page(template: str, data: Mapping[str, Any], *, title: str) -> str:
    """Return a page made of a template; it sees `data` as `data`, and so does its script."""
    values = {
        "data": data,
        "title": printable(title),
        "json": embedded(data),
        "plotly": _packed_plotly(),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": metadata.version("isp-nas"),
    }
    return _environment().get_template(template).render(values)


def embedded(data: Mapping[str, Any]) -> Markup:
    """Return data as JSON that may stand in a page: no character in it can end an element or begin a comment."""
    text = json_printable(json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _packed_plotly() -> Markup:
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return Markup(base64.b64encode(packed).decode())


@cache
def _environment() -> Environment:
    made = environment(TEMPLATES)
    made.filters |= {
        "count": units.count,
        "figure": units.figure,
        "in_words": units.in_words,
        "duration": duration,
        "runtime": units.runtime,
        "db": lambda value: "—" if value is None else f"{value:.2f}",
        "fixed": lambda value, digits: "—" if value is None else f"{value:.{digits}f}",
        "decibels": units.decibels,
        "percent": lambda part, whole: f"{100 * part / whole:.0f} %" if whole else "—",
        "script": lambda name: Markup((TEMPLATES / name).read_text("utf-8")),
    }
    return made


def check_page(path: Path) -> None:
    """Raise UsageError where a page cannot be written there: no .html, no folder, or a file that is none of ours."""
    if path.suffix != ".html":
        raise UsageError(f"A page is written as .html; got {path.name}.")
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} does not exist; make it first, or name another file.")
    if path.exists() and not _is_ours(path):
        raise UsageError(f"{path} is no page of isp-nas and is left as it is; name another file.")


def _is_ours(path: Path) -> bool:
    with acting_on(path, "read", UsageError), stored.opened(path) as file:
        return file.read(len(BEGINNING)) == BEGINNING.encode()


def write_page(path: Path, text: str) -> None:
    """Write a page as a whole; raise UsageError where that cannot be."""
    check_page(path)
    try:
        write_durably(path, text.encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); name another file.") from None
