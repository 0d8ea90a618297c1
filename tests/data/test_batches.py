"""Batches come in order, the same however they are cut, and no further ahead than was asked."""

import threading
import time
from typing import Any

import numpy as np
import pytest

from nas.data import batches
from nas.data.augment import sample_batch
from nas.data.batches import Batches, BatchSpec
from nas.data.pairs import PairSet
from nas.data.raw_format import RawFormat
from search_spaces.errors import UsageError

CUT = BatchSpec(batch=3, patch=16)


@pytest.fixture
def pairs() -> PairSet:
    rng = np.random.default_rng(0)
    raw, rgb = rng.integers(0, 1024, (7, 32, 32)).astype(np.uint16), rng.integers(0, 256, (7, 32, 32, 3))
    return PairSet(raw, rgb.astype(np.uint8), tuple("abcdefg"), RawFormat())


def taken(pairs: PairSet, *, first: int = 0, last: int = 12, **named: Any) -> list[tuple[int, Any]]:
    with Batches(pairs, CUT, seed=5, first=first, last=last, **named) as stream:
        return list(stream)


def assert_same(actual: list[tuple[int, Any]], wanted: list[tuple[int, Any]]) -> None:
    assert [step for step, _ in actual] == [step for step, _ in wanted]
    for (_, one), (_, other) in zip(actual, wanted, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (1, 5), (3, 1), (4, 8), (2, 100)])
def test_batches_come_in_order_and_do_not_depend_on_how_they_are_cut(pairs: PairSet, threads: int, ahead: int) -> None:
    wanted = [(step, sample_batch(pairs, seed=5, step=step, batch=3, patch=16)) for step in range(12)]
    assert_same(taken(pairs, threads=threads, ahead=ahead), wanted)


def test_a_resumed_training_sees_the_batches_that_it_would_have_seen(pairs: PairSet) -> None:
    assert_same(taken(pairs, first=7), taken(pairs)[7:])


def test_the_switches_of_a_recipe_reach_the_cut(pairs: PairSet) -> None:
    cut = BatchSpec(batch=3, patch=16, flip="none", rotate=False)
    with Batches(pairs, cut, seed=5, first=0, last=1) as stream:
        ((_, batch),) = stream
    wanted = sample_batch(pairs, seed=5, step=0, batch=3, patch=16, flip="none", rotate=False)
    np.testing.assert_array_equal(batch[1], wanted[1])
    assert not np.array_equal(batch[1], sample_batch(pairs, seed=5, step=0, batch=3, patch=16)[1])


def test_no_steps_are_no_batches(pairs: PairSet) -> None:
    assert taken(pairs, first=4, last=4) == []


def test_no_more_batches_are_cut_ahead_than_was_asked(pairs: PairSet, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[int] = []
    monkeypatch.setattr(batches, "sample_batch", lambda *_, step, **__: cut.append(step))
    with Batches(pairs, CUT, seed=0, first=0, last=50, threads=2, ahead=4) as stream:
        walk = iter(stream)
        for wanted in (0, 1, 2):
            assert next(walk)[0] == wanted
        time.sleep(0.05)
        assert len(cut) <= 3 + 4
    assert max(cut) <= 6


def test_waiting_is_measured_and_nothing_else(pairs: PairSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> None:
        time.sleep(0.02)

    monkeypatch.setattr(batches, "sample_batch", slow)
    with Batches(pairs, CUT, seed=0, first=0, last=5, threads=1, ahead=1) as starving:
        list(starving)
    assert starving.waited_s >= 5 * 0.019
    with Batches(pairs, CUT, seed=0, first=0, last=5, threads=1, ahead=2) as fed:
        for _ in fed:
            time.sleep(0.05)
    assert fed.waited_s < 0.1  # the first batch alone had to be waited for


def test_a_consumer_that_stops_early_leaves_no_thread_and_no_batch_behind(pairs: PairSet) -> None:
    def steps() -> None:
        with Batches(pairs, CUT, seed=0, first=0, last=10_000, threads=3) as stream:
            for step, _ in stream:
                if step == 2:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_what_goes_wrong_in_a_thread_is_told_to_the_consumer(pairs: PairSet) -> None:
    with Batches(pairs, BatchSpec(batch=2, patch=64), seed=0, first=0, last=3) as stream:  # noqa: SIM117
        with pytest.raises(UsageError, match="A patch is an even number"):
            next(iter(stream))


@pytest.mark.parametrize("named", [{"threads": 0}, {"ahead": 0}])
def test_at_least_one_thread_and_one_batch_ahead(pairs: PairSet, named: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="needs a thread and a batch"):
        Batches(pairs, CUT, seed=0, first=0, last=1, **named)


def test_small_batches_get_one_thread_and_large_ones_no_more_than_half_of_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches.os, "cpu_count", lambda: 16)
    assert BatchSpec(batch=4, patch=64).threads == 1
    assert BatchSpec(batch=16, patch=128).threads == 2
    assert BatchSpec(batch=100, patch=128).threads == batches.MOST_THREADS
    monkeypatch.setattr(batches.os, "cpu_count", lambda: 2)
    assert BatchSpec(batch=100, patch=128).threads == 1
