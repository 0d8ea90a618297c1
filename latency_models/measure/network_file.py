"""The .tflite files to be timed, each under a unique name."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from search_spaces.errors import MeasurementError
from search_spaces.system import stored


@dataclass(frozen=True)
class NetworkFile:
    """A .tflite file to be timed."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """What the network is called in a file of measurements."""
        return self.path.stem


def read_networks(paths: Sequence[Path]) -> list[NetworkFile]:
    """Return the networks in these files, each once; raise MeasurementError where two different ones share a name."""
    named: dict[str, NetworkFile] = {}
    for network in map(_read, paths):
        other = named.setdefault(network.name, network)
        if other.sha256 != network.sha256:
            raise MeasurementError(
                f'{other.path} and {network.path} are different networks of one name, "{network.name}"; rename one.'
            )
    return list(named.values())


def _read(path: Path) -> NetworkFile:
    try:
        return NetworkFile(path, sha256(stored.read_bytes(path)).hexdigest())
    except OSError as error:
        raise MeasurementError(f"Cannot read {path}: {error.strerror}; give a .tflite file.") from None
