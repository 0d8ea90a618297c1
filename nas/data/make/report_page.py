"""Draw report.html: every photograph with its patches by what became of them, the shift that remains, and some pairs.

One file without scripts. Names of files come from outside and are escaped; pictures are inside of it, but for the
targets of pairs, which it shows from where they lie.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from io import BytesIO
from itertools import pairwise

import numpy as np
from PIL import Image

from nas.data.make.development import develop
from nas.data.make.patch_judging import REASONS, WORDS, Judgement
from nas.data.make.photograph_state import Finished
from nas.data.make.sources import Refused
from search_spaces.system.printable import printable

REPORT_FILE = "report.html"
KEPT = "kept"
_SHADES = ("#2a9d3a", "#777", "#e8c100", "#d9534f", "#b5179e", "#8a2be2", "#e07000", "#0077b6", "#444")
COLOURS = dict(zip((KEPT, *REASONS), _SHADES, strict=True))
SHOWN_PHOTOGRAPHS = 300
SHOWN_PAIRS = 48
PAIR_SIDE = 128  # px
MOST_SHIFT_PX = 1.0  # at the end of the scale of colours
ARROW = 60.0  # times as long as the shift
_STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;margin:2em;max-width:1100px}table{border-collapse:collapse}"
    "td,th{padding:.15em .8em .15em 0;text-align:left;vertical-align:top}"
    "figure{display:inline-block;margin:0 1em 1em 0}svg{max-width:520px;height:auto;background:#eee}"
    "i.k{display:inline-block;width:1em;height:1em;margin-right:.3em}.pair{display:inline-block;margin:0 .8em .8em 0}"
    ".pair img{width:128px;height:128px}.small{font-size:12px;color:#555}"
)


def report_page(
    facts: Mapping[str, str],
    photographs: Sequence[Finished],
    rows: Sequence[Mapping[str, str]],
    refused: Sequence[Refused] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return the page."""
    known = {each.key: each for each in photographs}
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Training pairs</title><style>{_STYLE}</style>",
        "<h1>Training pairs</h1>",
        _table(facts.items()),
        *(f"<p>{_text(note)}</p>" for note in notes),
        *_refusals(refused),
        f"<p>{_legend()}</p>",
        "<h2>Photographs</h2>",
        *(_photograph(each) for each in photographs[:SHOWN_PHOTOGRAPHS] if each.record.refused is None),
        *_more(len(photographs) - SHOWN_PHOTOGRAPHS),
        "<h2>Some pairs</h2><p>Left the mosaic, developed for looking at it; right the target.</p>",
        *(_pair(row, known[row["key"]]) for row in _sample(rows)),
    ]
    return "\n".join(parts)


def _text(text: object) -> str:
    return escape(printable(text))


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><th>{_text(k)}<td>{_text(v)}" for k, v in rows) + "</table>"


def _refusals(refused: Sequence[Refused]) -> Iterator[str]:
    if refused:
        yield f"<h2>{len(refused)} photographs gave no pairs</h2>"
        yield _table((each.name, each.why) for each in refused)


def _legend() -> str:
    words = {KEPT: KEPT, **WORDS}
    return " ".join(
        f'<span style="white-space:nowrap"><i class=k style="background:{colour}"></i>{_text(words[name])}</span>'
        for name, colour in COLOURS.items()
    )


def _more(count: int) -> Iterator[str]:
    if count > 0:
        yield f"<p>… {count} more are in pairs.csv and dropped.csv.</p>"


def _photograph(each: Finished) -> str:
    record = each.record
    kept = len(record.kept)
    facts = f"{kept} of {len(record.judgements)} patches kept"
    if record.agreeing is not None:
        facts += f"; {record.agreeing} features agree; turned by {record.degrees:.1f}°, scale {record.scale:.3f}"
    notes = "".join(f"<br>{_text(note)}" for note in record.notes)
    side = _side(record.judgements)
    return (
        f"<h3>{_text(record.name)}</h3><p class=small>{_text(facts)}{notes}</p>"
        f"<figure>{_svg(each, _boxes(record.judgements, side))}</figure>"
        f"<figure>{_svg(each, _shifts(record.judgements, side))}"
        f"<figcaption class=small>shift that remains, arrows {ARROW:g} times as long; green 0 px, "
        f"red {MOST_SHIFT_PX:g} px</figcaption></figure>"
    )


def _side(judgements: Sequence[Judgement]) -> int:
    """How large patches are to be drawn: as far apart as they begin, which is their stride."""
    columns = sorted({each.column for each in judgements})
    rows = sorted({each.row for each in judgements})
    steps = [b - a for line in (columns, rows) for a, b in pairwise(line)]
    return min(steps, default=256)


def _svg(each: Finished, drawn: str) -> str:
    height, width = each.record.size
    try:
        shown = b64encode(each.shown.read_bytes()).decode()
    except OSError:
        shown = ""
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<image href="data:image/jpeg;base64,{shown}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
        f"{drawn}</svg>"
    )


def _boxes(judgements: Sequence[Judgement], side: int) -> str:
    return "".join(
        f'<rect x="{each.column}" y="{each.row}" width="{side}" height="{side}" fill="{COLOURS[each.reason or KEPT]}" '
        f'fill-opacity="{0.15 if each.reason is None else 0.5}" stroke="{COLOURS[each.reason or KEPT]}" '
        f'stroke-width="{side / 30:g}"><title>{_text(each.reason or KEPT)}</title></rect>'
        for each in judgements
    )


def _shifts(judgements: Sequence[Judgement], side: int) -> str:
    drawn = []
    for each in judgements:
        if each.disagreement_px is None:
            continue
        down, right = each.shift or (0.0, 0.0)
        length = max(float(np.hypot(down, right)), each.disagreement_px)
        share = min(1.0, length / MOST_SHIFT_PX)
        middle = each.column + side / 2, each.row + side / 2
        drawn.append(
            f'<rect x="{each.column}" y="{each.row}" width="{side}" height="{side}" '
            f'fill="hsl({120 - 120 * share:.0f},80%,45%)" fill-opacity=".45"><title>{length:.2f} px</title></rect>'
            f'<line x1="{middle[0]:g}" y1="{middle[1]:g}" x2="{middle[0] + ARROW * right:g}" '
            f'y2="{middle[1] + ARROW * down:g}" stroke="#000" stroke-width="{side / 30:g}"/>'
        )
    return "".join(drawn)


def _sample(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return some of the pairs, spread over all of them."""
    step = max(1, len(rows) // SHOWN_PAIRS)
    return list(rows[::step])[:SHOWN_PAIRS]


def _pair(row: Mapping[str, str], source: Finished) -> str:
    at = int(row["row"]) - source.record.begins[0], int(row["column"]) - source.record.begins[1]
    try:
        with Image.open(source.patch(*at, "raw")) as image:
            grey = develop(np.asarray(image), source.record.black, source.record.white)
    except OSError:
        return ""
    file = BytesIO()
    Image.fromarray(grey).resize((PAIR_SIDE, PAIR_SIDE)).save(file, "JPEG")
    told = _text(f"{row['raw']}, of {row['source']} at {row['row']}, {row['column']}: {row['why']}")
    mosaic = f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
    images = f'<img alt="" src="{mosaic}"><img alt="" loading=lazy src="{_text(row["rgb"])}">'
    return f'<span class=pair title="{told}">{images}</span>'
