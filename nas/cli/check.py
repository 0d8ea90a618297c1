"""The command `isp-nas check`: print whether a file runs on a device."""

from pathlib import Path

from latency_models.device import Device, load_device
from latency_models.file_check import FileCheck, check_file
from nas.cli.console import Console, plain
from nas.cli.tables import SHORT_FORMATS, check_format, print_json
from nas.defaults import DEFAULT_DEVICE
from nas.export.options import packed_shape, parse_size
from search_spaces.errors import IspNasError, UsageError
from search_spaces.system import stored


def show_file_check(path: Path, *, device_name: str | None, size: str | None, output_format: str) -> bool:
    """Print what a device makes of a file; return whether it runs there as a whole."""
    check_format(output_format, SHORT_FORMATS)
    sizes = None if size is None else packed_shape(parse_size(size))
    device = load_device(device_name or DEFAULT_DEVICE)
    try:
        content = stored.read_bytes(path)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}; give a .tflite file.") from None
    try:
        result = check_file(content, device, sizes=sizes)
    except IspNasError as error:
        raise UsageError(f"{path}: {error}") from None
    if output_format == "json":
        print_json({"file": str(path), "device": device.name, **result.to_dict()})
    else:
        _print(Console(), path, device, result)
    return result.is_fit


def _print(console: Console, path: Path, device: Device, result: FileCheck) -> None:
    pieces = ""
    if result.kernels is not None:
        several = "s" if result.partitions != 1 else ""
        pieces = f": {result.delegated} of {result.kernels} operations delegated, in {result.partitions} piece{several}"
    console.print(f"[bold]{plain(path.name)}[/] on {plain(device.name)} is {result.status}{pieces}", highlight=False)
    for each in result.findings:
        colour = "red" if each.severity == "error" else "yellow"
        line = plain(f"{each.name}: {each.what}. To do: {each.what_to_do}.")  # converters put brackets into names
        console.print(f"[{colour}]{each.severity}[/] {line}", highlight=False)
    console.print("[green]Fit for the device.[/]" if result.is_fit else "[red]Not fit for the device.[/]")
