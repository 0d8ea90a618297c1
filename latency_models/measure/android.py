"""Time networks on an Android phone: choose, order and repeat them, and check that the phone stayed the same.

    .tflite files, the user's benchmark_model → adb → a Timing or a Failure each

A reference network, the first that can be timed, is run again after every few others. Where its time drifted the phone
changed meanwhile, and what was timed in between is timed once more, then refused.
"""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from latency_models.measure.adb import NoAnswerError, PhoneLostError, choose_phone
from latency_models.measure.benchmark_setup import BenchmarkSetup
from latency_models.measure.elf import check_abi
from latency_models.measure.network_file import NetworkFile, read_networks
from latency_models.measure.phone_bench import Bench, Patience, open_bench
from latency_models.measure.phone_state import Sleep
from latency_models.measurements import Conditions, Failure, Timing
from search_spaces.errors import MeasurementError

Outcome = Timing | Failure
Report = Callable[[int, int, str], None]  # (networks done, networks in all, what is being done)

ATTEMPTS = 2  # at a block of networks during which the phone changed


def measure_on_phone(
    paths: Sequence[Path],
    setup: BenchmarkSetup,
    *,
    serial: str | None = None,
    known: Iterable[Timing] = (),
    patience: Patience | None = None,
    report: Report | None = None,
    sleep: Sleep = time.sleep,
) -> Generator[Outcome]:
    """Time .tflite files on a phone; return an iterator that measures as it is read.

    The first file that can be timed is the reference. Files of `known` timings under the same conditions are left
    out, so a run that was broken off goes on where it was. An outcome comes once it is sure to stay: after its
    block. Read the iterator inside `contextlib.closing`, so that the phone is tidied where reading is broken off.

    Raises MeasurementError where there is no phone that can be used, or none any more; UsageError for a setup that
    cannot be asked for.
    """
    setup.validate()
    networks = read_networks(paths)
    phone = choose_phone(serial)
    properties = phone.properties()
    check_abi(setup.binary, _abis(properties))
    conditions = phone_conditions(properties, setup)
    timed = {timing.model_sha256 for timing in known if _undated(timing.conditions) == _undated(conditions)}
    todo = [network for network in networks if network.sha256 not in timed]
    progress = _Progress(report, len(todo))
    patience = patience or Patience()

    def measure() -> Generator[Outcome]:
        if not todo:
            return
        with open_bench(
            phone, setup, conditions, patience=patience, on_message=progress.on_message, sleep=sleep
        ) as bench:
            try:
                yield from _measure(bench, networks, todo, progress)
            except (PhoneLostError, NoAnswerError) as error:
                raise MeasurementError(f"{error} What is measured is kept: the same command continues.") from error

    return measure()


def phone_conditions(properties: dict[str, str], setup: BenchmarkSetup) -> Conditions:
    """Return what decides a time on the phone that has these `properties`."""

    def first(*names: str) -> str:
        return next((properties[name] for name in names if properties.get(name)), "")

    maker, model = first("ro.product.manufacturer"), first("ro.product.model")
    named = model if model.lower().startswith(maker.lower()) else f"{maker} {model}"
    # ro.soc.* came with Android 12; what older ones tell is less exact.
    chip = f"{first('ro.soc.manufacturer')} {first('ro.soc.model')}" if first("ro.soc.model") else ""
    pinned = (f"taskset {setup.cores}",) if setup.cores else ()
    return Conditions(
        device=named.strip(),
        soc=chip.strip() or first("ro.board.platform", "ro.hardware"),
        os=f"Android {first('ro.build.version.release')} ({first('ro.build.id')})",
        runtime="benchmark_model",
        binary_sha256=sha256(setup.binary.read_bytes()).hexdigest(),
        delegate=setup.delegate,
        flags=" ".join((*pinned, *setup.flags())),
        precision=setup.computes_in,
        threads=setup.threads,
    )


def _abis(properties: dict[str, str]) -> tuple[str, ...]:
    listed = properties.get("ro.product.cpu.abilist") or properties.get("ro.product.cpu.abi", "")
    return tuple(abi for abi in listed.split(",") if abi)


def _undated(conditions: Conditions) -> Conditions:
    """Return what two times must share to be compared: the binary tells the version that its log tells only later."""
    return replace(conditions, date="", runtime_version="")


@dataclass
class _Progress:
    report: Report | None
    total: int
    done: int = 0

    def on_message(self, doing: str) -> None:
        if self.report is not None:
            self.report(self.done, self.total, doing)


def _measure(
    bench: Bench, networks: Sequence[NetworkFile], todo: Sequence[NetworkFile], progress: _Progress
) -> Generator[Outcome]:
    waiting = list(todo)
    for reference in networks:
        before = bench.time(reference)
        if reference in waiting:
            waiting.remove(reference)
            progress.done += 1
            yield before
        if isinstance(before, Timing):
            break
    else:
        return
    size = bench.patience.block
    for start in range(0, len(waiting), size):
        outcomes, before = _time_block(bench, reference, before, waiting[start : start + size], progress)
        yield from outcomes


def _time_block(
    bench: Bench, reference: NetworkFile, before: Timing, block: Sequence[NetworkFile], progress: _Progress
) -> tuple[Sequence[Outcome], Timing]:
    """Return the outcomes of a block, and the reference's time after it, with which the next block begins."""
    done = progress.done
    outcomes: dict[NetworkFile, Outcome] = {}
    reason = ""
    for _attempt in range(ATTEMPTS):
        progress.done = done
        for network in block:
            if not isinstance(outcomes.get(network), Failure):  # which would fail again
                outcomes[network] = bench.time(network)
            progress.done += 1
        if not _times(outcomes.values()):
            return list(outcomes.values()), before
        after = bench.time(reference)
        reason = _drift(before, after, bench.patience.drift)
        before = after if isinstance(after, Timing) else before
        if not reason:
            return list(outcomes.values()), before
    return [_refused(outcome, reason) for outcome in outcomes.values()], before


def _times(outcomes: Iterable[Outcome]) -> list[Timing]:
    return [outcome for outcome in outcomes if isinstance(outcome, Timing)]


def _drift(before: Timing, after: Outcome, tolerance: float) -> str:
    """Return why the phone was not the same before and after a block; empty where it was."""
    if isinstance(after, Failure):
        return f"the reference network {after.network} could not be timed again: {after.reason}"
    change = after.runtime_ms / before.runtime_ms - 1
    if abs(change) <= tolerance:
        return ""
    return (
        f"the reference network {after.network} took {before.runtime_ms:.4g} ms before and {after.runtime_ms:.4g} ms "
        f"after ({change:+.0%}), so the phone was not the same throughout; close what else runs on it and measure again"
    )


def _refused(outcome: Outcome, reason: str) -> Failure:
    if isinstance(outcome, Failure):
        return outcome
    return Failure(outcome.network, outcome.model, f"{reason[0].upper()}{reason[1:]}.")
