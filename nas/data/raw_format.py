"""Format of a mosaic on disk: bits, levels, Bayer pattern, and order of the packed channels.

A Bayer mosaic `[H, W]` repeats a 2×2 tile. Networks here read it *packed*, `[H/2, W/2, 4]`: one channel per
place of the tile. Which channel holds which place is a convention, and conventions differ:

- `"challenge"`: blue, the green in red's row, red, the green in blue's row, the order of the Mobile AI 2021
  challenge. **A trap:** the challenge's own `load_dataset.py` calls these "B, Gb, R, Gr": it writes "Gb" for the
  green *beside red*, which everybody else (DNG, LibRaw, Android) calls "Gr". The places are what counts: for RGGB
  they are (1, 1), (0, 1), (0, 0), (1, 0).
- `"rggb"`: red, the green in red's row, the green in blue's row, blue.

Channels mean colours, not places: a BGGR mosaic packs into the same order of colours as an RGGB one.
Source: MediaTek-NeuroPilot/mai21-learned-smartphone-isp, `load_dataset.py`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from search_spaces.errors import UnknownNameError, UsageError

# The tile read row by row.
PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")

# Names of the places in channel order; "g_red" is the green that shares a row with red.
PACKINGS = {
    "challenge": ("blue", "g_red", "red", "g_blue"),
    "rggb": ("red", "g_red", "g_blue", "blue"),
}

Offset = tuple[int, int]


@dataclass(frozen=True)
class RawFormat:
    """What the numbers of a mosaic mean; recorded with every study."""

    bits: int = 10
    black: int = 0
    white: int | None = None  # None: 2**bits − 1
    pattern: str = "RGGB"
    packing: str = "challenge"

    @property
    def white_level(self) -> int:
        """The value of a saturated pixel."""
        return 2**self.bits - 1 if self.white is None else self.white

    def validate(self) -> None:
        """Raise `UsageError` for a format that no mosaic can have."""
        if self.pattern not in PATTERNS:
            raise UnknownNameError("Bayer pattern", self.pattern, PATTERNS)
        if self.packing not in PACKINGS:
            raise UnknownNameError("packing", self.packing, PACKINGS)
        if not 8 < self.bits <= 16:
            raise UsageError(f"Raw values have 9 to 16 bits, got {self.bits}; give the sensor's bit depth.")
        if not 0 <= self.black < self.white_level < 2**self.bits:
            raise UsageError(
                f"Levels satisfy 0 ≤ black < white ≤ {2**self.bits - 1} at {self.bits} bits, got black {self.black} "
                f"and white {self.white_level}; give both levels as the sensor writes them."
            )

    def offsets(self) -> tuple[Offset, ...]:
        """The (row, column) in the 2×2 tile of each of the four packed channels, in channel order."""
        red, blue = (divmod(self.pattern.index(letter), 2) for letter in "RB")
        places = {
            "red": red,
            "g_red": (red[0], 1 - red[1]),
            "g_blue": (blue[0], 1 - blue[1]),
            "blue": blue,
        }
        return tuple(places[name] for name in PACKINGS[self.packing])

    def tile(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The 2×2 tile as indices into (R, G, B)."""
        a, b, c, d = ("RGB".index(letter) for letter in self.pattern)
        return (a, b), (c, d)


def pack(mosaic: Shaped[np.ndarray, "*n h w"], fmt: RawFormat) -> Shaped[np.ndarray, "*n h/2 w/2 4"]:
    """Gather the four places of each 2×2 tile into channels; the data type is kept."""
    height, width = mosaic.shape[-2:]
    if height % 2 or width % 2:
        raise UsageError(f"A mosaic of {height}×{width} has an odd side; crop it to whole 2×2 tiles.")
    return np.stack([mosaic[..., row::2, column::2] for row, column in fmt.offsets()], axis=-1)


def pack_into(
    packed: Shaped[np.ndarray, "h/2 w/2 4"], mosaic: Shaped[np.ndarray, "h w"], offsets: tuple[Offset, ...]
) -> None:
    """Pack one mosaic of even height and width into an array that is there already, by `RawFormat.offsets`."""
    for channel, (row, column) in enumerate(offsets):
        packed[..., channel] = mosaic[row::2, column::2]


def unpack(packed: Shaped[np.ndarray, "*n h w 4"], fmt: RawFormat) -> Shaped[np.ndarray, "*n 2*h 2*w"]:
    """Lay the four channels back into their places; the inverse of `pack`."""
    *leading, height, width, _ = packed.shape
    mosaic = np.empty((*leading, 2 * height, 2 * width), packed.dtype)
    for channel, (row, column) in enumerate(fmt.offsets()):
        mosaic[..., row::2, column::2] = packed[..., channel]
    return mosaic
