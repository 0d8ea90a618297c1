"""Choose the crops, flips and transpositions that make up the batch of training step N.

Mosaic and target are moved together, so the target never shifts against its mosaic, and crops start where the
moved mosaic has the sensor's own Bayer pattern again. A flipped RGGB crop of even size starts at an odd row:

    rows       R G R G R G          crop rows 1–4 and flip:   row 4  R G …
    0 … 5      B g B g B g                                    row 3  B g …

Permuting packed channels instead would leave the target half a tile off, which blurs what a network learns.
A batch is a pure function of (seed, step): a resumed run sees the batches it would have seen.
Source: Liu et al., "Learning Raw Image Denoising with Bayer Pattern Unification and Bayer Preserving
Augmentation", CVPRW 2019, section 3.2, here with transposition for all four patterns.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Int, Shaped, UInt8, UInt16

from nas.data.flips import FLIPS
from nas.data.pairs import PairSet
from nas.data.raw_format import RawFormat, pack_into
from search_spaces.errors import UsageError

# Streams of random numbers; not 0, because NumPy seeds [s, n] and [s, n, 0] alike.
ORDER_STREAM, STEP_STREAM = 1, 2


@dataclass(frozen=True)
class Move:
    """One of the eight symmetries of the square: flip rows, flip columns, then transpose."""

    flip_rows: bool
    flip_columns: bool
    transpose: bool

    def apply(self, image: Shaped[np.ndarray, "p p *c"]) -> Shaped[np.ndarray, "p p *c"]:
        """Move an image; a view."""
        moved = image[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return moved.swapaxes(0, 1) if self.transpose else moved


STARTS = ((0, 0), (0, 1), (1, 0), (1, 1))
MOVES = tuple(Move(*choice) for choice in product((False, True), repeat=3))


@lru_cache
def phase_keeping_starts(fmt: RawFormat) -> dict[Move, tuple[int, int]]:
    """For each move, the parity (row, column) at which a crop must start to keep the pattern.

    Found by trying all four on the colour filter array itself; exactly one fits.
    """
    tile = np.array(fmt.tile())
    colours = np.tile(tile, (2, 2))
    return {
        move: start
        for move in MOVES
        for start in STARTS
        if np.array_equal(move.apply(colours[start[0] : start[0] + 2, start[1] : start[1] + 2]), tile)
    }


@lru_cache
def allowed_moves(flip: str, rotate: bool) -> tuple[Move, ...]:
    """Return the moves that are one of the flips after one of the rotations, in the order of `MOVES`.

    A flip along rows is one along columns turned by 180°, so any flip with rotations makes all eight.
    """
    if not rotate:
        return tuple(
            move for move in MOVES if not move.transpose and (move.flip_rows, move.flip_columns) in FLIPS[flip]
        )
    return MOVES if flip != "none" else tuple(move for move in MOVES if _is_rotation(move))


def _is_rotation(move: Move) -> bool:
    return (move.flip_rows + move.flip_columns + move.transpose) % 2 == 0


def sample_batch(
    pairs: PairSet, *, seed: int, step: int, batch: int, patch: int, flip: str = "both", rotate: bool = True
) -> tuple[UInt16[np.ndarray, "{batch} {patch}/2 {patch}/2 4"], UInt8[np.ndarray, "{batch} {patch} {patch} 3"]]:
    """Cut the training batch of one step: packed mosaics and their targets.

    Every pair comes once per epoch before any comes again. `flip` and `rotate` choose the moves, as in a recipe; one
    that needs room of one pixel is left out where the patch is as large as the pair. Raises `UsageError` for a patch
    that is odd or larger than the pairs.
    """
    _check_patch(pairs, patch)
    room = (pairs.raw.shape[1] - patch, pairs.raw.shape[2] - patch)
    starts, offsets = phase_keeping_starts(pairs.format), pairs.format.offsets()
    moves = [(move, starts[move]) for move in allowed_moves(flip, rotate) if _fits(starts[move], room)]
    rng = np.random.default_rng([seed, step, STEP_STREAM])
    mosaics, targets = np.asarray(pairs.raw), np.asarray(pairs.rgb)  # a slice of a mapped array takes longer to make
    raw = np.empty((batch, patch // 2, patch // 2, 4), np.uint16)
    rgb = np.empty((batch, patch, patch, 3), np.uint8)
    for place, index in enumerate(_pairs_of_step(len(pairs), seed=seed, step=step, batch=batch)):
        move, start = moves[rng.integers(len(moves))]
        rows, columns = (_crop(rng, first, space, patch) for first, space in zip(start, room, strict=True))
        pack_into(raw[place], move.apply(mosaics[index, rows, columns]), offsets)
        _copy_by_channel(rgb[place], move.apply(targets[index, rows, columns]))
    return raw, rgb


def _copy_by_channel(out: UInt8[np.ndarray, "p p 3"], moved: UInt8[np.ndarray, "p p 3"]) -> None:
    """Copy a moved crop; three long strided copies take a sixth of the time of one copy of three bytes per pixel."""
    for channel in range(3):
        out[..., channel] = moved[..., channel]


def _check_patch(pairs: PairSet, patch: int) -> None:
    height, width = pairs.raw.shape[1:]
    if patch < 2 or patch % 2 or patch > min(height, width):
        raise UsageError(
            f"A patch is an even number from 2 to {min(height, width)} (pairs are {height}×{width}), got {patch}; "
            "give another --patch."
        )


def _fits(start: tuple[int, int], room: tuple[int, int]) -> bool:
    return start[0] <= room[0] and start[1] <= room[1]


def _crop(rng: np.random.Generator, first: int, room: int, patch: int) -> slice:
    start = first + 2 * int(rng.integers((room - first) // 2 + 1))
    return slice(start, start + patch)


def _pairs_of_step(count: int, *, seed: int, step: int, batch: int) -> list[int]:
    """The pairs number step·batch … of the endless walk through one shuffled epoch after another."""
    walk = range(step * batch, (step + 1) * batch)
    return [int(_epoch_order(count, seed, at // count)[at % count]) for at in walk]


@lru_cache(maxsize=4)
def _epoch_order(count: int, seed: int, epoch: int) -> Int[np.ndarray, " count"]:
    return np.random.default_rng([seed, epoch, ORDER_STREAM]).permutation(count)
