"""Write a device as a JSON file that is readable and that `load_device` reads back."""

import json
import re
from pathlib import Path
from typing import Any

from latency_models.device import Device, device_to_data
from search_spaces.errors import UsageError
from search_spaces.system.atomic_write import write_durably

_LINE = 110


def save_device(device: Device, folder: Path) -> Path:
    """Write the device into `folder` and return its file; raise UsageError where there is one of that name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", device.name):
        raise UsageError(f'A device\'s name is made of letters, digits, ".", "_" and "-", got "{device.name}".')
    path = folder / f"{device.name}.json"
    if path.exists():
        raise UsageError(f"{path} exists already; choose another --name, or move it away.")
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(path, f"{device_text(device)}\n".encode())
    return path


def device_text(device: Device) -> str:
    """Return the text of a device's file: indented for people, long rows of numbers on one line each."""
    return text_of(device_to_data(device))


def text_of(value: Any, indent: int = 0) -> str:
    """Return JSON in which what fits on a line, or is a row of figures, stands on one."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or len(flat) + indent <= _LINE or _is_row(value):
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {text_of(each, indent + 2)}" for key, each in value.items()]
    else:
        parts = [text_of(each, indent + 2) for each in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{pad}" + f",\n{pad}".join(parts) + f"\n{' ' * indent}{closing}"


def _is_row(value: Any) -> bool:
    if isinstance(value, dict):
        return "kernels" in value
    return not any(isinstance(each, dict) for each in value) and not isinstance(value[0], list)
