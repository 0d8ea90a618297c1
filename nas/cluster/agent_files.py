"""The files of an agent: states of what it trains, and the pairs, which are known by content and fetched once.

the folder that the hub names    where machines share a file system
folders that --pairs names       the same content under another path
the cache                        fetched from a hub before
the hub                          in blocks, checked on arrival, into the cache
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nas.cluster.messages import Terms
from nas.data.cache import cache_dir
from nas.data.content import content_of, is_file_of_pairs, require_written
from nas.train.losses import vgg_weights
from search_spaces.errors import DataError, IspNasError
from search_spaces.system import machine
from search_spaces.system.work_folder import clear_abandoned, give_name, work_folder

Fetch = Callable[[str, int], Awaitable[bytes]]  # a block of a file, by its name and an offset
VGG = "vgg"
ROOM = 1.1  # of what is fetched has to be free


class UnfitError(Exception):
    """A worker lacks what a search needs; the text says what."""


@contextmanager
def agent_files(folders: tuple[Path, ...] = ()) -> Iterator["AgentFiles"]:
    """Make a folder for the states of one agent, which is removed behind it."""
    parent = cache_dir() / "agents"
    parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{machine.host()}-"
    clear_abandoned(parent, prefix)
    with work_folder(parent, prefix) as folder:
        yield AgentFiles(folder, folders)


@dataclass(frozen=True)
class AgentFiles:
    """Where an agent keeps states and looks for pairs."""

    folder: Path
    folders: tuple[Path, ...] = ()  # of prepared pairs, or of such folders

    def states(self) -> Path:
        """Return the folder of training states."""
        states = self.folder / "states"
        states.mkdir(exist_ok=True)
        return states

    async def pairs(self, terms: Terms, fetch: Fetch) -> Path:
        """Return a folder with a search's pairs; raise UnfitError where there is none and none can be fetched."""
        received = cache_dir() / "received" / terms.content
        candidates = [Path(terms.pairs), received, *self.folders, *(f / terms.content for f in self.folders)]
        for folder in [*candidates, *(each for f in self.folders for each in _inside(f))]:
            if await asyncio.to_thread(_has, folder, terms.content):
                return folder
        if not terms.sends_pairs:
            raise UnfitError(
                f"it has no pairs of content {terms.content}: there are others or none at {terms.pairs}, and the "
                "search sends none; share that folder, or name one with --pairs."
            )
        return await self._fetched(received, terms, fetch)

    async def _fetched(self, folder: Path, terms: Terms, fetch: Fetch) -> Path:
        if not all(map(is_file_of_pairs, terms.files)):
            raise UnfitError("the search names files that prepared pairs do not have.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(folder.parent, f".{folder.name}-")  # what an agent that was killed had fetched
        _require_room(folder.parent, sum(terms.files.values()))
        with work_folder(folder.parent, f".{folder.name}-") as partial:
            await _fetch_all(partial, terms.files, fetch)
            await asyncio.to_thread(_require_content, partial, terms.content)
            try:
                give_name(partial, folder)
            except OSError:
                if not folder.is_dir():  # else another agent of this machine was first
                    raise
        return folder

    async def vgg(self, terms: Terms, fetch: Fetch) -> Path | None:
        """Return a file with the weights of VGG-19 that take part; None where none do."""
        if terms.vgg is None:
            return None
        received = cache_dir() / "received" / f"vgg-{terms.vgg}.h5"
        for path in (*_own_weights(), received):
            if path.is_file() and await asyncio.to_thread(vgg_weights.weights_digest, path) == terms.vgg:
                return path
        received.parent.mkdir(parents=True, exist_ok=True)
        _require_room(received.parent, terms.vgg_bytes)
        with work_folder(received.parent, ".vgg-") as partial:
            await _fetch_all(partial, {VGG: terms.vgg_bytes}, fetch)
            if await asyncio.to_thread(vgg_weights.weights_digest, partial / VGG) != terms.vgg:
                raise UnfitError("the weights of VGG-19 did not arrive whole.")
            (partial / VGG).replace(received)
        return received


def _own_weights() -> list[Path]:
    try:
        return [vgg_weights.find_weights(None)]
    except IspNasError:
        return []


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _has(folder: Path, content: str) -> bool:
    try:
        return folder.is_dir() and content_of(folder) == content
    except (DataError, OSError):
        return False


def _require_room(folder: Path, size_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < ROOM * size_bytes:
        raise UnfitError(f"{folder} has {free / 1e9:.1f} GB free, and the pairs take {size_bytes / 1e9:.1f} GB.")


async def _fetch_all(folder: Path, files: Mapping[str, int], fetch: Fetch) -> None:
    for name, size_bytes in files.items():
        with (folder / name).open("wb") as file:
            while file.tell() < size_bytes:
                block = await fetch(name, file.tell())
                if not isinstance(block, bytes) or not block or file.tell() + len(block) > size_bytes:
                    raise UnfitError(f"{name} did not arrive whole: {file.tell()} of {size_bytes} bytes came.")
                file.write(block)


def _require_content(folder: Path, content: str) -> None:
    require_written(folder)
    if content_of(folder) != content:
        raise UnfitError("the pairs that arrived are not those that were promised.")
