"""Draw report.html: every photograph with its patches by what became of them, the shift that remains, and some pairs.

One file without scripts. Names of files come from outside and are escaped; pictures are inside of it, but for the
targets of pairs, which it shows from where they lie.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jinja2 import Template
from PIL import Image

from nas.data.make.development import develop
from nas.data.make.patch_judging import REASONS, WORDS, Judgement
from nas.data.make.photograph_state import FinishedPhotograph
from nas.data.make.sources import Refused
from nas.templates import environment

REPORT_FILE = "report.html"
KEPT, LEFT_OUT = "kept", "of a photograph left out"
_SHADES = ("#2a9d3a", "#777", "#e8c100", "#d9534f", "#b5179e", "#8a2be2", "#e07000", "#0077b6", "#444", "#bbb")
COLOURS = dict(zip((KEPT, *REASONS, LEFT_OUT), _SHADES, strict=True))
SHOWN_PHOTOGRAPHS = 100  # a page of 12 MB where each is of 12 megapixels
SHOWN_PAIRS = 48
PAIR_SIDE = 128  # px
MOST_SHIFT_PX = 1.0  # at the end of the scale of colours
ARROW = 60.0  # times as long as the shift
T = TypeVar("T")


def report_page(
    facts: Mapping[str, str],
    photographs: Sequence[FinishedPhotograph],
    rows: Sequence[Mapping[str, str]],
    refused: Sequence[Refused] = (),
    notes: Sequence[str] = (),
    left_out: Mapping[str, str] | None = None,
) -> str:
    """Return the page; `left_out` are photographs of which no pair was made though patches are fit, with the reason."""
    known = {each.key: each for each in photographs}
    aligned = [each for each in photographs if each.record.refused is None]
    shown = _spread(aligned, SHOWN_PHOTOGRAPHS)
    words = {KEPT: KEPT, LEFT_OUT: LEFT_OUT, **WORDS}
    return _template().render(
        facts=list(facts.items()),
        notes=notes,
        refused=[(each.name, each.why) for each in refused],
        legend=[(colour, words[name]) for name, colour in COLOURS.items()],
        photographs=[
            {"number": number, **_photograph(each, (left_out or {}).get(each.record.name))}
            for number, each in enumerate(shown)
        ],
        more=len(aligned) - len(shown),
        boxes_caption="patches by what became of them",
        shifts_caption=(f"shift that remains, arrows {ARROW:g} times as long; green 0 px, red {MOST_SHIFT_PX:g} px"),
        pairs=[pair for row in _spread(rows, SHOWN_PAIRS) if (pair := _pair(row, known[row["key"]]))],
    )


@cache
def _template() -> Template:
    return environment(Path(__file__).parent / "templates").get_template("report.html.j2")


def _photograph(each: FinishedPhotograph, left_out: str | None) -> dict[str, Any]:
    record = each.record
    facts = f"{len(record.kept)} of {len(record.judgements)} patches {'kept' if left_out is None else 'fit'}"
    if record.agreeing is not None:
        facts += f"; {record.agreeing} features agree; turned by {record.degrees:.1f}°, scale {record.scale:.3f}"
    if record.target_bits is not None:
        facts += f"; target of {record.target_bits} bits, colours {record.target_colours}"
    side = _side(record.judgements)
    height, width = record.size
    return {
        "name": record.name,
        "facts": facts,
        "notes": record.notes if left_out is None else (f"left out: {left_out}", *record.notes),
        "width": width,
        "height": height,
        "jpeg": _shown(each),
        "side": side,
        "stroke": f"{side / 30:g}",
        "boxes": [_box(judgement, LEFT_OUT if left_out else KEPT) for judgement in record.judgements],
        "shifts": list(_shifts(record.judgements, side)),
    }


def _shown(each: FinishedPhotograph) -> str:
    """Return the small photograph in base64, nothing where its file is gone."""
    try:
        return b64encode(each.shown.read_bytes()).decode()
    except OSError:
        return ""


def _side(judgements: Sequence[Judgement]) -> int:
    """How large patches are to be drawn: as far apart as they begin in a row, which is their stride."""
    places = sorted((each.row, each.column) for each in judgements)
    steps = [right - left for (row, left), (other, right) in pairwise(places) if row == other]
    rows = sorted({row for row, _ in places})
    return min([*steps, *(b - a for a, b in pairwise(rows))], default=256)


def _box(judgement: Judgement, fit: str) -> dict[str, Any]:
    reason = judgement.reason or fit
    place = {"row": judgement.row, "column": judgement.column}
    return {**place, "reason": reason, "kept": judgement.reason is None, "colour": COLOURS[reason]}


def _shifts(judgements: Sequence[Judgement], side: int) -> Iterator[dict[str, Any]]:
    """Yield what is drawn of each patch whose match is known: a colour, and an arrow from its middle."""
    for each in judgements:
        if each.disagreement_px is None:
            continue
        down, right = each.shift or (0.0, 0.0)
        length = max(float(np.hypot(down, right)), each.disagreement_px)
        x, y = each.column + side / 2, each.row + side / 2
        yield {
            "row": each.row,
            "column": each.column,
            "hue": f"{120 - 120 * min(1.0, length / MOST_SHIFT_PX):.0f}",
            "length": f"{length:.2f}",
            "x1": f"{x:g}",
            "y1": f"{y:g}",
            "x2": f"{x + ARROW * right:g}",
            "y2": f"{y + ARROW * down:g}",
        }


def _spread(every: Sequence[T], most: int) -> list[T]:
    """Return some, spread over all of them."""
    count = min(most, len(every))
    return [every[number * len(every) // count] for number in range(count)]


def _pair(row: Mapping[str, str], source: FinishedPhotograph) -> dict[str, str] | None:
    """Return a pair as it is shown, None where its mosaic cannot be read."""
    at = int(row["row"]) - source.record.begins[0], int(row["column"]) - source.record.begins[1]
    try:
        with Image.open(source.patch(*at, "raw")) as image:
            grey = develop(np.asarray(image), source.record.black, source.record.white)
    except OSError:
        return None
    file = BytesIO()
    Image.fromarray(grey).resize((PAIR_SIDE, PAIR_SIDE)).save(file, "JPEG")
    return {
        "what": f"{row['raw']}, of {row['source']} at {row['row']}, {row['column']}: {row['why']}",
        "jpeg": b64encode(file.getvalue()).decode(),
        "target": row["rgb"],
    }
