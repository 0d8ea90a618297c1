"""The command `isp-nas export`: print the network, then one row for each file."""

from pathlib import Path
from typing import TYPE_CHECKING

from nas.cli.console import Console, plain
from nas.cli.tables import SHORT_FORMATS, Column, check_format, print_json, print_rows
from nas.cli.train import training_view
from nas.export.options import ExportOptions
from nas.export.request import export_network, require_complete
from nas.search.network_ref import NetworkRef
from nas.units import Row, count, decibels, milliseconds, runtime

if TYPE_CHECKING:
    from nas.export.card import Card

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
    network: NetworkRef,
    out: Path,
    options: ExportOptions,
    *,
    results: Path,
    device_name: str | None,
    qat: str | None,
    output_format: str,
) -> None:
    """Export one network and print what its files are worth.

    `qat` is how many steps the network is fine-tuned for int8 before, or the folder of such a run.

    Raises ExportError at the end where a precision lost more than allowed; the others are written by then.
    """
    check_format(output_format, SHORT_FORMATS)
    aside = Console(stderr=True)
    status = aside.status("Exporting …")

    def on_message(line: str) -> None:
        status.start()  # not before: fine-tuning shows a bar of its own
        status.update(plain(line))
        aside.print(line, highlight=False, markup=False)

    try:
        card = export_network(
            network,
            out,
            options,
            results=results,
            device=device_name,
            qat=qat,
            on_message=on_message,
            watch=training_view,
        )
    finally:
        status.stop()
    if output_format == "json":
        print_json(card.to_dict())
    else:
        _show(card, out, Console())
    require_complete(card)


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
    print_rows(rows, FILE_COLUMNS, output_format="table", console=console)
    for file in card.precisions:
        if not file.device_check["fit"]:
            console.print("[red]warning[/]", plain(unfit(file, card.device)), highlight=False)
