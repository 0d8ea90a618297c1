"""Plots: the front of a study, patches for visual comparison, and agreement of short and long training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces.errors import UsageError

if TYPE_CHECKING:
    from nas.data.pairs import PairSet
    from nas.data.raw_format import RawFormat

PLOT_KINDS = (".png", ".svg", ".pdf", ".html")


@dataclass(frozen=True)
class PlotPoint:
    """One candidate in a picture of a front."""

    trial: int
    name: str | None
    psnr_db: float
    runtime_ms: float
    low_ms: float
    high_ms: float
    on_front: bool
    text: str
    half_width_db: float = 0.0  # of PSNR's interval; 0: not known


@dataclass(frozen=True)
class Panel:
    """One value of networks against another; both [networks, seeds]."""

    title: str
    across: str
    upwards: str
    names: Sequence[str]
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]


def check_plot(path: Path, kinds: Sequence[str] = PLOT_KINDS) -> None:
    """Raise UsageError unless `path` names a kind of picture that can be drawn, in a folder that exists."""
    if path.suffix not in kinds:
        raise UsageError(f"A plot is written as {', '.join(kinds)}; got {path.name}.")
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} does not exist; make it first, or name another file.")


def save_front(path: Path, dots: Sequence[PlotPoint], *, title: str, interval: str) -> None:
    """Draw quality against runtime: every candidate, the front as a line, published designs by name."""
    check_plot(path)
    (_save_page if path.suffix == ".html" else _save_picture)(path, dots, title, interval)


def _save_picture(path: Path, dots: Sequence[PlotPoint], title: str, interval: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    front = sorted((d for d in dots if d.on_front), key=lambda d: d.runtime_ms)
    others = [d for d in dots if not d.on_front]
    axes.scatter([d.runtime_ms for d in others], [d.psnr_db for d in others], color="0.7", s=18, label="dominated")
    axes.errorbar(
        [d.runtime_ms for d in front],
        [d.psnr_db for d in front],
        xerr=[[d.runtime_ms - d.low_ms for d in front], [d.high_ms - d.runtime_ms for d in front]],
        yerr=[d.half_width_db for d in front],
        color="tab:blue",
        ecolor="0.85",
        fmt="o-",
        markersize=6,
        zorder=3,
        label=f"Pareto front ({interval})",
    )
    named = [d for d in dots if d.name]
    axes.scatter(
        [d.runtime_ms for d in named],
        [d.psnr_db for d in named],
        marker="*",
        s=160,
        color="tab:red",
        zorder=4,
        label="published designs",
    )
    for dot in dots:
        if dot.name or dot.on_front:
            label = dot.name or str(dot.trial)
            axes.annotate(label, (dot.runtime_ms, dot.psnr_db), textcoords="offset points", xytext=(6, 6), zorder=5)
    axes.set(xlabel="predicted runtime, ms", ylabel="validation PSNR, dB", title=title)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3)  # inside the axes it would hide candidates
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _save_page(path: Path, dots: Sequence[PlotPoint], title: str, interval: str) -> None:
    from plotly import graph_objects as go

    figure = go.Figure(layout={"title": title, "xaxis": {"title": "predicted runtime, ms", "type": "log"}})
    figure.update_yaxes(title="validation PSNR, dB")
    front = sorted((d for d in dots if d.on_front), key=lambda d: d.runtime_ms)
    groups = [
        ("dominated", [d for d in dots if not d.on_front and not d.name], "markers", "#b0b0b0"),
        (f"Pareto front ({interval})", front, "lines+markers", "#1f77b4"),
        ("published designs", [d for d in dots if d.name], "markers+text", "#d62728"),
    ]
    for name, members, mode, colour in groups:
        figure.add_scatter(
            x=[d.runtime_ms for d in members],
            y=[d.psnr_db for d in members],
            error_y={"array": [d.half_width_db for d in members], "color": "#d0d0d0"},
            text=[d.name or "" for d in members],
            textposition="top center",
            hovertext=[d.text for d in members],
            hoverinfo="text",
            mode=mode,
            marker={"color": colour, "size": 9},
            name=name,
        )
    figure.write_html(path, include_plotlyjs=True)


def save_panels(path: Path, rows: Sequence[Sequence[Panel]], *, title: str) -> None:
    """Draw rows of panels: a dot at the mean of each network, lines from its least to its greatest seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    size = (len(rows), max(map(len, rows)))
    figure, grid = plt.subplots(*size, figsize=(4 * size[1], 3.6 * size[0]), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for line, panels in zip(grid, rows, strict=True):
        for axes, panel in zip(line, panels, strict=False):
            _draw_panel(axes, panel)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_panel(axes: Any, panel: Panel) -> None:
    axes.axis("on")
    x, y = panel.x.mean(1), panel.y.mean(1)
    reach = [np.stack([v.mean(1) - v.min(1), v.max(1) - v.mean(1)]) for v in (panel.x, panel.y)]
    axes.errorbar(x, y, xerr=reach[0], yerr=reach[1], fmt="o", markersize=4, color="tab:blue", ecolor="0.8")
    for name, *at in zip(panel.names, x, y, strict=True):
        axes.annotate(name, at, textcoords="offset points", xytext=(4, 4), fontsize=6)
    axes.set_title(panel.title, fontsize=9)
    axes.set(xlabel=panel.across, ylabel=panel.upwards)
    axes.grid(visible=True, alpha=0.3)


def save_patches(path: Path, pairs: "PairSet", index: np.ndarray[Any, Any], outputs: np.ndarray[Any, Any]) -> None:
    """Draw one row per patch: the mosaic, what the network makes of it with its PSNR, and the target."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(len(index), 3, figsize=(9, 3 * len(index)), layout="constrained", squeeze=False)
    for row, number in enumerate(index):
        target, output = pairs.rgb[number] / 255, np.clip(outputs[row], 0, 1)
        psnr = -10 * np.log10(max(float(np.mean((output - target) ** 2)), 1e-10))
        mosaic, note = visible_mosaic(pairs.raw[number], pairs.format)
        titles = (f"RAW mosaic {pairs.names[number]}{note}", f"output, {psnr:.2f} dB", "target")
        for axes, image, title in zip(grid[row], (mosaic, output, target), titles, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(title, fontsize=10)
            axes.axis("off")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def visible_mosaic(mosaic: np.ndarray[Any, Any], fmt: "RawFormat") -> tuple[np.ndarray[Any, Any], str]:
    """Return a linear mosaic brightened so that its brightest percent is white, with a square root for the eye."""
    linear = np.clip((mosaic.astype(np.float32) - fmt.black) / (fmt.white_level - fmt.black), 0, 1)
    white = max(float(np.percentile(linear, 99)), 1e-3)
    return np.sqrt(np.clip(linear / white, 0, 1)), f" (×{1 / white:.1f}, √)"
