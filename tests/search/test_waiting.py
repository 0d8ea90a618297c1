"""What waits for a worker, and the clock of a search, which stands still while nobody is there."""

from types import SimpleNamespace
from typing import Any

import pytest

from nas.search.policy import Work
from nas.search.waiting import HeldWork, SearchClock


def work(trial: int) -> Work:
    return Work(SimpleNamespace(trial=trial), 0)  # type: ignore[arg-type]


def worker(memory_bytes: int | None) -> Any:
    return SimpleNamespace(memory_bytes=memory_bytes)


@pytest.mark.parametrize("begun", [0.0, 100.0])
def test_the_clock_stands_still_while_nobody_is_there(begun: float) -> None:
    now = SimpleNamespace(s=begun)
    clock = SearchClock(7.0, lambda: now.s)
    assert clock.stand(still=True)
    now.s = begun + 300
    assert not clock.stand(still=True)
    assert clock.elapsed_s == 7.0
    assert not clock.stand(still=False)
    now.s = begun + 305
    assert clock.elapsed_s == 12.0
    assert clock.stand(still=True)


def test_what_is_too_large_for_one_worker_goes_to_a_larger_one() -> None:
    held = HeldWork([work(1), work(2)])
    held.needs(1, 50)
    small, large = worker(40), worker(60)
    assert held.is_too_large(work(1), [small])
    assert not held.is_too_large(work(1), [small, large])
    assert not held.is_too_large(work(1), [])  # nobody is there: who comes may be large
    taken = held.take_for(small)
    assert taken is not None
    assert taken.candidate.trial == 2
    assert held.take_for(small) is None
    assert held.take_for(worker(None)) is not None
