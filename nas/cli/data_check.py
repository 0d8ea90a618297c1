"""The command `isp-nas data check`: read every pair and print what would spoil a training."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from nas.cli.console import Console, plain
from nas.cli.progress import progress_bar
from nas.cli.tables import SHORT_FORMATS, check_format, print_json
from nas.data.pairs import DataConfig

if TYPE_CHECKING:
    from nas.data.check.report import CheckReport


def show_check(report: "CheckReport", *, output_format: str) -> None:
    """Print what a check of pairs found."""
    check_format(output_format, SHORT_FORMATS)
    if output_format == "json":
        print_json(report.to_dict())
        return
    console = Console()
    splits = ", ".join(f"{number} {split}" for split, number in report.counts.items())
    size = "×".join(map(str, report.size)) if report.size else "unknown size"
    console.print(
        f"[bold]{plain(report.source)}[/]: {splits} pairs of {size}, {report.readable} readable", highlight=False
    )
    for line in _facts(report):
        console.print(line, highlight=False)
    for problem in report.problems:
        colour = "red" if problem.severity == "error" else "yellow"
        console.print(
            f"[{colour}]{problem.severity}[/] {plain(f'{problem.where}: {problem.what}; {problem.what_to_do}.')}",
            highlight=False,
        )
    console.print("[green]Fit for training.[/]" if report.ok else "[red]Not fit for training.[/]")


def _facts(report: "CheckReport") -> list[str]:
    raw = report.raw
    facts = [f"RAW: {', '.join(f'{name} {_short(value)}' for name, value in asdict(raw).items())}"]
    if report.rgb_range:
        facts.append(f"RGB: {report.rgb_range[0]} … {report.rgb_range[1]}")
    if report.shift:
        facts.append(f"shift of targets against mosaics: {report.shift} px, judged on {report.aligned_by} pairs")
    if report.pattern_scores:
        facts.append(f"Bayer pattern fit: {', '.join(f'{k} {v:.2f}' for k, v in report.pattern_scores.items())}")
    return facts


def _short(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}:{_short(v)}" for k, v in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def run_check(config: DataConfig, *, output_format: str) -> bool:
    """Read every pair, print what was found, and tell whether the set is fit for training."""
    check_format(output_format, SHORT_FORMATS)
    from nas.data.check.report import check

    with progress_bar("Reading pairs") as read:
        report = check(config, progress=read)
    show_check(report, output_format=output_format)
    return report.ok
