"""The command export, with what a person sees: the network, then one row for each file."""

from pathlib import Path
from typing import TYPE_CHECKING

from latency_models.device import load_device
from nas import backend
from nas.cli.console import Console, plain
from nas.cli.tables import SHORT_FORMATS, Column, check_format, print_json, print_rows
from nas.defaults import DEFAULT_DEVICE
from nas.export.folder import require_place
from nas.export.options import ExportOptions
from nas.search.network_ref import Target, require_same_data, require_same_pairs
from nas.train.run_folder import QUANTISATION, TRAINING_FILE, read_training
from nas.units import Row, count, decibels, milliseconds, runtime
from search_spaces.errors import ExportError, UsageError

if TYPE_CHECKING:
    from nas.export.card import Card
    from nas.export.converter import FineTuned

FILE_COLUMNS = (
    Column("file", lambda r: r["file"] or f"[red]{r['precision']}: not written[/]", right=False),
    Column("kB", lambda r: f"{r['size_bytes'] / 1e3:.1f}"),
    Column("val dB", lambda r: f"{r['val_psnr_db']:.3f}"),
    Column("loss dB", lambda r: decibels(r["drop_db"])),
    Column("SSIM", lambda r: f"{r['val_ssim']:.4f}"),
    Column("at full size", lambda r: decibels(r["full_size_drop_db"])),
    Column("fit", lambda r: "yes" if r["device_check"]["fit"] else "[red]no[/]", right=False),
    Column("here ms", lambda r: milliseconds(r["local_runtime_ms"])),
)


def run_export(
    target: Target,
    out: Path,
    options: ExportOptions,
    *,
    results: Path,
    device_name: str | None,
    qat: str | None,
    form: str,
) -> None:
    """Export one network and print what its files are worth.

    `qat` is how many steps the network is fine-tuned for int8 before, or the folder of such a run.

    Raises ExportError at the end where a precision lost more than allowed; the others are written by then.
    """
    check_format(form, SHORT_FORMATS)
    options.validate()
    _refuse_qat_without_int8(qat, options)
    _refuse_fine_tuned(target)
    require_place(out)
    device = load_device(device_name or (target.study.config.device if target.study else DEFAULT_DEVICE))
    if target.study and target.trained.data == target.study.config.data:
        require_same_data(target.study)
    require_same_pairs(target.trained)
    backend.prepare()
    from nas.export.exporter import export, refusals

    aside = Console(stderr=True)
    tuned = _fine_tuned(target, qat, options, results) if qat else None

    with aside.status("Exporting …") as status:

        def say(line: str) -> None:
            status.update(plain(line))
            aside.print(line, highlight=False, markup=False)

        card = export(target, out, device, options, fine_tuned=tuned, say=say)
    if form == "json":
        print_json(card.to_dict())
    else:
        _show(card, out, Console())
    if refusals(card):
        raise ExportError(" ".join(f"{sentence}." for sentence in refusals(card)))


def _refuse_qat_without_int8(qat: str | None, options: ExportOptions) -> None:
    if qat and "int8" not in options.precisions:
        raise UsageError("--qat fine-tunes for int8, and no int8 file is asked for; add --precision int8.")


def _refuse_fine_tuned(target: Target) -> None:
    """Raise UsageError where the target is itself a fine-tuning: there is nothing to compare its files with."""
    folder = target.state.path.parent if target.state else None
    if folder and (folder / TRAINING_FILE).is_file() and QUANTISATION in read_training(folder):
        raise UsageError(
            f"{folder} holds weights that were fine-tuned for int8; export the network that they started from, with "
            f"--precision int8 --qat {folder}."
        )


def _fine_tuned(target: Target, qat: str, options: ExportOptions, results: Path) -> "FineTuned":
    from nas.cli.train import fine_tune
    from nas.export.qat import fine_tuned

    is_steps = qat.isascii() and qat.isdigit()
    folder = fine_tune(target, int(qat), calibration=options.calibration, results=results) if is_steps else Path(qat)
    return fine_tuned(folder, target)


def _show(card: "Card", out: Path, console: Console) -> None:
    from nas.export.card_markdown import unfit

    rows: list[Row] = card.to_dict()["precisions"]
    ops = ", ".join(f"{number} {op}" for op, number in card.ops.items())
    for name, value in {
        "input → output": f"{card.input_shape} → {card.output_shape}",
        "operations": ops,
        "differences": f"{card.twin_difference:.1e} Flax to twin, {card.deploy_difference:.1e} TF to file at full size",
        "parameters, MACs": f"{count(card.parameters)}, {count(card.macs)}",
        "trained": f"{card.steps} steps, {card.trained_val_psnr_db:.3f} dB on the validation pairs in Flax",
        "float32 file on test": "no test pairs" if card.test_psnr_db is None else f"{card.test_psnr_db:.2f} dB",
        f"on {card.device}": f"{runtime(vars(card))} ms predicted, {card.runtime_interval}",
        "written to": f"{out}, with card.md, card.json, patches.png",
    }.items():
        console.print(f"[bold]{name:>22}[/]  {plain(value)}", highlight=False)
    console.print()
    print_rows(rows, FILE_COLUMNS, form="table", console=console)
    for file in card.precisions:
        if not file.device_check["fit"]:
            console.print("[red]warning[/]", plain(unfit(file, card.device)), highlight=False)
