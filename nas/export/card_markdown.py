"""The card as one readable page: quality of the files, their inputs, and how to run them on a phone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nas.export.card import Card, FileCard
from nas.units import count, decibels, interval_ms, milliseconds, predicted_ms
from search_spaces.spec import ArchSpec


def to_markdown(card: Card) -> str:
    """Return the page as Markdown; it shows patches.png of the same folder."""
    sections = (_head(card), _table(card), _refused(card), _feeding(card), _running(card), _origin(card))
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(card: Card) -> str:
    spec = ArchSpec.from_dict(card.spec)
    height, width = card.output_shape[1:3]
    return f"""# {spec.description}

A learned ISP: packed RAW {card.input_shape} to RGB {card.output_shape}, {height}×{width} pixels.
{count(card.parameters)} parameters, {count(card.macs)} multiply-accumulates; trained for {card.steps} steps
({card.trained_by}). On {card.device}: {_runtime(card)}.

![RAW, output, target](patches.png)"""


def _runtime(card: Card) -> str:
    if card.device_unsupported:
        return "no prediction, because the device runs it only in part: " + "; ".join(card.device_unsupported)
    assert card.runtime_ms is not None
    assert card.runtime_low_ms is not None
    assert card.runtime_high_ms is not None
    interval = interval_ms(card.runtime_ms, card.runtime_low_ms, card.runtime_high_ms)
    return (
        f"{predicted_ms(card.runtime_ms)} ms predicted ({interval}, {card.runtime_interval}); the device was measured "
        f"with: {card.device_precision or 'precision unknown'}"
    )


_COLUMNS = (
    "file",
    "kB",
    "val dB",
    "loss dB",
    "SSIM",
    "test dB",
    "full-size loss dB",
    "largest / mean difference",
    "on the device",
    "predicted ms",
    "ms on this machine",
)


def _table(card: Card) -> str:
    rows = [_COLUMNS, ["---"] * len(_COLUMNS), *(_cells(file) for file in card.precisions)]
    notes = [_reading(card), *(_half(file) for file in card.precisions if file.half_precision_drop_db is not None)]
    notes += [_unpriced(file) for file in card.precisions if file.runtime_unknown]
    notes += [unfit(file, card.device) for file in card.precisions if not file.device_check["fit"]]
    notes += [_fine_tuned(file) for file in card.precisions if file.fine_tuned]
    return "\n".join(map(_row, rows)) + "\n\n" + "\n\n".join(notes)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(file: FileCard) -> list[str]:
    return [
        file.file or f"{file.precision}: not written",
        f"{file.size_bytes / 1e3:.1f}",
        f"{file.val_psnr_db:.3f}",
        decibels(file.drop_db),
        f"{file.val_ssim:.4f}",
        "—" if file.test_psnr_db is None else f"{file.test_psnr_db:.3f}",
        decibels(file.full_size_drop_db),
        f"{file.deploy_difference:.1e} / {file.deploy_mean_difference:.1e}",
        "fit" if file.device_check["fit"] else "not fit",
        "—" if file.runtime_ms is None else predicted_ms(file.runtime_ms),
        milliseconds(file.local_runtime_ms),
    ]


def _reading(card: Card) -> str:
    return f"""Every figure is of the file, run by LiteRT; the loss is against the trained network's
{card.trained_val_psnr_db:.3f} dB. Validation and test: a twin of pair size with the same weights and ranges. Largest
and mean difference: the deploy file on one full-size mosaic of validation pairs, against TensorFlow in float32. This
machine: {card.provenance.get("machine", "unknown")}, {card.precisions[0].local_threads} threads."""


def _named(file: FileCard) -> str:
    return file.file or file.precision


def _unpriced(file: FileCard) -> str:
    return f"{_named(file)} has no predicted ms: {file.runtime_unknown}."


def unfit(file: FileCard, device: str) -> str:
    """Return the first reason why a file does not run on the device as a whole."""
    errors = [finding for finding in file.device_check["findings"] if finding["severity"] == "error"]
    first = errors[0]
    more = f" `isp-nas check` tells {len(errors) - 1} more." if errors[1:] else ""
    return (
        f"{_named(file)} does not run on {device} as a whole: {first['name']}: {first['what']}. To do: "
        f"{first['what_to_do']}.{more}"
    )


def _half(file: FileCard) -> str:
    assert file.half_precision_drop_db is not None
    return f"""{file.precision}: weights are float16, and the file lets runtimes compute in it. With every map rounded
to float16 the network loses {decibels(file.half_precision_drop_db)} dB; the row above is in the arithmetic of this
machine's LiteRT, which may be float32."""


def _fine_tuned(file: FileCard) -> str:
    assert file.fine_tuned is not None
    return f"""{file.precision}: weights and ranges were fine-tuned for it over {file.fine_tuned["steps"]} steps of
quantisation-aware training; the other files have the weights as they were before."""


def _refused(card: Card) -> str:
    refused = [file.refused for file in card.precisions if file.refused]
    reasons = [f"- {reason}" for reason in (*refused, *card.not_run)]
    return "\n".join(["## Not written", "", *reasons]) if reasons else ""


def _feeding(card: Card) -> str:
    written = [file for file in card.precisions if file.file]
    raw = card.raw
    lines = [
        "## What to feed",
        "",
        *(f"- `{file.file}`: {file.input_contract}." for file in written),
        *_any_size(card.precisions),
        "",
        f"The network was trained on RAW of pattern {raw['pattern']}, {raw['bits']} bits, black {raw['black']}, white",
        f'{raw["white"]}, channels packed as "{raw["packing"]}". {_to_convert(card)}',
        "",
        "Operations:",
        "",
        *(f"- `{file.file}`: {_ops(file.ops)}." for file in written),
    ]
    return "\n".join(lines)


def _to_convert(card: Card) -> str:
    """Say what has to be done to RAW that is not what the files read."""
    black, white = (f"{card.input_levels[name]:g}" for name in ("black", "white"))
    if (black, white) == ("0", "1"):
        return "Convert another pattern or black level to it first."
    return (
        f"The levels are in the files: feed counts of which black is {black} and white {white}, scaled to these where "
        "they\nhave other levels. Convert another pattern first."
    )


def _any_size(files: Iterable[FileCard]) -> Iterator[str]:
    names = [f"`{file.dynamic_file}`" for file in files if file.dynamic_file]
    if names:
        yield (
            f"- {', '.join(names)}: the same for any height and width, to compute PSNR with; the delegates of phones "
            "want fixed sizes."
        )


def _ops(ops: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in ops.items())


# The modes of AI Benchmark for one's own file. Source: the report of the challenge, section 2.2.
_MODES = {"fp32": "FP32 or FP16", "fp16": "FP32 or FP16", "int8": "INT8"}


def _modes(card: Card) -> str:
    files: dict[str, list[str]] = {}
    for file in card.precisions:
        if file.file and file.precision in _MODES:
            files.setdefault(_MODES[file.precision], []).append(f"`{file.file}`")
    return ", ".join(f"{mode} for {' and '.join(names)}" for mode, names in files.items())


def _without_mode(card: Card) -> str:
    names = " and ".join(f"`{file.file}`" for file in card.precisions if file.file and file.precision not in _MODES)
    return f"\n   It has no mode for {names}: time that with `benchmark_model`, as below." if names else ""


def _running(card: Card) -> str:
    file = next((file.file for file in card.precisions if file.file), "model.tflite")
    return f"""## On a phone

With AI Benchmark, as the challenge timed it:

1. Install the app from https://ai-benchmark.com/download and run its standard tests.
2. Enter the PRO mode and choose the tab *Custom Model*.
3. Put the file into the phone's folder *Download* under the name `model.tflite`:
   `adb push {file} /sdcard/Download/model.tflite`.
4. Choose {_modes(card)};
   choose the acceleration (on MediaTek: Neuron, on others NNAPI or TFLite GPU) and run.{_without_mode(card)}

With TensorFlow Lite's own `benchmark_model`, built for android_arm64:

1. `adb push benchmark_model {file} /data/local/tmp/`
2. `adb shell chmod +x /data/local/tmp/benchmark_model`
3. `adb shell /data/local/tmp/benchmark_model --graph=/data/local/tmp/{file} --num_threads=4 --num_runs=50`;
   add `--use_gpu=true --gpu_precision_loss_allowed=true`, `--use_nnapi=true` or `--use_xnnpack=true`, and
   `--enable_op_profiling=true` to see each layer.
4. `isp-nas latency import` reads the log, `isp-nas latency calibrate` makes a device of it."""


def _origin(card: Card) -> str:
    made_by: dict[str, Any] = card.provenance
    return f"""## Licence and origin

The files hold trained weights and no code of isp-nas, which claims no rights in them. Trained on the pairs
"{card.data.get("source", "unknown")}" (identity {card.data_identity}); {_terms(card.data_licences)}.
Made by `{made_by.get("command")}`, {_maker(made_by)}, {made_by.get("created")}. All figures at full
precision are in `card.json`."""


def _maker(made_by: Mapping[str, Any]) -> str:
    """Return which isp-nas made the files: an installed copy knows its version alone."""
    version = f"isp-nas {made_by.get('versions', {}).get('isp-nas', 'of unknown version')}"
    return f"{version} at commit {made_by['commit']}" if made_by.get("commit") else version


def _terms(licences: Sequence[str]) -> str:
    if not licences:
        return "no licence lies beside them: whether the files may be passed on depends on the rights in the pictures"
    names = ", ".join(f"`{name}`" for name in licences)
    return f"beside them lies {names}, which says what may be done with what was learned from them"
