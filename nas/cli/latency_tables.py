"""Commands of `isp-nas latency` that print tables: predict, devices, and the accuracy of a device."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

from latency_models import accuracy
from latency_models.device import BUILTIN, Device, device_names, load_device, summary
from latency_models.kernels import Network
from latency_models.predictor import Prediction
from latency_models.samples import HeldOut
from latency_models.support import NOT_CHECKED, UNCHECKED
from nas.cli.console import Console, plain
from nas.cli.tables import Column, check_format, print_json, print_rows
from nas.defaults import DEFAULT_DEVICE
from nas.export.options import input_shape as shape_of_input
from nas.export.options import parse_size
from nas.report.layers import runtime_fields
from nas.search.network_latency import chance_of_less, predict_latency
from nas.units import Row, count, runtime
from search_spaces.errors import IspNasError, UsageError


def predict(
    name: str,
    *,
    device_name: str | None,
    results: Path,
    study: str | None,
    allow_fallback: bool,
    shape: tuple[int, ...] | None = None,
    against: str | None = None,
    output_format: str,
) -> None:
    """Print how long a network takes on a device, kernel by kernel; `shape` is of its input, where that is open.

    With `against`, how probable it is that the network is faster than that one, too.
    """
    check_format(output_format)
    device = load_device(device_name or DEFAULT_DEVICE)
    ask = partial(
        predict_latency, device=device, results=results, study=study, allow_fallback=allow_fallback, shape=shape
    )
    answer, other = ask(name), ask(against) if against else None
    faster = None if other is None else chance_of_less(answer, other, device)
    seen, support, prediction, refused = answer.network, answer.support, answer.prediction, answer.refused
    rows = kernel_rows(seen, prediction)
    if output_format == "csv":
        print_rows(rows, KERNEL_COLUMNS, output_format=output_format, console=Console())
    elif output_format == "json":
        how = {
            "flags": list(prediction.flags),
            "support": support.status,
            "refused": list(refused),
            "partitions": support.partitions,
            "extrapolation": prediction.extrapolation,
        }
        if other is not None:
            how["against"] = {"network": against, **runtime_fields(other.prediction), "probability_faster": faster}
        print_json({"network": name, "device": device.name, **runtime_fields(prediction),
                    "assumed_interval": prediction.assumed_interval, "fixed_ms": prediction.fixed_ms, **how,
                    "kernels": rows})  # fmt: skip
    else:
        console = Console()
        _print_prediction(console, name, device, seen, prediction, rows, refused)
        if other is not None:
            other_text = f"{plain(Path(str(against)).name)} ({runtime(runtime_fields(other.prediction))} ms)"
            console.print(
                f"It is faster than {other_text} with a probability of {100 * (faster or 0.0):.0f} %.", highlight=False
            )


def parse_shape(size: str | None, input_shape: str | None) -> tuple[int, ...] | None:
    """Return the shape of the input that is asked for, by either option; raise UsageError where it is none."""
    sides = re.split(r"[x,×]", input_shape.replace(" ", "")) if input_shape else None
    if sides and not all(side.isascii() and side.isdigit() and int(side) for side in sides):
        raise UsageError(f'--input-shape must be whole numbers such as 1x224x224x3, got "{input_shape}".')
    return shape_of_input(parse_size(size) if size else None, [*map(int, sides)] if sides else None)


def kernel_rows(seen: Network, prediction: Prediction) -> list[dict[str, Any]]:
    """Return one row per kernel with its share of the whole."""
    return [
        {
            "kernel": kernel.name,
            "op": kernel.tflite_op,
            "output": [kernel.height, kernel.width, kernel.cout],
            "taps": kernel.kernel,
            "stride": kernel.stride,
            "macs": kernel.macs,
            "runtime_ms": ms,
            "share": ms / prediction.runtime_ms,
        }
        for kernel, ms in zip(seen.kernels, prediction.kernels_ms.values(), strict=True)
    ]


KERNEL_COLUMNS = (
    Column("kernel", lambda r: str(r["kernel"]), right=False, stretches=True),
    Column("op", lambda r: str(r["op"]), right=False),
    Column("output", lambda r: "×".join(map(str, r["output"]))),
    Column("taps", lambda r: str(r["taps"])),
    Column("MACs", lambda r: count(r["macs"])),
    Column("ms", lambda r: f"{r['runtime_ms']:.2f}"),
    Column("share", lambda r: f"{100 * r['share']:.0f} %"),
)


def _print_prediction(
    console: Console,
    name: str,
    device: Device,
    seen: Network,
    prediction: Prediction,
    rows: Sequence[Row],
    refused: Iterable[str],
) -> None:
    print_rows(rows, KERNEL_COLUMNS, output_format="table", console=console)
    kind = "assumed" if prediction.assumed_interval else "of held-out networks"
    text = runtime(runtime_fields(prediction))
    lines = [
        f"\n[bold]{plain(Path(name).name)}[/] on {plain(device.name)}: {text} ms, 80 % interval {kind}.",
        f"Start, input and output take {prediction.fixed_ms:.1f} ms of it; {len(seen.kernels)} kernels the rest.",
        *(f"[yellow]{plain(flag)}.[/]" for flag in prediction.flags),
        *_unchecked(device, seen),
        *(f"[yellow]On the CPU: {plain(each)}.[/]" for each in refused),
        accuracy_line(device),
    ]
    for line in lines:
        console.print(line, highlight=False)


def _unchecked(device: Device, seen: Network) -> list[str]:
    """Say so where nothing tells whether the device's delegate takes the network."""
    if device.support(seen).status != UNCHECKED:
        return []
    return [f"[yellow]Nothing is known of what the delegate of {plain(device.name)} takes: {NOT_CHECKED}.[/]"]


def accuracy_line(device: Device) -> str:
    """Return in one sentence the error of the device's predictions for families of networks left out of its fits."""
    figures = summary(device.predictor, device.held_out)
    beats = "" if _beats_guessing(figures) else "; guessing the median of the others is no worse"
    kinds = "family" if figures["families"] == 1 else "families"
    return (
        f"[dim]Leave-family-out error of {device.name}: {100 * figures['mape']:.1f} % "
        f"({figures['networks']} networks of {figures['families']} {kinds}, "
        f"{100 * figures['within_10_percent']:.0f} % of them within 10 %){beats}.[/]"
    )


def _beats_guessing(figures: dict[str, Any]) -> bool:
    guess = figures["median_of_the_others_mape"]
    return guess is None or figures["mape"] < guess


def show_devices(*, output_format: str, today: date | None = None) -> None:
    """Print every device that a search can be made for, with how good and how old its predictions are."""
    check_format(output_format)
    rows = [_device_row(name, path, today or datetime.now(UTC).date()) for name, path in sorted(device_names().items())]
    console = Console()
    print_rows(rows, DEVICE_COLUMNS, output_format=output_format, console=console)
    if output_format == "table":
        console.print(
            "[dim]error: leave-family-out; guessing: the error of the median of the other networks.[/]",
            highlight=False,
        )
        for row in rows:
            if row["problem"]:
                console.print(f"[red]{plain(row['name'])}: {plain(row['problem'])}[/]", highlight=False)


def _device_row(name: str, path: Path, today: date) -> dict[str, Any]:
    try:
        device = load_device(name)
    except IspNasError as error:  # one damaged file hides no other device
        return {"name": name, "title": "", "path": str(path), **dict.fromkeys(_FIGURES), "problem": str(error)}
    interval = device.predictor.interval
    return {
        "name": name,
        "title": device.title,
        "path": "built in" if path.parent == BUILTIN else str(path),
        "method": type(device.method).__name__.lower(),
        "measurements": len(device.measurements),
        "age_days": _age(device.conditions.date, today),
        "interval_low": exp(interval.low),
        "interval_high": exp(interval.high),
        "interval_kind": interval.kind,
        **summary(device.predictor, device.held_out),
        "problem": "",
    }


_FIGURES = ("method", "measurements", "age_days", "interval_low", "interval_high", "interval_kind", "networks",
            "families", "mape", "within_10_percent", "spearman", "coverage_80",
            "median_of_the_others_mape")  # fmt: skip


def _age(created: str, today: date) -> int | None:
    """Return the days since the last measurement, of a year alone since its end; None where nothing is told."""
    if re.fullmatch(r"\d{4}", created):
        return max(0, (today - date(int(created), 12, 31)).days)
    try:
        return (today - date.fromisoformat(created[:10])).days
    except ValueError:
        return None


def _or_dash(show: Callable[..., str], *names: str) -> Callable[[Row], str]:
    return lambda row: "—" if any(row[name] is None for name in names) else show(*(row[name] for name in names))


DEVICE_COLUMNS = (
    Column("device", lambda r: str(r["name"]), right=False, stretches=True),
    Column("timed", _or_dash(str, "measurements")),
    Column("held out", _or_dash(str, "networks")),
    Column("error", _or_dash(lambda v: f"{100 * v:.1f} %", "mape")),
    Column("in 10 %", _or_dash(lambda v: f"{100 * v:.0f} %", "within_10_percent")),
    Column("guessing", _or_dash(lambda v: f"{100 * v:.1f} %", "median_of_the_others_mape")),
    Column("interval", _or_dash(lambda a, b: f"{a:.2f}–{b:.2f}×", "interval_low", "interval_high")),
    Column("age", _or_dash(lambda v: f"{v} d", "age_days")),
)


def accuracy_rows(held_out: Sequence[HeldOut]) -> list[dict[str, Any]]:
    """Return how good held-out predictions were, over all, by family and by size."""
    groups: dict[str, list[HeldOut]] = {"all": list(held_out)}
    for held in held_out:
        groups.setdefault(f"family {held.family}", []).append(held)
    for held in sorted(held_out, key=lambda h: h.pixels):
        groups.setdefault(f"maps up to {held.pixels / 1e6:.2f} Mpx", []).append(held)
    return [_accuracy_row(name, group) for name, group in groups.items()]


def _accuracy_row(name: str, group: Sequence[HeldOut]) -> dict[str, Any]:
    predicted, measured = [h.predicted_ms for h in group], [h.measured_ms for h in group]
    ranked = len(set(predicted)) > 1 and len(set(measured)) > 1
    return {
        "networks": len(group),
        "group": name,
        "mape": accuracy.mape(predicted, measured),
        "within_10_percent": accuracy.within(predicted, measured),
        "spearman": accuracy.spearman(predicted, measured) if ranked else None,
        "worst": max(abs(p / m - 1) for p, m in zip(predicted, measured, strict=True)),
    }


OUTLIER_TIMES, LEAST_OUTLIER = 5.0, log(1.5)  # median distances from the middle, and never less than half as much


def outliers(held_out: Sequence[HeldOut]) -> list[HeldOut]:
    """Return the networks that are off by far more than the others: a wrong file, unit or run, or an odd network."""
    if not held_out:
        return []
    logs = [log(h.measured_ms / h.predicted_ms) for h in held_out]
    middle = median(logs)
    limit = max(LEAST_OUTLIER, OUTLIER_TIMES * median(abs(x - middle) for x in logs))
    return [held for held, x in zip(held_out, logs, strict=True) if abs(x - middle) > limit]


ACCURACY_COLUMNS = (
    Column("held out", lambda r: str(r["group"]), right=False, stretches=True),
    Column("networks", lambda r: str(r["networks"])),
    Column("mean error", lambda r: f"{100 * r['mape']:.1f} %"),
    Column("within 10 %", lambda r: f"{100 * r['within_10_percent']:.0f} %"),
    Column("worst", lambda r: f"{100 * r['worst']:.0f} %"),
    Column("Spearman", _or_dash(lambda v: f"{v:.3f}", "spearman")),
)
