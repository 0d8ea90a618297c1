"""Options of an export, validated before any work: precisions, size, types, input, calibration, allowed loss."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from nas.data.encodings import INPUT_BITS, NORMALIZED
from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.precision import PRECISIONS, Precision, find_precision

if TYPE_CHECKING:
    from nas.data.raw_format import RawFormat
    from search_spaces.input_levels import InputLevels

FULL_HD_MOSAIC = (1088, 1920)
EIGHT_BIT = ("int8", "uint8")


class ExportSettings(TypedDict, total=False):
    """The keyword arguments of `nas.export` beside those that every export has."""

    dynamic: bool  # also files for any size
    input: str  # what the files read: normalized, raw10, raw12 or raw14
    io: str  # type of input and output of integer files
    calibration: int  # training pairs from which integer files take their ranges
    max_drop_db: Mapping[str, float]  # the most that a precision may lose
    qat: int | str | Path  # fine-tune for int8 for so many steps before, or the folder of such a run


@dataclass(frozen=True)
class ExportOptions:
    """How a network is to be exported."""

    precisions: tuple[str, ...] = ("fp32",)
    size: tuple[int, int] = FULL_HD_MOSAIC  # of the mosaic and the photograph: height, width
    io: str | None = None  # None: each precision's own
    input: str = NORMALIZED
    calibration: int = 100  # training pairs from which ranges are taken
    dynamic: bool = False
    max_drop_db: Mapping[str, float] = field(default_factory=dict)  # what differs from the precisions' own

    def validate(self) -> None:
        """Raise UsageError for what no export can be."""
        for name in (*self.precisions, *self.max_drop_db):
            find_precision(name)
        if self.input not in INPUT_BITS:
            raise UnknownNameError("input", self.input, INPUT_BITS)
        if self.calibration < 1:
            raise UsageError(f"Calibration needs at least one pair, got {self.calibration}; give --calibration 100.")
        self._require_io()
        self._require_counts_fit()

    def _require_io(self) -> None:
        offered = [name for p in self.wanted for name in p.io_types]
        if self.io is not None and self.io not in offered:
            names = " and ".join(self.precisions)
            raise UsageError(
                f'Input and output of {names} can be {", ".join(dict.fromkeys(offered))}, not "{self.io}"; change --io '
                "or --precision."
            )

    def _require_counts_fit(self) -> None:
        if self.input == NORMALIZED:
            return
        for precision in self.wanted:
            if self.io_of(precision) in EIGHT_BIT:
                raise UsageError(
                    f"Raw counts of {INPUT_BITS[self.input]} bits do not fit into the 8-bit input of {precision.name}; "
                    "add --io float32, or leave out --input."
                )

    @property
    def wanted(self) -> tuple[Precision, ...]:
        """The precisions, fp32 first and always there: the others are judged against it, and the challenge takes it."""
        return tuple(p for name, p in PRECISIONS.items() if name == "fp32" or name in self.precisions)

    @property
    def packed_shape(self) -> tuple[int, int, int, int]:
        """The shape that the file takes."""
        return packed_shape(self.size)

    def io_of(self, precision: Precision) -> str:
        """Return the type of a file's input and output."""
        return self.io if self.io in precision.io_types else precision.io_types[0]

    def allowed_drop_db(self, precision: Precision) -> float:
        """Return how much PSNR a precision may lose."""
        return self.max_drop_db.get(precision.name, precision.max_drop_db)

    def levels(self, raw: "RawFormat") -> "InputLevels":
        """Return which counts are 0 and 1, for data of that format.

        Counts of more bits than the data's are the same light in finer steps.
        """
        from search_spaces.input_levels import InputLevels

        bits = INPUT_BITS[self.input]
        if bits is None:
            return InputLevels()
        finer = 2.0 ** (bits - raw.bits)
        full_scale = raw.white_level == 2**raw.bits - 1
        return InputLevels(raw.black * finer, 2.0**bits - 1 if full_scale else raw.white_level * finer)


def parse_precisions(texts: Iterable[str]) -> tuple[str, ...]:
    """Read "fp16,int8" and repeated options; raise UnknownNameError for another precision."""
    names = [name for text in texts for name in text.replace(",", " ").split()]
    return tuple(dict.fromkeys(find_precision(name).name for name in names))


def parse_size(text: str) -> tuple[int, int]:
    """Read "1088x1920", height × width of the mosaic; raise UsageError for anything else."""
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and int(side) > 0 for side in sides):
        raise UsageError(f'A size is height x width of the mosaic, such as 1088x1920; got "{text}".')
    height, width = map(int, sides)
    return _require_mosaic(height, width)


def _require_mosaic(height: int, width: int) -> tuple[int, int]:
    """Return the size; raise UsageError where it is none of a Bayer mosaic."""
    if min(height, width) < 1 or height % 2 or width % 2:
        raise UsageError(f"A Bayer mosaic has an even height and width, got {height}×{width}; add or remove a row.")
    return height, width


def packed_shape(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the shape of packed RAW of a mosaic's even height and width."""
    height, width = size
    return (1, height // 2, width // 2, 4)


def parse_max_drop(texts: Iterable[str]) -> dict[str, float]:
    """Read "0.3" for every precision, or "int8=1,fp16=0.05"; raise UsageError for anything else."""
    drops: dict[str, float] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, _, number = part.rpartition("=")
        names = (find_precision(name).name,) if name else [name for name in PRECISIONS if name != "fp32"]
        drops |= dict.fromkeys(names, _decibels(number, part))
    return drops


def _decibels(number: str, part: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:
        raise UsageError(f'A drop is given in dB, such as 0.3 or int8=1; got "{part}".')
    return value


def input_shape(size: Sequence[int] | None, shape: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the shape of the input for a photograph of this height and width, or else the one that was given.

    None where neither was. Raises UsageError where both were, or where they are none.
    """
    if size is not None and shape is not None:
        raise UsageError("Give --size for a photograph or --input-shape for any file, not both.")
    if size is not None:
        if len(size) != len(FULL_HD_MOSAIC):
            raise UsageError(f"--size is the height and the width of the photograph, got {tuple(size)}.")
        return packed_shape(_require_mosaic(size[0], size[1]))
    if shape is not None and not all(side > 0 for side in shape):
        raise UsageError(f"--input-shape takes whole numbers above zero, got {tuple(shape)}.")
    return None if shape is None else tuple(shape)
