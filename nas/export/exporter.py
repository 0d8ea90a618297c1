"""Export a checkpoint to files for a phone: convert, verify each file, and only then write.

    trained weights ─ Converter ─► twin, deploy and dynamic file per precision ─ FileVerifier ─► quality, differences
                                     └── what lost more than allowed is named with its layer and left out
    folder: model.tflite, model_fp16.tflite, …, card.json, card.md, patches.png

The float32 file must do what the trained network does, or nothing is written.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from latency_models.device import Device
from latency_models.memory import peak_activation_bytes
from nas import plots, provenance
from nas.data.cache import cache_dir
from nas.data.pairs import PairSet, evenly, find_pairs, identity, open_prepared, prepare
from nas.export.card import Card, FileCard, file_card, runtime
from nas.export.card_markdown import to_markdown
from nas.export.converter import Converted, Converter, FineTuned, calibration_index
from nas.export.folder import (
    CARD_TEXT_FILE,
    PATCHES_FILE,
    PREFIX,
    model_file,
    publish,
    refuse_overwriting,
    require_place,
)
from nas.export.layer_errors import LayerError, file_maps, half_maps, worst_layer
from nas.export.options import ExportOptions
from nas.export.verify import CannotRunError, FileVerifier, Judged
from nas.search.network_ref import NetworkRef
from nas.tflite.input_contract import CARD_FILE
from nas.tflite.interpreter import TfliteModel
from nas.train.evaluation import network_input
from nas.train.memory import host_bytes
from search_spaces.errors import ExportError
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.precision import Precision, unconvertible
from search_spaces.system import checksums
from search_spaces.system.named_files import expanded
from search_spaces.system.work_folder import work_folder

_SHOWN_PATCHES = 3
# TensorFlow, its converter and LiteRT with a small network; and how many times the peak of the float32 maps all that
# judge a file keep. Smallnet: 1.65 GB at Full HD, 12.1 GB at 4352×7680, whose peak is 1.07 GB.
PROCESS_BYTES, COPIES_OF_MAPS = 1_000_000_000, 10

OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class JudgedFile:
    """One precision with what was found of it."""

    converted: Converted
    judged: Judged
    refused: str | None


def export(
    network: NetworkRef,
    out: Path,
    device: Device,
    options: ExportOptions | None = None,
    *,
    fine_tuned: FineTuned | None = None,
    on_message: OnMessage = lambda _: None,
) -> Card:
    """Write the files, the card and the picture into `out`; return the card.

    The int8 file has the weights and ranges that were `fine_tuned` for it; like the others it is compared with the
    trained network.

    Raises ExportError where `out` holds an export already or the float32 file does not do what the network does. A
    precision that loses more than allowed is told in the card and has no file; the others are written.
    """
    options = options or ExportOptions()
    options.validate()
    require_place(out)
    deploy = build_graph(network.spec, options.packed_shape)  # refuses a size before anything is read
    _require_convertible(deploy, options)
    _require_memory(deploy, available=host_bytes())
    state = network.trained
    on_message(f"Exporting {network.spec.description}, trained for {state.steps} steps ({state.origin}).")
    weights = state.load().parameters
    folder = prepare(state.data, cache_dir() / "pairs")
    val, train = open_prepared(folder, "val"), open_prepared(folder, "train")
    graph = _pair_sized(network, val)
    judge = FileVerifier(graph, deploy.input_shape, weights, val, state.data)
    converter = Converter(graph, weights, train, options, fine_tuned)
    tried = [_try(converter, judge, precision, options, on_message) for precision in options.wanted]
    judged = [each for each in tried if isinstance(each, JudgedFile)]
    card = _card(network, deploy, device, judged, judge, options, train)
    card = replace(card, not_run=[str(each) for each in tried if isinstance(each, CannotRunError)])
    _write(out, judged, card, judge)
    return card


def _require_convertible(graph: Graph, options: ExportOptions) -> None:
    for precision in options.wanted:
        refused = unconvertible(graph, precision.name)
        if refused:
            raise ExportError(f"{'; '.join(refused)}; leave out {precision.name}, or choose a network without it.")


def _require_memory(deploy: Graph, *, available: int | None) -> None:
    """Raise ExportError where judging at this size needs more memory than the machine has, if it tells."""
    needed = PROCESS_BYTES + COPIES_OF_MAPS * peak_activation_bytes(deploy)
    if available is not None and needed > available:
        _, height, width, _ = deploy.input_shape
        raise ExportError(
            f"Judging a file of {2 * height}×{2 * width} would take about {needed / 1e9:.1f} GB of memory, this "
            f"machine has {available / 1e9:.1f} GB; choose a smaller --size, and give other sizes to the file that "
            "--dynamic makes."
        )


def _pair_sized(network: NetworkRef, pairs: PairSet) -> Graph:
    _, h, w = pairs.raw.shape
    return build_graph(network.spec, (1, h // 2, w // 2, 4))


def _try(
    converter: Converter, judge: FileVerifier, precision: Precision, options: ExportOptions, on_message: OnMessage
) -> JudgedFile | CannotRunError:
    """Convert and judge one precision; where LiteRT cannot run it here, the others may still be had."""
    on_message(f"Converting to {precision.name} with TensorFlow …")
    converted = converter.convert(precision)
    try:
        judged = judge.judge(converted, on_message)
    except CannotRunError as error:
        if precision.name == "fp32":  # what all others are compared with
            raise ExportError(f"{error}.") from None
        return error
    refused = None if precision.name == "fp32" else _refusal(converted, judged, judge, options)
    return JudgedFile(converted, judged, refused)


def _refusal(converted: Converted, judged: Judged, judge: FileVerifier, options: ExportOptions) -> str | None:
    """Return why a precision is not written, with the layer at which the error enters; None where it is."""
    precision, allowed = converted.precision, options.allowed_drop_db(converted.precision)
    if judged.worst_drop_db <= allowed:  # a NaN is no agreement either
        return None
    where, lost = judged.worst_drop
    return (
        f"{precision.name} loses {lost:.3g} dB {where} against the trained network, allowed are {allowed:g}: "
        f"{_cause(converted, judged, judge, allowed)}, or allow more with --max-drop"
    )


def _cause(converted: Converted, judged: Judged, judge: FileVerifier, allowed: float) -> str:
    """Return where the error enters and what helps: no training makes up for what an input of 8 bits leaves out."""
    if converted.precision.name == "int8":
        of_input = judge.input_drop_db(converted.levels, judged.input)
        if of_input is not None and of_input > allowed:
            return f"the 8 bits of its input alone lose {of_input:.3g} dB; take int16, which has 16"
    remedy = "fine-tune for it with --qat STEPS" if _may_be_fine_tuned(converted) else "take another precision"
    return f"{_layer(converted, judged, judge)}; {remedy}"


def _may_be_fine_tuned(converted: Converted) -> bool:
    return converted.precision.name == "int8" and converted.fine_tuned is None


def _layer(converted: Converted, judged: Judged, judge: FileVerifier) -> LayerError:
    from search_spaces import lower_tf

    x = judge.patches[:1]
    expected = lower_tf.predict_maps(judge.graph, converted.exact, x)
    by_rounding_maps = judged.half_drop_db is not None and judged.half_drop_db >= judged.drop_db
    maps = half_maps(judge.graph, judge.weights, x) if by_rounding_maps else file_maps(converted, x)
    return worst_layer(judge.graph, expected, maps, best_db=converted.precision.best_snr_db)


def _card(
    network: NetworkRef,
    deploy: Graph,
    device: Device,
    judged: list[JudgedFile],
    judge: FileVerifier,
    options: ExportOptions,
    train: PairSet,
) -> Card:
    state, raw = network.trained, judge.val.format
    predicted = runtime(device, deploy)
    files = [_file_card(each, device, options, train) for each in judged]
    plain = files[0]
    return Card(
        target=network.label,
        spec=network.spec.to_dict(),
        hash=network.spec.hash,
        steps=state.steps,
        trained_by=state.origin,
        input_shape=list(deploy.input_shape),
        output_shape=list(deploy.output_shape),
        input_contract=plain.input_contract,
        raw=asdict(raw) | {"white": raw.white_level},
        input_levels=asdict(judged[0].converted.levels),
        parameters=deploy.parameters,
        macs=deploy.macs,
        trained_val_psnr_db=judge.trained.psnr_db,
        trained_val_ssim=judge.trained.ssim,
        **{name: getattr(plain, name) for name in _OF_FLOAT32},
        **predicted,
        precisions=files,
        data={name: value for name, value in state.data.to_dict().items() if value is not None},
        data_identity=identity(state.data),
        data_licences=_licences(network),
        provenance=provenance.collect(),
    )


_OF_FLOAT32 = (
    "size_bytes",
    "ops",
    "val_psnr_db",
    "val_ssim",
    "test_psnr_db",
    "test_ssim",
    "twin_difference",
    "deploy_difference",
)


def _file_card(each: JudgedFile, device: Device, options: ExportOptions, train: PairSet) -> FileCard:
    precision = each.converted.precision
    written = each.refused is None
    return file_card(
        each.converted,
        each.judged,
        train.format,
        device,
        names=(
            model_file(precision.name) if written else None,
            model_file(precision.name, dynamic=True) if written and options.dynamic else None,
        ),
        refused=each.refused,
        max_drop_db=options.allowed_drop_db(precision),
        calibration_pairs=len(calibration_index(train, options.calibration)) if precision.is_calibrated else None,
    )


def _licences(network: NetworkRef) -> list[str]:
    """Return the names of files at the root of the pairs that say what may be done with them."""
    data = network.trained.data
    first = find_pairs(data)["train"][0].raw
    root = expanded(data.source)
    folders = first.parents[:3] if data.source == "demo" else [root if root.is_dir() else root.parent]
    names = {path.name for folder in folders for kind in ("LICEN[CS]E*", "COPYING*") for path in folder.glob(kind)}
    return sorted(names)


def _write(out: Path, files: list[JudgedFile], card: Card, judge: FileVerifier) -> None:
    """Fill a folder inside `out` and publish it last, so that nothing half-written has a file's name."""
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with work_folder(out, PREFIX) as folder:
            _fill(folder, files, card, judge)
            refuse_overwriting(out)  # somebody may have made files there meanwhile
            publish(folder, out)
    except OSError as error:
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        raise ExportError(
            f"{out} cannot be written ({error.strerror}); make room, or name another folder with --out."
        ) from None


def _fill(folder: Path, files: list[JudgedFile], card: Card, judge: FileVerifier) -> None:
    for each, entry in zip(files, card.precisions, strict=True):
        if entry.file:
            (folder / entry.file).write_bytes(each.converted.deploy)
        if entry.dynamic_file and each.converted.dynamic:
            (folder / entry.dynamic_file).write_bytes(each.converted.dynamic)
    content = checksums.summed(card.to_dict())
    (folder / CARD_FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / CARD_TEXT_FILE).write_text(to_markdown(card), "utf-8")
    val = judge.val
    index = evenly(len(val), _SHOWN_PATCHES)
    twin, levels = TfliteModel(files[0].converted.twin), files[0].converted.levels
    outputs = np.concatenate([twin(levels.counts(x[None])) for x in network_input(val, index)])
    plots.save_patches(folder / PATCHES_FILE, val, index, outputs)


def refusals(card: Card) -> list[str]:
    """Return why precisions were not written."""
    return [file.refused for file in card.precisions if file.refused] + card.not_run
