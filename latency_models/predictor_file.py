"""Predictors as plain data and back: nothing is pickled, and a person can read every number.

A reader takes where a value stands and the value as JSON gave it, as in `json_readers`.
"""

from math import isfinite
from typing import Any

from latency_models.families import Kinship, Runs
from latency_models.json_readers import count, list_of, number, one_of, optional, record, refuse, text
from latency_models.likeness import Likeness
from latency_models.measured_range import Bounds, Range
from latency_models.predictor import Calibration, Core, Interval, Predictor, Transfer
from latency_models.residual import FEATURES, Residual, Tree
from latency_models.roofline import Layout


def predictor_to_data(predictor: Predictor) -> dict[str, Any]:
    """Return a predictor as plain data, to be read back by `read_predictor`."""
    known, alike, kin = predictor.range, predictor.likeness, predictor.kinship
    more: dict[str, Any] = (
        {} if kin is None else {"kinship": kin._asdict() | {"families": [sorted(runs) for runs in kin.families]}}
    )
    return {
        "core": _core_to_data(predictor.core),
        "calibration": predictor.calibration._asdict(),
        "interval": predictor.interval._asdict(),
        "range": known and _range_to_data(known),
        "likeness": alike and {"places": list(alike.places), "weights": list(alike.weights)},
        **more,
    }


def _range_to_data(known: Range) -> dict[str, Any]:
    figures = {op: {name: list(bounds) for name, bounds in ranges.items()} for op, ranges in known.figures.items()}
    data = known._asdict() | {"operations": list(known.operations), "figures": figures}
    inherited = data.pop("inherited")
    return data | ({"inherited": list(inherited)} if inherited else {})


def _core_to_data(core: Core | Transfer) -> dict[str, Any]:
    if isinstance(core, Transfer):
        sources = [predictor_to_data(source) for source in core.sources]
        own = {"own_start_ms": core.own_start_ms, "own_launch_ms": core.own_launch_ms}
        return {"sources": sources, "weights": list(core.weights), "factors": dict(core.factors), **own}
    return {
        "layout": core.layout._asdict() | {"own_ops": list(core.layout.own_ops)},
        "coefficients": dict(core.coefficients),
        "residual": core.residual and _residual_to_data(core.residual),
    }


def _residual_to_data(residual: Residual) -> dict[str, Any]:
    return {
        "features": list(FEATURES),
        "start": residual.start,
        "low": list(residual.low),
        "high": list(residual.high),
        "trees": [[list(column) for column in tree] for tree in residual.trees],
    }


def read_predictor(where: str, value: object) -> Predictor:
    """Read what `predictor_to_data` wrote; raise DeviceError that names the place where it is something else."""
    readers = {
        "core": _read_core,
        "calibration": _read_calibration,
        "interval": _read_interval,
        "range": _read_range,
        "likeness": optional(_read_likeness),
        "kinship": optional(_read_kinship),
    }
    return Predictor(**record(readers)(where, _completed(value, likeness=None, kinship=None)))


def _read_kinship(where: str, value: object) -> Kinship:
    values = record({"families": list_of(_read_runs), "low": signed, "high": signed})(where, value)
    return Kinship(tuple(values["families"]), values["low"], values["high"])


def _read_runs(where: str, value: object) -> Runs:
    return frozenset(list_of(count)(where, value))


def _completed(value: object, **defaults: object) -> object:
    """Return an object with what files of earlier versions do not say."""
    return {**defaults, **value} if isinstance(value, dict) else value


def _read_likeness(where: str, value: object) -> Likeness:
    readers = {"places": list_of(_read_place), "weights": list_of(signed)}
    alike = Likeness(**record(readers)(where, value))
    if len(alike.places) != len(alike.weights):
        refuse(f"{where}.weights", f"as many numbers as there are places, {len(alike.places)}", list(alike.weights))
    return alike


def _read_place(where: str, value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        refuse(where, "an object of numbers", value)
    return {name: signed(f"{where}.{name}", each) for name, each in value.items()}


def signed(where: str, value: object) -> float:
    """Read a finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    return refuse(where, "a finite number", value)


def numbers(where: str, value: object) -> dict[str, float]:
    """Read an object of numbers ≥ 0 under free names."""
    if not isinstance(value, dict):
        refuse(where, "an object of numbers", value)
    return {name: number(f"{where}.{name}", each) for name, each in value.items()}


def read_layout(where: str, value: object) -> Layout:
    """Read how a device holds and computes maps."""
    readers = {
        "lane": count,
        "bytes_per_element": count,
        "io_bytes_per_element": count,
        "input_lane": optional(count),
        "cache_mb": optional(number),
        "taps": one_of(True, False),
        "own_ops": _read_texts,
        "grouped": one_of(True, False),
    }
    return Layout(**record(readers)(where, _completed(value, grouped=False)))


def _read_texts(where: str, value: object) -> tuple[str, ...]:
    return list_of(text)(where, value) if value else ()


def _read_core(where: str, value: object) -> Core | Transfer:
    if isinstance(value, dict) and "sources" in value:
        readers = {
            "sources": list_of(read_predictor),
            "weights": list_of(number),
            "factors": numbers,
            "own_start_ms": number,
            "own_launch_ms": number,
        }
        return Transfer(**record(readers)(where, _completed(value, own_start_ms=0.0, own_launch_ms=0.0)))
    return Core(
        **record({"layout": read_layout, "coefficients": numbers, "residual": optional(_read_residual)})(where, value)
    )


def _read_residual(where: str, value: object) -> Residual:
    readers = {
        "features": _read_features,
        "start": signed,
        "low": list_of(signed),
        "high": list_of(signed),
        "trees": list_of(_read_tree),
    }
    fields = record(readers)(where, value)
    del fields["features"]
    return Residual(**fields)


def _read_features(where: str, value: object) -> None:
    if value != list(FEATURES):
        refuse(where, f"the features of this version, {', '.join(FEATURES)} (calibrate again)", value)


def _read_tree(where: str, value: object) -> Tree:
    """Read one tree; children come after their parents, so a walk ends."""
    try:
        tree = Tree(*(tuple(column) for column in value))  # type: ignore[attr-defined]  # refused below where it is none
        walks = all(
            f == -1 or (0 <= f < len(FEATURES) and n < a < len(tree.feature) and n < b < len(tree.feature))
            for n, (f, _, a, b, _) in enumerate(zip(*tree, strict=True))
        )
    except (TypeError, ValueError):
        walks = False
    return tree if walks else refuse(where, "five lists: feature, threshold, left, right and value", value)


def _read_calibration(where: str, value: object) -> Calibration:
    return Calibration(**record(dict.fromkeys(Calibration._fields, number))(where, value))


def _read_interval(where: str, value: object) -> Interval:
    readers = {
        "kind": one_of("assumed", "measured"),
        "low": signed,
        "high": signed,
        "low90": signed,
        "high90": signed,
        "growth": number,
        "note": text,
    }
    return Interval(**record(readers)(where, value))


def _read_range(where: str, value: object) -> Range | None:
    if value is None:
        return None
    readers = {
        "macs": _read_counts,
        "elements": _read_counts,
        "operations": _read_texts,
        "figures": _read_figures,
        "inherited": _read_texts,
    }
    return Range(**record(readers)(where, _completed(value, figures={}, inherited=[])))


def _read_figures(where: str, value: object) -> dict[str, dict[str, Bounds]]:
    return {
        op: {
            name: _read_bounds(f"{where}.{op}.{name}", each) for name, each in _mapping(f"{where}.{op}", ranges).items()
        }
        for op, ranges in _mapping(where, value).items()
    }


def _mapping(where: str, value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else refuse(where, "an object", value)


def _read_bounds(where: str, value: object) -> Bounds:
    if isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value):
        return value[0], value[1]
    return refuse(where, "two whole numbers, the smallest and the largest measured", value)


def _read_counts(where: str, value: object) -> dict[str, int]:
    return {name: int(each) for name, each in numbers(where, value).items()}
