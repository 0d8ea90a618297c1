"""Process the rows of a picture on all cores, few enough at a time to limit memory.

NumPy works on one core and reads every operand from memory; the interpreter, beside which it must not take long, uses
all of them. Rows that stay in a core's cache while everything is done to them halve the time; a second core takes off
another third.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from search_spaces.system.machine import usable_cores

# Rows at a time: even, so that Bayer tiles stay whole. At Full HD 32 are too little work for a thread and 128 leave the
# cache: a float32 Smallnet took 1.20 times the interpreter with 64, 1.55 with 128; an int8 one 1.33, and 1.42 with 32.
ROWS = 64


def in_strips(height: int, work: Callable[[slice], None]) -> None:
    """Call `work` on all rows of a picture, ROWS at a time, in as many threads as there are cores.

    It must not depend on order, and NumPy must do what takes time in it: that lets go of the interpreter.
    """
    firsts = range(0, height, ROWS)
    count = max(1, min(usable_cores(), len(firsts)))

    def share(number: int) -> None:
        for first in firsts[number * len(firsts) // count : (number + 1) * len(firsts) // count]:
            work(slice(first, min(first + ROWS, height)))

    others = [_threads().submit(share, number) for number in range(1, count)]
    share(0)
    for other in others:
        other.result()  # raises what it raised


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_cores())
