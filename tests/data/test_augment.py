from hashlib import sha256
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.data.augment import MOVES, Move, allowed_moves, phase_keeping_starts, sample_batch
from nas.data.demo.sensor import mosaic_of
from nas.data.pairs import PairSet
from nas.data.raw_format import PACKINGS, PATTERNS, RawFormat, unpack
from search_spaces.errors import UsageError


def sampled_pairs(fmt: RawFormat, *, count: int = 3, height: int = 20, width: int = 24) -> PairSet:
    """Mosaics that hold, at each pixel, the target's own value of the filter's colour; no value repeats in an image."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    raw = np.stack([mosaic_of(image, fmt) for image in rgb]).astype(np.uint16)
    return PairSet(raw, rgb, tuple(map(str, range(count))), fmt)


def numbered_pairs(count: int, fmt: RawFormat, *, side: int = 8) -> PairSet:
    """Pair k is all k."""
    raw = np.broadcast_to(np.arange(count, dtype=np.uint16)[:, None, None], (count, side, side)).copy()
    return PairSet(raw, np.repeat(raw[..., None], 3, axis=-1).astype(np.uint8), tuple(map(str, range(count))), fmt)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(PATTERNS),
    st.sampled_from(sorted(PACKINGS)),
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.sampled_from([2, 8, 14, 18, 20]),
)
def test_a_moved_crop_keeps_the_bayer_phase(pattern: str, packing: str, seed: int, step: int, patch: int) -> None:
    fmt = RawFormat(pattern=pattern, packing=packing)
    packed, rgb = sample_batch(sampled_pairs(fmt), seed=seed, step=step, batch=4, patch=patch)
    for mosaic, target in zip(unpack(packed, fmt), rgb, strict=True):
        np.testing.assert_array_equal(mosaic, mosaic_of(target, fmt))


def moves_seen(pairs: PairSet, patch: int, **switches: Any) -> set[Move]:
    """Recognise each crop among all moved windows of its pair."""
    windows = {}
    for index, move in product(range(len(pairs)), MOVES):
        for row, column in product(range(21 - patch), range(25 - patch)):
            window = move.apply(pairs.rgb[index, row : row + patch, column : column + patch])
            windows[window.tobytes()] = move
    batches = (sample_batch(pairs, seed=1, step=step, batch=16, patch=patch, **switches)[1] for step in range(12))
    return {windows[crop.tobytes()] for batch in batches for crop in batch}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_all_eight_moves_really_happen(pattern: str) -> None:
    assert moves_seen(sampled_pairs(RawFormat(pattern=pattern)), patch=16) == set(MOVES)


SWITCHES = {
    ("none", False): 1,
    ("horizontal", False): 2,
    ("both", False): 4,
    ("none", True): 4,
    ("horizontal", True): 8,
}


@pytest.mark.parametrize(("flip", "rotate"), SWITCHES)
def test_switches_choose_the_moves_that_happen(flip: str, rotate: bool) -> None:
    moves = allowed_moves(flip, rotate)
    assert len(moves) == SWITCHES[flip, rotate]
    assert moves_seen(sampled_pairs(RawFormat()), 16, flip=flip, rotate=rotate) == set(moves)


def test_each_switch_means_its_picture() -> None:
    image = np.arange(9).reshape(3, 3)
    made = {
        choice: {move.apply(image).tobytes() for move in allowed_moves(*choice)}
        for choice in [*SWITCHES, ("both", True)]
    }
    assert made["horizontal", False] == {image.tobytes(), np.fliplr(image).tobytes()}
    assert made["both", False] == made["horizontal", False] | {np.flipud(image).tobytes(), np.rot90(image, 2).tobytes()}
    assert made["none", True] == {np.rot90(image, turns).tobytes() for turns in range(4)}
    assert made["horizontal", True] == made["both", True]
    assert allowed_moves("both", True) == MOVES


def test_without_room_for_the_shift_a_flip_is_left_out() -> None:
    pairs = sampled_pairs(RawFormat())  # 20 high, 24 wide
    assert moves_seen(pairs, patch=20) == {move for move in MOVES if not move.flip_rows}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_move_has_exactly_one_phase_keeping_start(pattern: str) -> None:
    assert set(phase_keeping_starts(RawFormat(pattern=pattern))) == set(MOVES)


def test_a_flip_starts_at_an_odd_row_and_transposing_green_first_at_an_odd_corner() -> None:
    flip, transpose = Move(True, False, False), Move(False, False, True)
    assert phase_keeping_starts(RawFormat())[flip] == (1, 0)
    assert phase_keeping_starts(RawFormat())[transpose] == (0, 0)
    assert phase_keeping_starts(RawFormat(pattern="GRBG"))[transpose] == (1, 1)


def test_batches_are_those_that_trainings_were_begun_with() -> None:
    # A training that was stopped before an update of isp-nas must go on with the batches it would have seen.
    pairs = sampled_pairs(RawFormat(pattern="GRBG"), count=5)
    digest = sha256()
    for step in range(20):
        for array in sample_batch(pairs, seed=3, step=step, batch=4, patch=16):
            digest.update(array.tobytes())
    assert digest.hexdigest()[:16] == "a19353512fe4c544"


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    pairs = sampled_pairs(RawFormat())
    first = sample_batch(pairs, seed=3, step=7, batch=5, patch=8)
    sample_batch(pairs, seed=3, step=8, batch=5, patch=8)
    for before, after in zip(first, sample_batch(pairs, seed=3, step=7, batch=5, patch=8), strict=True):
        np.testing.assert_array_equal(before, after)
    for seed, step in ((4, 7), (3, 8)):
        assert not np.array_equal(first[1], sample_batch(pairs, seed=seed, step=step, batch=5, patch=8)[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 7), st.integers(0, 99))
def test_every_pair_comes_once_before_any_comes_again(count: int, batch: int, seed: int) -> None:
    pairs = numbered_pairs(count, RawFormat())
    steps = -(-3 * count // batch)
    seen = np.concatenate(
        [sample_batch(pairs, seed=seed, step=step, batch=batch, patch=4)[1][:, 0, 0, 0] for step in range(steps)]
    )
    for epoch in range(3):
        assert sorted(seen[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_are_shuffled_differently() -> None:
    pairs = numbered_pairs(20, RawFormat())
    first, second = (sample_batch(pairs, seed=0, step=step, batch=20, patch=4)[1][:, 0, 0, 0] for step in (0, 1))
    assert list(first) != list(second)


def test_batches_have_the_promised_shapes_and_types() -> None:
    packed, rgb = sample_batch(sampled_pairs(RawFormat()), seed=0, step=0, batch=2, patch=6)
    assert (packed.shape, packed.dtype) == ((2, 3, 3, 4), np.uint16)
    assert (rgb.shape, rgb.dtype) == ((2, 6, 6, 3), np.uint8)


@pytest.mark.parametrize("patch", [0, 7, 22])
def test_a_patch_that_does_not_fit_is_refused(patch: int) -> None:
    with pytest.raises(UsageError, match=rf"even number from 2 to 20 \(pairs are 20×24\), got {patch}"):
        sample_batch(sampled_pairs(RawFormat()), seed=0, step=0, batch=1, patch=patch)
