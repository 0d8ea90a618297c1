"""Plots: the front of a study, patches for visual comparison, and agreement of short and long training."""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces.errors import UsageError
from search_spaces.system import stored
from search_spaces.system.atomic_write import write_durably
from search_spaces.system.file_errors import acting_on
from search_spaces.system.printable import printable

if TYPE_CHECKING:
    from nas.data.pairs import PairSet
    from nas.data.raw_format import RawFormat

DPI = 130
PICTURE_KINDS = (".png", ".svg", ".pdf")
PLOT_KINDS = (*PICTURE_KINDS, ".html")  # the last is a page of nas.report
_MAKER = "isp-nas"
_MARKS = {".png": {"Software": _MAKER}, ".svg": {"Creator": _MAKER}, ".pdf": {"Creator": _MAKER}}  # where it stands


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


def check_plot(path: Path, kinds: Sequence[str] = PLOT_KINDS, *, made: Path | None = None) -> None:
    """Raise UsageError unless `path` names a kind of picture that can be drawn, in a folder that exists or is `made`.

    A picture that is there is drawn again if it is one of ours, and no other file is replaced.
    """
    if path.suffix not in kinds:
        raise UsageError(f"A plot is written as {', '.join(kinds)}; got {path.name}.")
    if path.parent != made and not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} does not exist; make it first, or name another file.")
    if path.suffix in PICTURE_KINDS and path.exists() and not _is_ours(path):
        raise UsageError(f"{path} is no picture of isp-nas and is left as it is; name another file.")


def _is_ours(path: Path) -> bool:
    with acting_on(path, "read", UsageError):
        return _MAKER.encode() in stored.read_bytes(path)


@contextmanager
def _boxes_for_lacking_letters() -> Iterator[None]:
    """Draw a box for a letter that the font lacks, without a warning on the terminal."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


@_boxes_for_lacking_letters()
def save_front(path: Path, dots: Sequence[PlotPoint], *, title: str, interval: str) -> None:
    """Draw quality against runtime: every candidate, the front as a line, published designs by name.

    Where points lie so close that their names would cover each other, they are drawn again in an inset.
    """
    check_plot(path, PICTURE_KINDS)
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(8, 5.5), dpi=DPI, layout="constrained")
    _draw_front(axes, dots, f"Pareto front ({printable(interval)})")
    axes.set(xlabel="predicted runtime, ms", ylabel="validation PSNR, dB")
    axes.set_title("\n".join(wrap(printable(title), 90)[:3]), fontsize=11)
    axes.set_xscale("log")
    _round_ticks(axes)
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3)  # inside the axes it would hide candidates
    _settle(figure)
    named = [d for d in dots if d.name or d.on_front]
    crowd = _crowd(axes, named)
    inset = _inset(axes, dots, crowd) if crowd else None
    place_labels(axes, [d for d in named if d not in crowd], dots, keep_off=inset)
    _save(path, figure, dpi=DPI)


def _settle(figure: Any) -> None:
    """Give everything its place, for good: labels are put where the rest leaves room."""
    figure.canvas.draw()
    figure.set_layout_engine("none")


def _draw_front(axes: Any, dots: Sequence[PlotPoint], label: str) -> None:
    front = sorted((d for d in dots if d.on_front), key=lambda d: d.runtime_ms)
    others = [d for d in dots if not d.on_front and not d.name]
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
        label=label,
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


def _round_ticks(axes: Any) -> None:
    """Write round milliseconds below a logarithmic axis, so many that they do not touch."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_xlim()
    subs: list[float] = [1, 2, 5] if high / low > 30 else [1, 1.5, 2, 3, 5, 7]
    if high / low < 3:
        subs = [*range(1, 10)] if high / low > 2 else [digit / 2 for digit in range(2, 20)]
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


# A name takes about this share of the axes; points nearer than that cannot all be named where they are.
NAME_SHARE = (0.09, 0.035)
FEWEST_CROWDED, MOST_CROWD_SHARE = 3, 0.35
_CORNERS = {
    "top": (0.03, 0.55, 0.4, 0.42),
    "right": (0.57, 0.06, 0.4, 0.42),
    "left": (0.06, 0.06, 0.4, 0.42),
    "end": (0.57, 0.55, 0.4, 0.42),
}
_HEADROOM = (0.2, 0.53, 0.6, 0.43)


def _places(axes: Any, dots: Sequence[PlotPoint]) -> np.ndarray[Any, Any]:
    """Return where points lie in axes, from 0 to 1."""
    data = np.array([(d.runtime_ms, d.psnr_db) for d in dots]).reshape(-1, 2)
    places: np.ndarray[Any, Any] = axes.transAxes.inverted().transform(axes.transData.transform(data))
    return places


def _crowd(axes: Any, named: Sequence[PlotPoint]) -> list[PlotPoint]:
    """Return the largest group of points to be named that lie too close together; nothing where there is none."""
    if len(named) < FEWEST_CROWDED:
        return []
    from scipy.cluster.hierarchy import fclusterdata

    places = _places(axes, named)
    groups = fclusterdata(places / NAME_SHARE, 1.0, criterion="distance", method="single")
    largest = np.flatnonzero(groups == np.bincount(groups).argmax())
    spread = np.ptp(places[largest], axis=0).max()
    if len(largest) < FEWEST_CROWDED or spread > MOST_CROWD_SHARE:
        return []
    return [named[int(i)] for i in largest]


def _inset(axes: Any, dots: Sequence[PlotPoint], crowd: Sequence[PlotPoint]) -> Any:
    """Draw the crowd again, larger, where nothing else is."""
    left, bottom, *_ = corner = _free_corner(axes, dots)
    inset = axes.inset_axes(corner)
    if left < 0.5:  # its numbers would lie upon those of the axis
        inset.yaxis.tick_right()
    if bottom < 0.5:
        inset.xaxis.tick_top()
    x, y = np.array([(d.runtime_ms, d.psnr_db) for d in crowd]).T
    margin_x, margin_y = max(np.ptp(x), 0.01 * x.max()) * 0.35, max(np.ptp(y), 0.02) * 0.35
    inset.set(xlim=(x.min() - margin_x, x.max() + margin_x), ylim=(y.min() - margin_y, y.max() + margin_y))
    within = [d for d in dots if x.min() <= d.runtime_ms <= x.max() and y.min() <= d.psnr_db <= y.max()]
    limits = inset.get_xlim(), inset.get_ylim()
    _draw_front(inset, [replace(d, low_ms=d.runtime_ms, high_ms=d.runtime_ms, half_width_db=0.0) for d in within], "")
    inset.set(xlim=limits[0], ylim=limits[1])
    inset.tick_params(labelsize=7)
    inset.grid(visible=True, alpha=0.3)
    axes.indicate_inset_zoom(inset, edgecolor="0.4")
    axes.figure.canvas.draw()
    place_labels(inset, crowd, within)
    return inset


def _free_corner(axes: Any, dots: Sequence[PlotPoint]) -> tuple[float, float, float, float]:
    """Return a corner of the axes without points; where there is none, make room above them."""
    places = _places(axes, dots)
    for left, bottom, width, height in _CORNERS.values():
        inside = (places >= (left - 0.02, bottom - 0.02)) & (places <= (left + width + 0.02, bottom + height + 0.02))
        if not inside.all(1).any():
            return left, bottom, width, height
    low, high = axes.get_ylim()
    axes.set_ylim(low, low + (high - low) / (_HEADROOM[1] - 0.06))
    return _HEADROOM


ROOM_AROUND = 1.08  # of a name, for which a place is looked for


def place_labels(
    axes: Any, labelled: Sequence[PlotPoint], dots: Sequence[PlotPoint], *, keep_off: Any = None, size: int = 9
) -> None:
    """Write names beside their points so that none covers another or a point; one without a place is left out."""
    import textalloc

    if not labelled:
        return
    front = sorted((d for d in dots if d.on_front), key=lambda d: d.runtime_ms)
    lines = [([d.runtime_ms for d in front], [d.psnr_db for d in front])] if len(front) > 1 else []
    lines += _outline(axes, keep_off) if keep_off is not None else []
    _, _, texts, _ = textalloc.allocate(
        axes,
        [d.runtime_ms for d in labelled],
        [d.psnr_db for d in labelled],
        [_shortened(d.name or str(d.trial)) for d in labelled],
        x_scatter=[d.runtime_ms for d in dots],
        y_scatter=[d.psnr_db for d in dots],
        x_lines=[x for x, _ in lines] or None,
        y_lines=[y for _, y in lines] or None,
        textsize=size * ROOM_AROUND,
        linecolor="0.5",
        linewidth=0.6,
        draw_all=False,
        min_distance=0.015,
        max_distance=0.2,
        avoid_label_lines_overlap=True,
        avoid_crossing_label_lines=True,
        zorder=6,
    )
    for text in filter(None, texts):  # None: one without a place
        text.set_fontsize(size)  # what was measured is as large as the renderer's rounding may make it


def _outline(axes: Any, inset: Any) -> list[tuple[list[float], list[float]]]:
    """Return lines in the data of `axes` that cover an inset, so that no label is put upon it."""
    box = inset.get_tightbbox().transformed(axes.transAxes.inverted())
    rows = np.linspace(box.y0, box.y1, 12)
    ends = [axes.transData.inverted().transform(axes.transAxes.transform([(box.x0, y), (box.x1, y)])) for y in rows]
    return [([float(a[0]), float(b[0])], [float(a[1]), float(b[1])]) for a, b in ends]


_LONGEST_NAME = 28


def _shortened(name: str) -> str:
    text = printable(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def _pyplot() -> Any:
    """Return pyplot, which draws into files and takes names as they are: `$x$` in one is no formula."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["text.parse_math"] = False
    from matplotlib import pyplot as plt

    return plt


def _save(path: Path, figure: Any, *, dpi: int) -> None:
    """Write a figure and close it, replacing a picture as a whole, or not at all: the old one survives a full disk."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix("."), dpi=dpi, metadata=_MARKS[path.suffix])
    _pyplot().close(figure)
    write_durably(path, content.getvalue())


@_boxes_for_lacking_letters()
def save_panels(path: Path, rows: Sequence[Sequence[Panel]], *, title: str) -> None:
    """Draw rows of panels: a dot at the mean of each network, lines from its least to its greatest seed."""
    plt = _pyplot()
    size = (len(rows), max(map(len, rows)))
    figure, grid = plt.subplots(
        *size, figsize=(4 * size[1], 3.6 * size[0]), dpi=DPI, layout="constrained", squeeze=False
    )
    for axes in grid.flat:
        axes.axis("off")
    drawn = [each for line, panels in zip(grid, rows, strict=True) for each in zip(line, panels, strict=False)]
    for axes, panel in drawn:
        _draw_panel(axes, panel)
    figure.suptitle(printable(title))
    _settle(figure)
    for axes, panel in drawn:
        means = zip(panel.names, panel.x.mean(1), panel.y.mean(1), strict=True)
        points = [PlotPoint(i, name, float(y), float(x), 0.0, 0.0, False) for i, (name, x, y) in enumerate(means)]
        place_labels(axes, points, points, size=6)
    _save(path, figure, dpi=DPI)


def _draw_panel(axes: Any, panel: Panel) -> None:
    axes.axis("on")
    x, y = panel.x.mean(1), panel.y.mean(1)
    reach = [np.stack([v.mean(1) - v.min(1), v.max(1) - v.mean(1)]) for v in (panel.x, panel.y)]
    axes.errorbar(x, y, xerr=reach[0], yerr=reach[1], fmt="o", markersize=4, color="tab:blue", ecolor="0.8")
    axes.set_title(printable(panel.title), fontsize=9)
    axes.set(xlabel=panel.across, ylabel=panel.upwards)
    axes.grid(visible=True, alpha=0.3)


@_boxes_for_lacking_letters()
def save_patches(path: Path, pairs: "PairSet", index: np.ndarray[Any, Any], outputs: np.ndarray[Any, Any]) -> None:
    """Draw one row per patch: the mosaic, what the network makes of it with its PSNR, and the target."""
    plt = _pyplot()
    figure, grid = plt.subplots(len(index), 3, figsize=(9, 3 * len(index)), layout="constrained", squeeze=False)
    for row, number in enumerate(index):
        target, output = pairs.rgb[number] / 255, np.clip(outputs[row], 0, 1)
        psnr = -10 * np.log10(max(float(np.mean((output - target) ** 2)), 1e-10))
        mosaic, note = visible_mosaic(pairs.raw[number], pairs.format)
        titles = (f"RAW mosaic {printable(pairs.names[number])}{note}", f"output, {psnr:.2f} dB", "target")
        for axes, image, title in zip(grid[row], (mosaic, output, target), titles, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(title, fontsize=10)
            axes.axis("off")
    _save(path, figure, dpi=100)


def visible_mosaic(mosaic: np.ndarray[Any, Any], fmt: "RawFormat") -> tuple[np.ndarray[Any, Any], str]:
    """Return a linear mosaic brightened so that its brightest percent is white, with a square root for the eye."""
    linear = np.clip((mosaic.astype(np.float32) - fmt.black) / (fmt.white_level - fmt.black), 0, 1)
    white = max(float(np.percentile(linear, 99)), 1e-3)
    return np.sqrt(np.clip(linear / white, 0, 1)), f" (×{1 / white:.1f}, √)"
