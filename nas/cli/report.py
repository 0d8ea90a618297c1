"""The commands that write pages: `isp-nas report` and `isp-nas compare`."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nas.cli.console import Console, plain
from nas.cli.tables import SHORT_FORMATS, Column, check_format, print_json, print_rows
from nas.report import comparison
from nas.report.comparison import ComparisonPage
from nas.report.page import check_page, comparison_page, study_page, write_page
from nas.report.study_report import ReportOptions, study_report
from nas.search.network_ref import the_study
from nas.units import figure, in_words
from search_spaces.errors import UsageError


def write_report(results: Path, name: str | None, options: ReportOptions, *, out: Path, output_format: str) -> None:
    """Write the page of a study, and say where it lies."""
    check_format(output_format, SHORT_FORMATS)
    check_page(out)
    _check_photos(options.photos)
    study, notes = the_study(results, name), Console(stderr=True)
    report = study_report(study, options, on_message=lambda text: notes.print(text, highlight=False))
    write_page(out, study_page(report))
    if output_format == "json":
        print_json(asdict(report))
    _saved(notes, out)


def write_comparison(
    texts: Sequence[str], results: Path, name: str | None, *, photos: int, out: Path, output_format: str
) -> None:
    """Print where studies or networks differ, and write the page that shows it."""
    check_format(output_format, SHORT_FORMATS)
    check_page(out)
    _check_photos(photos)
    notes = Console(stderr=True)
    networks = comparison.find(texts, results, name)
    page = comparison.compare(networks, photos=photos, on_message=lambda text: notes.print(text, highlight=False))
    if output_format == "json":
        print_json(page.to_dict())
    else:
        _print(page)
    write_page(out, comparison_page(page))
    _saved(notes, out)


def _check_photos(count: int) -> None:
    if not 0 <= count <= MOST_PHOTOS:
        raise UsageError(f"A page shows 0 to {MOST_PHOTOS} pairs, got --photos {count}.")


MOST_PHOTOS = 12


def _saved(notes: Console, out: Path) -> None:
    size = out.stat().st_size / 1e6
    notes.print(f"Saved {plain(out)} ({size:.1f} MB); open it in a browser.", highlight=False, soft_wrap=True)


def _print(page: ComparisonPage) -> None:
    console = Console()
    for label, sentence in zip(page.labels, page.sentences, strict=True):
        console.print(f"[bold]{plain(label)}[/]: {plain(sentence)}", highlight=False)
    rows = [row for row in page.differences if row["differs"]]
    alike = len(page.differences) - len(rows)
    columns = (
        Column("", lambda r: plain(r["part"]), right=False),
        Column("", lambda r: plain(in_words(r["name"])), right=False),
        *(_column(label, place) for place, label in enumerate(_heads(page.labels))),
    )
    console.print()
    print_rows(
        rows,
        columns,
        output_format="table",
        console=console,
        title=f"They differ in {len(rows)} values of {len(rows) + alike}",
    )


def _heads(labels: Sequence[str]) -> list[str]:
    """Return labels without the study or folder that all begin with: what tells them apart stands at their ends."""
    shared = os.path.commonprefix(labels)  # noqa: RUF071 (of texts, not of paths)
    common = max(shared.rfind(sign) for sign in ":/") + 1
    return [label[common:] or label for label in labels]


def _column(label: str, place: int) -> Column:
    return Column(plain(label), lambda r: plain(figure(r["name"], r["values"][place])), right=False, wraps=True)
