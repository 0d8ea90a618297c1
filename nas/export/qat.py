"""Quantisation-aware fine-tuning: train weights and ranges for an int8 file.

trained checkpoint ─ calibrate, convert ─► where the file rounds ─ `isp-nas train --qat` ─► folder of a run
folder of a run ─ the state of its best validation ─► FineTuned ─► `isp-nas export --qat`
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.data.cache import cache_dir
from nas.data.pairs import DataConfig, open_prepared, prepare
from nas.export.converter import Converter, FineTuned
from nas.export.options import ExportOptions
from nas.search.network_ref import NetworkRef
from nas.search.network_training import TrainingRequest, plan_training
from nas.train import checkpoint
from nas.train.run_folder import BEST_FILE, QUANTISATION, TRAINING_FILE, Quantisation, read_training
from search_spaces.errors import ExportError, UsageError
from search_spaces.networks import build_graph
from search_spaces.precision import PRECISIONS
from search_spaces.quantised_maps import QuantisedMaps

if TYPE_CHECKING:
    from nas.train.long_run import Callbacks


def quantisation(network: NetworkRef, data: DataConfig, folder: Path, *, calibration: int) -> Quantisation:
    """Return what a run in `folder` rounds: as it was begun, or else as an int8 file of the network's weights does.

    Raises StudyError where the network has no trained weights.
    """
    start = checkpoint.digest(network.trained.path)
    if (folder / TRAINING_FILE).exists():
        stored_quantisation = read_training(folder).get(QUANTISATION)
        if stored_quantisation is not None:
            begun = Quantisation.from_dict(stored_quantisation)
            return replace(begun, start=start, calibration=calibration)  # the run refuses another start than its own
    return _of_file(network, data, start, calibration)


def _of_file(network: NetworkRef, data: DataConfig, start: str, calibration: int) -> Quantisation:
    train = open_prepared(prepare(data, cache_dir() / "pairs"), "train")
    _, h, w = train.raw.shape
    graph = build_graph(network.spec, (1, h // 2, w // 2, 4))
    options = ExportOptions(precisions=("int8",), calibration=calibration, size=(h, w))
    options.validate()
    converter = Converter(graph, network.trained.load().weights, train, options)
    maps = QuantisedMaps.of_file(converter.convert(PRECISIONS["int8"]).twin, graph)
    changed = {name: factors for name, factors in converter.calibration.int8.scales.items() if np.any(factors != 1)}
    return Quantisation(
        maps, start, calibration, {name: tuple(map(float, factors)) for name, factors in changed.items()}
    )


def fine_tune(
    network: NetworkRef, steps: int, *, calibration: int, results: Path, callbacks: "Callbacks | None" = None
) -> Path:
    """Fine-tune a trained network for int8; return the run's folder. A finished run is not repeated."""
    options = TrainingRequest({}, steps=steps, qat=True, calibration=calibration)
    run, _ = plan_training(network, options, results).run(callbacks, quantise=quantisation)
    return run.folder


def fine_tuned(folder: Path, network: NetworkRef) -> FineTuned:
    """Return the best weights and ranges of a run of quantisation-aware training that started from the network.

    Raises UsageError where the folder holds no such run, or one that started from other weights; ExportError where it
    has not come to a validation yet.
    """
    if not (folder / TRAINING_FILE).is_file():
        raise UsageError(
            f"--qat takes a number of steps, or the folder of a run of `isp-nas train --qat`; {folder} holds no run."
        )
    training = read_training(folder)
    if QUANTISATION not in training:
        raise UsageError(f"{folder} holds a training in plain float32; make one for int8 with `isp-nas train --qat`.")
    begun = Quantisation.from_dict(training[QUANTISATION])
    if training["spec"] != network.spec.to_dict() or begun.start != checkpoint.digest(network.trained.path):
        raise UsageError(
            f"{folder} was fine-tuned from other weights than those of {network.label} ({network.trained.path}); "
            "fine-tune these, or export the network that it started from."
        )
    if not (folder / BEST_FILE).exists():
        raise ExportError(f"{folder} has not reached its first validation; let `isp-nas train --qat` go on.")
    state = checkpoint.load(folder / BEST_FILE)
    trained = state.weights
    ranges = begun.maps.trained_ranges(trained)
    weights = {name: trained[name] for name in build_graph(network.spec).parameter_shapes}
    return FineTuned(weights, ranges, state.step, str(folder))
