"""Interpret one run of `benchmark_model` on a phone: a time, or the reason why there is none.

A time counts only where the delegate that was asked for took every node. The tool does not see to that: it goes on
without flags that it does not know, and runs on the CPU what a delegate leaves.
"""

from latency_models.measure.adb import Reply
from latency_models.measure.benchmark_log import LogResult, parse_benchmark_log
from latency_models.measure.benchmark_setup import DELEGATES, BenchmarkSetup
from search_spaces.errors import MeasurementError

TIMED_OUT = 124  # the status of a run that we ended, as of the command `timeout`

_IGNORED_FLAGS = "Unconsumed cmdline flags:"
# Statuses of a shell that could not start a program, and what Android's shell and linker say then.
_NOT_STARTED = (126, 127)
_NO_PROGRAM = ("CANNOT LINK EXECUTABLE", "Exec format error", "not executable:")
_SIGNALLED = 128  # and above, by the number of the signal
_KILLED = 9


def check_program(reply: Reply, setup: BenchmarkSetup) -> None:
    """Raise MeasurementError where no network at all can be timed, because the program is not the right one."""
    name = setup.binary.name
    if reply.status in _NOT_STARTED or any(words in reply.text for words in _NO_PROGRAM):
        raise MeasurementError(
            f"The phone could not start {name}: {reply.last_line}. Give a build for Android and this phone's "
            "processor, such as android_aarch64_benchmark_model, with the libraries that it needs."
        )
    if _IGNORED_FLAGS in reply.text:
        flags = reply.text.partition(_IGNORED_FLAGS)[2].splitlines()[0].strip()
        raise MeasurementError(
            f'{name} does not know {flags} and would go on without; give a build made for delegate "{setup.delegate}" '
            "and the extra flags."
        )


def judge(reply: Reply, setup: BenchmarkSetup) -> LogResult:
    """Return the result in what the tool printed; raise MeasurementError where it is not the time asked for."""
    _check_end(reply)
    delegate = DELEGATES[setup.delegate]
    results = parse_benchmark_log(reply.text, allow_partial=setup.allow_partial or delegate.is_cpu)
    if reply.status:
        raise MeasurementError(f"benchmark_model ended with status {reply.status}: {reply.last_line}.")
    if len(results) != 1:
        raise MeasurementError(f"The log of benchmark_model holds {len(results)} results, not one.")
    (result,) = results
    if not delegate.is_cpu:
        _check_delegate(result, setup)
    return result


def _check_end(reply: Reply) -> None:
    """Raise MeasurementError for a run that did not come to its end by itself."""
    signal = reply.status - _SIGNALLED
    if reply.status == TIMED_OUT:
        raise MeasurementError(
            "benchmark_model did not come to an end and was stopped; the network is too slow for it."
        )
    if signal == _KILLED:
        raise MeasurementError("The phone ended benchmark_model (signal 9), most likely for want of memory.")
    if signal > 0:
        raise MeasurementError(f"benchmark_model crashed (signal {signal}) after: {reply.last_line}.")


def _check_delegate(result: LogResult, setup: BenchmarkSetup) -> None:
    """Raise MeasurementError unless the log names the delegate asked for: silence is the CPU's."""
    if result.delegate != setup.delegate:
        ran = result.delegate or "nothing"
        raise MeasurementError(
            f'Asked for delegate "{setup.delegate}", the log tells of {ran}; the time would be the CPU\'s.'
        )
