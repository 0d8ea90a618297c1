"""Training states on disk: safetensors, no pickle, written whole or not at all."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.train import branches
from search_spaces.auxiliary_head import detach
from search_spaces.errors import StudyError
from search_spaces.system import stored
from search_spaces.system.atomic_write import temporary_of, write_durably
from search_spaces.system.file_errors import sentence

Arrays = dict[str, np.ndarray[Any, Any]]
# What is being trained: a network alone, or joined to its super-network.
ALONE, JOINT = "alone", "joint"


@dataclass(frozen=True)
class Checkpoint:
    """Everything from which training continues bit for bit."""

    step: int
    spec_hash: str
    parameters: Arrays
    first_moment: Arrays
    second_moment: Arrays
    first_loss: float = math.inf  # the yardstick of divergence must survive a restart
    loss: float = math.nan  # the latest, for a rung that was trained but not recorded before a crash
    phase: str = ALONE
    detached_step: int = 0  # when a super-network was taken off; 0: never
    detached_psnr_db: float = math.nan  # the larger head's, on the validation pairs, at that step
    rate_share: float = 1.0  # of the recipe's learning rates; below one since the loss diverged
    average: Arrays = field(default_factory=dict)  # moving average of the parameters; empty where none is kept
    discriminator: Arrays = field(default_factory=dict)  # of the texture loss, once it took part
    discriminator_first_moment: Arrays = field(default_factory=dict)
    discriminator_second_moment: Arrays = field(default_factory=dict)
    discriminator_step: int = 0

    @property
    def weights(self) -> Arrays:
        """What is judged and exported: the moving average where one is kept, else the parameters, branches folded."""
        return branches.fold(self.average or self.parameters)


_PARTS = ("parameters", "first_moment", "second_moment")
_PARTS_LATER = ("average", "discriminator", "discriminator_first_moment", "discriminator_second_moment")
_CHECKSUM = "sha256"  # over the tensors
_METADATA_CHECKSUM = "metadata_sha256"  # over everything else that is told, that one included; older files have none


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise ValueError("a whole number of zero or more")
    return int(text)


def _phase(text: str) -> str:
    if text not in (ALONE, JOINT):
        raise ValueError(f'"{ALONE}" or "{JOINT}"')
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


def _rate_share(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise ValueError("a number in (0, 1]")
    return value


# What metadata tell, and how each is read: a reader raises ValueError saying what is allowed.
_MOST_DIGITS = 12
_STATED: dict[str, Callable[[str], Any]] = {"step": _whole, "spec_hash": str, "first_loss": _number, "loss": _number}
# Older files have the defaults.
_ADDED_LATER: dict[str, Callable[[str], Any]] = {
    "phase": _phase,
    "detached_step": _whole,
    "detached_psnr_db": _number,
    "discriminator_step": _whole,
    "rate_share": _rate_share,
}


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write to `path` durably: a reader sees the old file or the new one, never half of one."""
    from safetensors.numpy import save as to_bytes

    tensors = {
        f"{part}:{name}": a for part in (*_PARTS, *_PARTS_LATER) for name, a in getattr(checkpoint, part).items()
    }
    metadata = {name: str(getattr(checkpoint, name)) for name in _STATED | _ADDED_LATER} | {
        _CHECKSUM: _checksum(tensors)
    }
    metadata[_METADATA_CHECKSUM] = _stated_checksum(metadata)
    write_durably(path, to_bytes({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata=metadata))


def _checksum(tensors: Arrays) -> str:
    """Return the SHA-256 over names and values, which safetensors does not keep itself."""
    content = hashlib.sha256()
    for name in sorted(tensors):
        content.update(name.encode())
        content.update(np.ascontiguousarray(tensors[name]).tobytes())
    return content.hexdigest()


def _stated_checksum(metadata: Mapping[str, str]) -> str:
    rest = {name: text for name, text in metadata.items() if name != _METADATA_CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; raise StudyError where the file is missing or damaged."""
    with _opened(path) as file:
        metadata = _metadata(file, path)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if _CHECKSUM in metadata and metadata[_CHECKSUM] != _checksum(tensors):
        raise _unreadable(path, "its values are not those that were written")
    parts: dict[str, Any] = {part: _part(tensors, part) for part in (*_PARTS, *_PARTS_LATER)}
    return Checkpoint(**_values(metadata, path), **parts)


def step_of(path: Path) -> int:
    """Return how far a checkpoint was trained, without its values; raise StudyError where there is no whole file."""
    with _opened(path) as file:
        step: int = _values(_metadata(file, path), path)["step"]
        return step


def _values(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Return what metadata tell; raise StudyError where it is not what was written."""
    readers = _STATED | _ADDED_LATER
    if metadata.get(_METADATA_CHECKSUM, _stated_checksum(metadata)) != _stated_checksum(metadata):
        raise _unreadable(path, "what it tells of its training is not what was written")
    for name in metadata:
        if name not in (*readers, _CHECKSUM, _METADATA_CHECKSUM):
            raise _unreadable(path, f"the key {stored.shown(name)} is unknown")
    values = {}
    for name in (name for name in readers if name in metadata):
        try:
            values[name] = readers[name](metadata[name])
        except ValueError as error:
            raise _unreadable(path, f"{name} must be {error}, got {stored.shown(metadata[name])}") from None
    return values


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        stored.require_file(path)  # safetensors says of whatever cannot be opened that it is not there
        with safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError:
        raise StudyError(
            f"The checkpoint {path} is not there; put it back, or give the command that trained it once more: it "
            "trains the network again."
        ) from None
    except OSError as error:
        raise StudyError(sentence(error, path=path, action="read")) from None
    except SafetensorError as error:
        raise _unreadable(path, str(error)) from None


def _metadata(file: Any, path: Path) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    if not _STATED.keys() <= metadata.keys():
        raise StudyError(f"{path} is a safetensors file but not a checkpoint of isp-nas; give one that training wrote.")
    return metadata


def _unreadable(path: Path, why: str) -> StudyError:
    return StudyError(
        f"The checkpoint {path} cannot be read ({why}); put a copy back, or remove that file: a search that needs it "
        "trains the candidate again, and so does `isp-nas train`."
    )


def detached(checkpoint: Checkpoint, *, psnr_db: float) -> Checkpoint:
    """Return the state of the small network alone, noting when its super-network, of this PSNR, was taken off."""
    return replace(
        checkpoint,
        parameters=detach(checkpoint.parameters),
        first_moment=detach(checkpoint.first_moment),
        second_moment=detach(checkpoint.second_moment),
        average=detach(checkpoint.average),
        phase=ALONE,
        detached_step=checkpoint.step,
        detached_psnr_db=psnr_db,
    )


def _part(tensors: Arrays, part: str) -> Arrays:
    prefix = f"{part}:"
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content; raise StudyError where it cannot be read."""
    try:
        return hashlib.sha256(stored.read_bytes(path)).hexdigest()
    except OSError as error:
        raise StudyError(f"{path} cannot be read ({error.strerror}); name a checkpoint that training wrote.") from None


def receive(content: bytes, path: Path, *, spec_hash: str, steps: int) -> None:
    """Keep a state that came from another machine at `path`, once it is known to be whole and the one that was meant.

    Raises StudyError where it is not; what was at `path` is then left as it was. Raises OSError where the disk fails.
    """
    arrived = temporary_of(path.with_name(f"{path.name}.arrived"))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        arrived.write_bytes(content)
        state = load(arrived)
    finally:
        arrived.unlink(missing_ok=True)
    if state.spec_hash != spec_hash or state.step > steps:
        raise StudyError(
            f"A state of network {state.spec_hash} at step {state.step} came where one of {spec_hash} up to step "
            f"{steps} was expected."
        )
    write_durably(path, content)
