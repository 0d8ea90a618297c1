"""Spaces and devices that a program made itself, under names by which a study finds them again.

A study records names, not objects. An object that equals what its name stands for goes by that name; another one is
saved in the user's data folder, under a name that says what is in it, where every command finds it.
"""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from latency_models.device import Device, device_to_data, load_device
from latency_models.device_writer import device_text
from search_spaces.errors import IspNasError, UsageError
from search_spaces.space import SearchSpace, load_space
from search_spaces.system import named_files
from search_spaces.system.atomic_write import write_durably


def space_name(space: SearchSpace) -> str:
    """Return a name under which `load_space` finds this very space."""
    try:
        if load_space(space.name).digest == space.digest:
            return space.name
    except IspNasError:
        pass  # nobody has a space of that name, or its file is damaged: this one gets a file of its own
    import tomli_w

    name = f"{_plain(space.name)}-{space.digest}"
    genes = {gene: list(values) for gene, values in space.choices.items()}
    return _saved("spaces", f"{name}.toml", tomli_w.dumps({"name": space.name, "genes": genes}))


def device_name(device: Device) -> str:
    """Return a name under which `load_device` finds this very device.

    Raises UsageError where a file cannot say what the object is: its delegate's table is none that has a name.
    """
    try:
        if _same(load_device(device.name), device):
            return device.name
    except IspNasError:
        pass  # as of a space
    content = json.dumps(device_to_data(device), sort_keys=True)
    name = f"{_plain(device.name)}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    named = replace(device, name=name)
    text = f"{device_text(named)}\n"
    _require_readable(named, text)
    return _saved("devices", f"{name}.json", text)


def _require_readable(device: Device, text: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{device.name}.json"
        path.write_text(text, "utf-8")
        try:
            read = load_device(str(path))
        except IspNasError as error:
            what = str(error).removeprefix(f"{path}: ")
            raise UsageError(f"Device {device.name} cannot be written to a file of its own: {what}") from None
    if not _same(read, device):
        raise UsageError(
            f'The delegate of device {device.name} is not the table that is called "{device.delegate.name}"; save that '
            "table in ./delegates under another name, and give it to the device."
        )


def _same(one: Device, other: Device) -> bool:
    return one.delegate == other.delegate and device_to_data(one) == device_to_data(other)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def _saved(kind: str, file: str, text: str) -> str:
    """Write a file into the user's data folder, where it is not there; return the name that it goes by."""
    path = named_files.user_folder(kind) / file
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, text.encode())
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}); set ISP_NAS_HOME to a folder where your own things may lie."
        ) from None
    return Path(file).stem
