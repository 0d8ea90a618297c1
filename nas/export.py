"""From a checkpoint to a file that may go on a phone: convert, judge the file, and only then write it.

A static Full-HD file cannot run 256×256 pairs, so two files are made of the same weights. The *twin*, at the pairs'
size, is compared with Flax and judged on the validation and test pairs; the *deploy* file is compared with
TensorFlow on one full-size mosaic. Nothing is written unless the twin agrees.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latency_models.device import Device
from latency_models.predictor import Prediction
from nas import provenance
from nas.checkpoint import Arrays
from nas.data.cache import cache_dir
from nas.data.pairs import DataConfig, PairSet, find_pairs, identity, load_split, open_prepared, prepare
from nas.evaluate import Quality, judge, network_input, quality_of
from nas.litert import TfliteModel
from nas.report import save_patches
from nas.target import Target
from search_spaces import lower_flax
from search_spaces.errors import ExportError
from search_spaces.graph import FULL_HD, Graph
from search_spaces.networks import build_graph
from search_spaces.tflite_file import op_counts

# Float32 rounding between two orders of summation stays two decades below this; a wrong kernel layout, padding or
# pixel order is decades above.
MAX_DIFFERENCE = 1e-4
# At full size LiteRT's own operations are less exact: its MEAN over half a million pixels is off by up to 1.5e-5 where
# TensorFlow sums in blocks. The designs stay below 3e-5 (benchmarks/design_parity.json); what is wrong is far above.
MAX_DEPLOY_DIFFERENCE = 1e-3
PARITY_PATCHES = 8
MODEL_FILE = "model.tflite"
CARD_FILE = "card.json"
PATCHES_FILE = "patches.png"
_SHOWN_PATCHES = 4

Say = Callable[[str], None]


@dataclass(frozen=True)
class Card:
    """What a person or a program must know about an exported file. Quality is of the file, not of its training."""

    target: str
    spec: dict[str, Any]
    hash: str
    steps: int
    trained_by: str
    input_shape: list[int]
    output_shape: list[int]
    input_contract: str
    size_bytes: int
    parameters: int
    macs: int
    ops: dict[str, int]
    val_psnr_db: float  # of the twin, run by LiteRT over the validation pairs
    val_ssim: float
    trained_val_psnr_db: float  # of the network in Flax, same pairs
    test_psnr_db: float | None  # None where the data has no test pairs
    test_ssim: float | None
    twin_difference: float  # the largest, Flax against twin on real patches
    deploy_difference: float  # the largest, TensorFlow against the deploy file on one full-size mosaic
    device: str
    device_digest: str
    device_unsupported: list[str]
    runtime_ms: float | None
    runtime_low_ms: float | None
    runtime_high_ms: float | None
    runtime_interval: str
    data: dict[str, Any]
    data_identity: str
    provenance: dict[str, Any]


def export(target: Target, out: Path, device: Device, *, say: Say = lambda _: None) -> Card:
    """Write model.tflite, card.json and patches.png into `out`; return the card.

    Raises ExportError where `out` holds an export already or the file does not do what the network does.
    """
    _refuse_overwriting(out)
    state = target.trained
    say(f"Exporting {target.spec.description}, trained for {state.steps} steps ({state.origin}).")
    weights = state.load().parameters
    pairs = open_prepared(prepare(state.data, cache_dir() / "pairs"), "val")
    say("Converting with TensorFlow …")
    twin_graph, deploy_graph = _twin_graph(target, pairs), build_graph(target.spec, FULL_HD)
    twin, twin_difference = _checked_twin(twin_graph, weights, pairs)
    content, deploy_difference = _deploy_file(deploy_graph, weights, pairs)
    say(f"Judging the file on {len(pairs)} validation pairs …")
    card = Card(
        target=target.label,
        spec=target.spec.to_dict(),
        hash=target.spec.hash,
        steps=state.steps,
        trained_by=state.origin,
        input_shape=list(deploy_graph.input_shape),
        output_shape=list(deploy_graph.output_shape),
        input_contract=_contract(pairs),
        size_bytes=len(content),
        parameters=deploy_graph.parameters,
        macs=deploy_graph.macs,
        ops=op_counts(content),
        **_qualities(twin, twin_graph, weights, pairs, state.data),
        twin_difference=twin_difference,
        deploy_difference=deploy_difference,
        **_runtime(device, deploy_graph),
        data={name: value for name, value in state.data.to_dict().items() if value is not None},
        data_identity=identity(state.data),
        provenance=provenance.collect(),
    )
    _write(out, content, card, twin, pairs)
    return card


def _refuse_overwriting(out: Path) -> None:
    for name in (MODEL_FILE, CARD_FILE, PATCHES_FILE):
        if (out / name).exists():
            raise ExportError(f"{out / name} exists and is not overwritten; name another folder with --out.")


def _twin_graph(target: Target, pairs: PairSet) -> Graph:
    _, h, w = pairs.raw.shape
    return build_graph(target.spec, (1, h // 2, w // 2, 4))


def _checked_twin(graph: Graph, weights: Arrays, pairs: PairSet) -> tuple[TfliteModel, float]:
    from search_spaces import lower_tf

    twin = TfliteModel(lower_tf.to_tflite(graph, weights))
    x = network_input(pairs, np.arange(min(PARITY_PATCHES, len(pairs))))
    expected = np.asarray(lower_flax.jit_apply(graph)(weights, x))  # type: ignore[arg-type]  # NumPy arrays will do
    difference = largest_difference(expected, np.concatenate([twin(patch[None]) for patch in x]))
    _require_agreement(difference, MAX_DIFFERENCE, "the trained network on real patches")
    return twin, difference


def _require_agreement(difference: float, largest: float, what: str) -> None:
    if not difference <= largest:  # a NaN is no agreement either
        raise ExportError(
            f"The converted file differs by {difference:.2e} from {what}, more than {largest:g}; nothing was written. "
            "Please report this network's genes as a bug."
        )


def largest_difference(expected: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    """Return max |a − b| relative to the output's range, which is taken as at least 1: RGB in [0, 1]."""
    return float(np.max(np.abs(expected - found)) / max(1.0, float(np.ptp(expected))))


def _deploy_file(graph: Graph, weights: Arrays, pairs: PairSet) -> tuple[bytes, float]:
    from search_spaces import lower_tf

    content = lower_tf.to_tflite(graph, weights)
    model = TfliteModel(content)
    if (model.input_shape, model.output_shape) != (graph.input_shape, graph.output_shape):
        raise ExportError(
            f"The converted file maps {model.input_shape} to {model.output_shape}, wanted {graph.input_shape} to "
            f"{graph.output_shape}; nothing was written. Please report this network's genes as a bug."
        )
    x = full_size_input(graph, pairs)
    difference = largest_difference(lower_tf.predict(graph, weights, x), model(x))
    _require_agreement(difference, MAX_DEPLOY_DIFFERENCE, "TensorFlow at full size")
    return content, difference


def full_size_input(graph: Graph, pairs: PairSet) -> np.ndarray[Any, Any]:
    """Return real patches laid side by side until they fill the deploy input."""
    _, height, width, _ = graph.input_shape
    h, w = pairs.raw.shape[1] // 2, pairs.raw.shape[2] // 2
    rows, columns = -(-height // h), -(-width // w)
    patches = network_input(pairs, np.arange(min(len(pairs), rows * columns)))
    index = np.arange(rows * columns).reshape(rows, columns) % len(patches)
    tiled = np.concatenate([np.concatenate(list(patches[row]), axis=1) for row in index], axis=0)
    return np.ascontiguousarray(tiled[None, :height, :width])


def _qualities(twin: TfliteModel, graph: Graph, weights: Arrays, pairs: PairSet, data: DataConfig) -> dict[str, Any]:
    val = quality_of(twin, pairs, batch=1)
    trained = judge(graph, weights, pairs)
    test = test_quality(twin, data)
    return {
        "val_psnr_db": val.psnr_db,
        "val_ssim": val.ssim,
        "trained_val_psnr_db": trained.psnr_db,
        "test_psnr_db": test.psnr_db if test else None,
        "test_ssim": test.ssim if test else None,
    }


def test_quality(network: Callable[[np.ndarray[Any, Any]], object], data: DataConfig) -> Quality | None:
    """Judge on the test pairs, which no search reads; None where the data has none."""
    if not find_pairs(data)["test"]:
        return None
    return quality_of(network, load_split(data, "test"), batch=1)


def _contract(pairs: PairSet) -> str:
    fmt = pairs.format
    return (
        f"float32 packed RAW, channels {fmt.packing} of a {fmt.pattern} mosaic, "
        f"(value − {fmt.black}) / {fmt.white_level - fmt.black}; output RGB, nominally 0 … 1, to be clipped"
    )


def _runtime(device: Device, graph: Graph) -> dict[str, Any]:
    refused = list(device.unsupported(graph))
    predicted = None if refused else device.predict(graph)
    return {
        "device": device.name,
        "device_digest": device.digest,
        "device_unsupported": refused,
        "runtime_ms": predicted.runtime_ms if predicted else None,
        "runtime_low_ms": predicted.low_ms if predicted else None,
        "runtime_high_ms": predicted.high_ms if predicted else None,
        "runtime_interval": _interval(predicted),
    }


def _interval(predicted: Prediction | None) -> str:
    if predicted is None:
        return "no prediction"
    return "the interval being " + ("assumed, not measured" if predicted.assumed_interval else "measured")


def _write(out: Path, content: bytes, card: Card, twin: TfliteModel, pairs: PairSet) -> None:
    """Fill a folder beside `out` and move its files over last, so that nothing half-written is left."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as made:
            folder = Path(made)
            (folder / MODEL_FILE).write_bytes(content)
            (folder / CARD_FILE).write_text(json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n", "utf-8")
            index = np.linspace(0, len(pairs) - 1, min(_SHOWN_PATCHES, len(pairs))).astype(int)
            outputs = np.concatenate([twin(x[None]) for x in network_input(pairs, index)])
            save_patches(folder / PATCHES_FILE, pairs, index, outputs)
            for path in sorted(folder.iterdir()):
                shutil.move(path, out / path.name)
    except OSError as error:
        raise ExportError(f"{out} cannot be written ({error.strerror}); name another folder with --out.") from None
