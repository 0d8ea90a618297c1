"""Fit a predictor to measurements, and find out by measurements left out how good it is.

Which steps are taken depends on how much there is:

    many kernels (≥ 250)        roofline, layout chosen by cross-validation, learned residual
    fewer, but enough rows      roofline alone
    16 whole networks or more   eight coefficients, many of the roofline's tied to one another
    5 or more, a known device   that device's predictor, one factor per class held near a common one, with the eight

and where whole networks are among the measurements, a calibration of start, scale and launch on them. Held-out accuracy
is by family: all networks of one family are left out together, because siblings of a network tell its time.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import product
from math import log, pi, sqrt
from statistics import fmean

from latency_models.families import Kinship, distinct
from latency_models.few_networks import FEWEST_TIED, NO_INTERVAL, TIED_NOISE, SourceDevices, blended, tied
from latency_models.kernels import COMPUTING_CLASSES, MOVING_CLASSES, Network
from latency_models.measured_range import is_map, range_of
from latency_models.predictor import ASSUMED_GROWTH, Calibration, Core, Interval, Predictor
from latency_models.residual import FEWEST_KERNELS, fit_residual
from latency_models.roofline import Layout, MeasuredRow, kernel_amounts, time_ms, total_amounts
from latency_models.samples import HeldOut, Sample, rounded
from search_spaces.errors import MeasurementError

# Fewer networks than this tell no calibration of their own.
FEWEST_NETWORKS = 8
FOLDS = 8
# How firmly start, scale and launch are held at 0, 1 and 0, and how firmly coefficients at zero: only against chance.
CALIBRATION_SHRINKAGE, ZERO_SHRINKAGE = 0.03, 1e-8
FEWEST_TO_TRANSFER = 5
# So many whole networks per coefficient before a roofline of its own is better than eight coefficients: 40 networks on
# phones' CPUs and GPUs were foreseen to 4.4 and 5.8 % by the eight, and to 7.0 % by a roofline.
PER_NETWORK = 4
LANES, INPUT_LANES, CACHES_MB = (1, 4, 8, 16, 32), (1, 4), (2.0, 8.0, 16.0, 32.0)
# A cache is told apart only where that makes held-out errors clearly smaller. Chosen by the smallest error alone, ten
# networks on phones' GPUs got caches that were none, and unseen families were foreseen to 7.8 instead of 6.4 %.
WORTH_A_CACHE = 0.9
# Large kernels decide a network's time, small ones its launch: between weighing milliseconds and weighing percent.
KERNEL_WEIGHT = 0.5
# What an interval tells, and from how many networks on their own quantiles do.
QUANTILES, FEWEST_QUANTILES = (0.10, 0.90, 0.05, 0.95), 20


def fit_measured(samples: Sequence[Sample], *, io_bytes: int, map_bytes: int) -> tuple[Predictor, tuple[HeldOut, ...]]:
    """Return a predictor of these measurements alone, and the held-out networks from which its interval is.

    Raises MeasurementError where there are too few for that, saying how many are missing.
    """
    start = _start_layout(samples, io_bytes, map_bytes)
    if len(samples) >= FEWEST_TIED and all(s.whole for s in samples) and not is_enough(samples, start):
        return fit_tied(samples, io_bytes=io_bytes, map_bytes=map_bytes)
    check_enough(samples, start)
    layout = choose_layout(samples, start)

    def fitted(some: Sequence[Sample]) -> Predictor:
        return _fit(some, layout)

    held_out = leave_families_out(samples, fitted)
    return with_interval(fitted(samples), held_out), held_out


def fit_transfer(samples: Sequence[Sample], sources: Sequence[Predictor]) -> tuple[Predictor, tuple[HeldOut, ...]]:
    """Return a predictor that starts from other devices', and the networks as fits without their families foresaw them.

    Raises MeasurementError where there are fewer networks than that needs.
    """
    if len(samples) < FEWEST_TO_TRANSFER:
        raise MeasurementError(
            f"Adapting another device's predictor needs {FEWEST_TO_TRANSFER} measured networks, got {len(samples)}: "
            f"{FEWEST_TO_TRANSFER - len(samples)} are missing."
        )
    sources_alone = SourceDevices([replace(source, kinship=None) for source in sources])  # the whole has it

    def fitted(some: Sequence[Sample]) -> Predictor:
        return blended(some, sources_alone, logs_left_out)

    held_out = leave_families_out(samples, fitted, has_prior=True)
    predictor = with_interval(fitted(samples), held_out)
    return replace(predictor, kinship=_kinship(samples, sources, held_out)), held_out


def _kinship(samples: Sequence[Sample], sources: Sequence[Predictor], held: Sequence[HeldOut]) -> Kinship:
    """Return which networks target or sources know, and the interval of others.

    That of networks left out that no source knows either, where there are enough; else the mean of the sources' own,
    which are of families left out.
    """
    known = [source.kinship for source in sources if source.kinship is not None]
    networks = {sample.label: sample.network for sample in samples}
    new = [h for h in held if not any(each.knows(networks[h.label]) for each in known)]
    if len(new) >= FEWEST_TO_TRANSFER or not known:
        low, high = _interval_of(new or held)[:2]
    else:
        low, high = (fmean(getattr(source.interval, side) for source in sources) for side in ("low", "high"))
    families = dict.fromkeys([*distinct(networks.values()), *(runs for each in known for runs in each.families)])
    return Kinship(tuple(families), rounded(low), rounded(high))


def logs_left_out(samples: Sequence[Sample], fitted: Callable[[Sequence[Sample]], Predictor]) -> list[float]:
    """Return log(measured / predicted) of networks as fits without their families foresaw them."""
    return [log(h.measured_ms / h.predicted_ms) for h in leave_families_out(samples, fitted, has_prior=True)]


def fit_tied(samples: Sequence[Sample], *, io_bytes: int, map_bytes: int) -> tuple[Predictor, tuple[HeldOut, ...]]:
    """Return a predictor of eight coefficients for whole networks that are too few for a roofline's."""

    def fitted(some: Sequence[Sample]) -> Predictor:
        return tied(some, io_bytes=io_bytes, map_bytes=map_bytes)

    held_out = leave_families_out(samples, fitted, has_prior=True)
    return with_kin(with_interval(fitted(samples), held_out), [s.network for s in samples]), held_out


def with_kin(predictor: Predictor, networks: Sequence[Network]) -> Predictor:
    """Return a predictor of whole networks with what it knows; its interval is that of families left out anyway."""
    return replace(predictor, kinship=Kinship(distinct(networks), 0.0, 0.0))


def _start_layout(samples: Sequence[Sample], io_bytes: int, map_bytes: int) -> Layout:
    return Layout(16, map_bytes, io_bytes, 1, None, True, _measured_moves(samples), _measured_groups(samples))


def is_roofline(samples: Sequence[Sample], map_bytes: int) -> bool:
    """Whether the measurements are enough for a roofline of their own."""
    return is_enough(samples, _start_layout(samples, 4, map_bytes))


def left_out(samples: Sequence[Sample], held: Sequence[HeldOut]) -> dict[str, str]:
    """Return the networks that no fit without their family could foresee, each with the reason."""
    seen = {h.label for h in held}
    judged = [s for s in samples if s.is_network] or list(samples)
    reasons = {}
    for sample in judged:
        if sample.label in seen:
            continue
        others = {kernel.cls for s in samples if s.family != sample.family for kernel in s.network.kernels}
        alone = sorted({kernel.cls for kernel in sample.network.kernels} - others)
        reasons[sample.label] = (
            f"kernels of class {', '.join(alone)} were measured in its family {sample.family} alone"
            if alone
            else "a class of its kernels was measured only in families that were left out with it"
        )
    return reasons


def is_enough(samples: Sequence[Sample], layout: Layout) -> bool:
    """Whether there are twice as many measurements as a roofline has coefficients; whole networks tell less each."""
    each = PER_NETWORK if all(sample.is_network for sample in samples) else 2
    return len(samples) >= each * len(_coefficients(samples, layout))


def check_enough(samples: Sequence[Sample], layout: Layout) -> None:
    """Raise MeasurementError where there are not twice as many measurements as coefficients."""
    if not is_enough(samples, layout):
        count = len(_coefficients(samples, layout))
        raise MeasurementError(
            f"A roofline of {count} coefficients needs {2 * count} measurements, got {len(samples)}: "
            f"{2 * count - len(samples)} are missing. Measure more, time {FEWEST_TIED} whole networks or more for a "
            "fit of few coefficients, or start from a known device with --prior."
        )


def _coefficients(samples: Sequence[Sample], layout: Layout) -> set[str]:
    return {name for sample in samples for name in _amounts(sample, layout)}


def choose_layout(samples: Sequence[Sample], start: Layout) -> Layout:
    """Return `start` with the lanes and the cache under which a plain roofline foresees held-out measurements best."""

    @cache
    def error(layout: Layout) -> float:
        held_out = leave_families_out(samples, lambda some: Predictor(_roofline(some, layout), NO_INTERVAL))
        return sum(abs(log(h.predicted_ms / h.measured_ms)) for h in held_out) / len(held_out)

    lanes = min((start._replace(lane=a, input_lane=b) for a, b in product(LANES, INPUT_LANES)), key=error)
    cached = min((lanes._replace(cache_mb=cache) for cache in CACHES_MB), key=error)
    return cached if error(cached) < WORTH_A_CACHE * error(lanes) else lanes


def _measured_moves(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the operations that move data and were measured often enough to have a cost of their own.

    On maps: what was timed on a few values alone, as the root of an instance norm's variance, tells no cost per MB.
    """
    counts: dict[str, int] = {}
    for sample in samples:
        for op in {k.tflite_op for k in sample.network.kernels if k.cls not in COMPUTING_CLASSES and is_map(k)}:
            counts[op] = counts.get(op, 0) + 1
    return tuple(sorted(op for op, count in counts.items() if count >= 3))


def _measured_groups(samples: Sequence[Sample]) -> bool:
    """Whether convolutions in groups were measured often enough to have a cost of their own."""
    return sum(any(k.groups > 1 for k in sample.network.kernels) for sample in samples) >= 3


def _fit(samples: Sequence[Sample], layout: Layout) -> Predictor:
    core = _roofline(samples, layout)
    singles = [s for s in samples if len(s.network.kernels) == 1]
    if len(singles) >= FEWEST_KERNELS:
        core = _with_residual(core, singles)
    networks = [s for s in samples if s.is_network]
    profiled = any(not s.whole for s in samples)
    calibration = _calibrate(core, networks, profiled=profiled) if len(networks) >= FEWEST_NETWORKS else Calibration()
    return Predictor(core, NO_INTERVAL, calibration, range_of([s.network for s in samples]))


def _roofline(samples: Sequence[Sample], layout: Layout) -> Core:
    parts = [s for s in samples if not s.whole] or samples
    layout = layout._replace(
        own_ops=_measured_moves(samples), grouped=_measured_groups(samples)
    )  # of these, not of all: some may be held out
    untold = _untold_by_maps(samples, layout)
    amounts = [{name: x for name, x in _amounts(s, layout).items() if name not in untold} for s in parts]
    coefficients = fit_free([MeasuredRow(a, s.runtime_ms) for a, s in zip(amounts, parts, strict=True)])
    overheads = dict.fromkeys(("fixed_ms", "io_ms_per_mb", "kernel_ms"), 0.0)  # profiled kernels have neither
    return Core(layout, overheads | coefficients | _class_averages(coefficients, layout))


def _untold_by_maps(samples: Sequence[Sample], layout: Layout) -> set[str]:
    """Return the costs of traffic by class of which no map tells, but a few values at most.

    They get their class's average: by a few values that take a microsecond, maps would be a thousand times too dear.
    """
    kernels = (kernel for sample in samples for kernel in sample.network.kernels)
    of_maps = {kernel.cls for kernel in kernels if kernel.tflite_op not in layout.own_ops and is_map(kernel)}
    return {f"{cls}_ms_per_mb" for cls in MOVING_CLASSES if cls not in of_maps}


@lru_cache(maxsize=4096)  # every fold of a layout asks for nearly all samples
def _amounts(sample: Sample, layout: Layout) -> dict[str, float]:
    if sample.whole:
        return total_amounts(sample.network, layout)
    return kernel_amounts(sample.network.kernels[0], layout)


def _class_averages(coefficients: dict[str, float], layout: Layout) -> dict[str, float]:
    """Return what an operation costs that was never measured: as much as the median of those that were."""
    own = sorted(
        coefficients[f"{op.lower()}_ms_per_mb"] for op in layout.own_ops if f"{op.lower()}_ms_per_mb" in coefficients
    )
    if not own:
        return {}
    return {f"{cls}_ms_per_mb": own[len(own) // 2] for cls in MOVING_CLASSES if f"{cls}_ms_per_mb" not in coefficients}


def fit_free(rows: Sequence[MeasuredRow]) -> dict[str, float]:
    """Return coefficients ≥ 0 that minimise Σ_rows ((t̂ − t) / t)²; six significant digits are kept."""
    import numpy as np
    from scipy.optimize import nnls

    names = sorted({name for row in rows for name in row.amounts})
    shares = np.array([[row.amounts.get(name, 0.0) / row.runtime_ms for name in names] for row in rows])
    largest = shares.max(axis=0)
    largest[largest == 0] = 1.0
    system = np.vstack([shares / largest, sqrt(ZERO_SHRINKAGE) * np.eye(len(names))])
    scaled, _ = nnls(system, np.concatenate([np.ones(len(rows)), np.zeros(len(names))]))
    return {name: rounded(x) for name, x in zip(names, scaled / largest, strict=True)}


def _with_residual(core: Core, singles: Sequence[Sample]) -> Core:
    kernels = [s.network.kernels[0] for s in singles]
    logs, weights = [], []
    for sample, kernel in zip(singles, kernels, strict=True):
        priced = time_ms(kernel_amounts(kernel, core.layout), core.coefficients)
        start = core.start_ms(sample.network) if sample.whole else 0.0
        logs.append(log(max(sample.runtime_ms - start, 0.1 * sample.runtime_ms) / max(priced, 1e-9)))
        weights.append(sample.runtime_ms**KERNEL_WEIGHT)
    return Core(core.layout, core.coefficients, fit_residual(kernels, logs, weights))


def _calibrate(core: Core, networks: Sequence[Sample], *, profiled: bool) -> Calibration:
    """Fit what whole networks take to the sum of their kernels; relative errors, held near 0, 1 and 0.

    Start and launch only where the kernels were taken from profiles, which have neither: probes that ran as networks
    tell them better than large networks do, whose few milliseconds of error would all be put down to the start.
    """
    import numpy as np
    from scipy.optimize import nnls

    shares = np.array([_parts(core, sample)[: 3 if profiled else 1] for sample in networks])
    largest = shares.max(axis=0)
    firmness, wanted = sqrt(CALIBRATION_SHRINKAGE), np.zeros(shares.shape[1])
    wanted[0] = largest[0]
    system = np.vstack([shares / largest, firmness * np.eye(len(wanted))])
    scaled, _ = nnls(system, np.concatenate([np.ones(len(shares)), firmness * wanted]))
    scale, *overheads = (rounded(x) for x in scaled / largest)
    return Calibration(scale, *overheads)


def _parts(core: Core, sample: Sample) -> list[float]:
    """Return the priced kernels, one start and the launches, each as a share of the measured time."""
    priced = sum(core.kernels_ms(sample.network.kernels)) + core.start_ms(sample.network)
    return [part / sample.runtime_ms for part in (priced, 1.0, len(sample.network.kernels))]


def leave_families_out(
    samples: Sequence[Sample], fitted: Callable[[Sequence[Sample]], Predictor], *, has_prior: bool = False
) -> tuple[HeldOut, ...]:
    """Return every network as foreseen by a predictor that saw no network of its family.

    Where a fit `has_prior` for classes of kernels that it did not see, those of one family alone are foreseen, too.
    Networks where there are some, else the probes themselves, whose families are their operations' sizes.
    """
    judged = [s for s in samples if s.is_network] or list(samples)
    if len(samples) == 1:
        return ()  # nothing is left that it could be foreseen by
    if len({s.family for s in samples}) == 1:  # nothing would be left to fit: each is left out alone
        alone = [s._replace(family=f"{n}") for n, s in enumerate(samples)]
        return tuple(
            replace(h, family=samples[0].family) for h in leave_families_out(alone, fitted, has_prior=has_prior)
        )
    rows: list[HeldOut] = []
    for out in _folds(judged):
        seen = [s for s in samples if s.family not in out]
        predictor = fitted(seen)
        classes = {kernel.cls for s in seen for kernel in s.network.kernels}  # those of one family alone are not there
        foreseeable = [s for s in judged if has_prior or all(kernel.cls in classes for kernel in s.network.kernels)]
        rows += [held_out(predictor, s) for s in foreseeable if s.family in out]
    return tuple(rows)


def held_out(predictor: Predictor, sample: Sample) -> HeldOut:
    """Return a sample beside what the predictor says of it."""
    kernels = sample.network.kernels
    if sample.whole:
        prediction = predictor.predict(sample.network)
        predicted, beyond = prediction.runtime_ms, prediction.extrapolation
    else:
        assert isinstance(predictor.core, Core)  # profiled kernels are for fits of measurements alone
        (predicted,), beyond = predictor.core.kernels_ms(kernels), 1.0
    pixels = max(kernel.height * kernel.width for kernel in kernels)
    figures = (sample.runtime_ms, rounded(predicted), rounded(beyond))
    return HeldOut(sample.label, sample.family, pixels, *figures)


def _folds(samples: Sequence[Sample]) -> list[set[str]]:
    """Return families in at most FOLDS groups of about equally many samples, largest families first."""
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample.family] = counts.get(sample.family, 0) + 1
    groups: list[tuple[int, set[str]]] = [(0, set()) for _ in range(min(FOLDS, len(counts)))]
    for family in sorted(counts, key=lambda name: (-counts[name], name)):
        index = min(range(len(groups)), key=lambda i: groups[i][0])
        size, names = groups[index]
        groups[index] = (size + counts[family], names | {family})
    return [names for _, names in groups]


def with_interval(predictor: Predictor, held: Sequence[HeldOut]) -> Predictor:
    """Return the predictor with the interval that the held-out networks give."""
    low, high, low90, high90 = _interval_of(held)
    note = f"log ratios of {len(held)} networks, each foreseen by a fit without its family"
    return replace(predictor, interval=Interval("measured", low, high, low90, high90, ASSUMED_GROWTH, note))


def _interval_of(held: Sequence[HeldOut]) -> Sequence[float]:
    logs = sorted(log(h.measured_ms / h.predicted_ms) for h in held)
    if len(logs) >= FEWEST_QUANTILES:
        return [_quantile(logs, q) for q in QUANTILES]
    families = len({h.family for h in held})
    return _few_quantiles(logs, folds=min(FOLDS, families if families > 1 else len(held)))  # each alone, if one


def _few_quantiles(logs: Sequence[float], folds: int) -> tuple[float, ...]:
    """Return quantiles of a normal distribution: of a handful, the outermost hold too little or too much.

    Around zero, for so few tell no bias from chance. Their mean distance is the scale: one family that is unlike all
    others, left out, would make the root of the mean square twice as large. Each was foreseen by a fit that saw but
    1 - 1/folds of the networks, and what a fit is off by falls with their root: without that, and with Student's
    distribution below eight networks, intervals of 80 % held 91 % of networks that were not measured, and hold 88 % so
    (171 fits to 5, 7 and 10 networks of phones and NPUs).
    """
    from scipy.special import ndtri, stdtrit  # SciPy's statistics take seconds to load

    n = len(logs)
    scale = sqrt(pi / 2) * sum(map(abs, logs)) / n  # a normal distribution's, from its mean distance
    if n < FEWEST_TO_TRANSFER:  # one network that was foreseen to a hair by chance makes no predictor sure
        scale = max(scale, TIED_NOISE)
        return tuple(rounded(float(stdtrit(n, q)) * scale) for q in QUANTILES)
    return tuple(rounded(float(ndtri(q)) * scale * sqrt(1 - 1 / folds)) for q in QUANTILES)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return the empirical quantile widened for the sample's size, as split conformal prediction takes it.

    Source: Vovk et al. 2005; Lei et al. 2018 (arXiv 1604.04173): the ⌈(n + 1) · level⌉-th value.
    """
    n = len(ordered)
    rank = (n + 1) * share
    index = int(rank) - 1 if share < 0.5 else -int(-rank) - 1
    return rounded(ordered[min(max(index, 0), n - 1)])
