"""Group photographs by scene and give every scene to one split.

Two photographs are of one scene where a CSV says so, where their names say that they are of one burst, where they were
taken within seconds of each other, or where they show the same: alike as a whole, or with features that agree.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from nas.data.check.near_duplicates import Thumbnail, candidates, thumbnail
from nas.data.check.near_duplicates import show_one_scene as patches_show_one_scene
from nas.data.layout import SPLITS, Split

# As phones name the pictures of one release: …_BURST003, …_COVER, "… (2)", "…~2".
_BURST = re.compile(r"(?i)(?:[ _-]?(?:burst|cover|hdr|bracket(?:ed)?|exp)[ _-]?\d*|\(\d+\)|~\d+)$")
SIDE = 640  # px of the picture whose features are kept
FEATURES = 600
RATIO = 0.75
AGREEING = 24  # features of two photographs; pictures of other scenes reach 8
WITHIN_PX = 6.0
MOST_COMPARED = 20_000  # patches
# So many photographs next in order are compared by features at least, and so many pairs of photographs where there are
# few: all of 100. A place is photographed again later, too. Beside them what looks alike as a whole.
NEIGHBOURS, PAIRS_COMPARED = 12, 5000


@dataclass(frozen=True)
class Sight:
    """What a photograph shows, small."""

    thumbnail: Float[np.ndarray, "t t"] | None
    places: Float32[np.ndarray, "n 2"]
    descriptors: UInt8[np.ndarray, "n 32"]


@dataclass(frozen=True)
class Seen:
    """A photograph as scenes are told by it."""

    key: str
    name: str
    sight: Sight
    taken: float | None = None
    scene: str | None = None  # as a CSV names it


def sight(grey: UInt8[np.ndarray, "h w"]) -> Sight:
    """Return what a photograph shows."""
    size = [max(1, round(side * min(1.0, SIDE / max(grey.shape)))) for side in grey.shape[::-1]]
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    keypoints, descriptors = cv2.ORB_create(nfeatures=FEATURES).detectAndCompute(small, None)
    places = np.array([each.pt for each in keypoints], np.float32).reshape(-1, 2)
    shown = np.repeat(small[..., None], 3, axis=2)
    return Sight(thumbnail(shown), places, np.empty((0, 32), np.uint8) if descriptors is None else descriptors)


def show_one_scene(first: Sight, second: Sight) -> bool:
    """Tell whether the features of two photographs agree on one view."""
    if min(len(first.places), len(second.places)) < AGREEING:
        return False
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(first.descriptors, second.descriptors, k=2)
    good = [each[0] for each in pairs if len(each) == 2 and each[0].distance < RATIO * each[1].distance]
    if len(good) < AGREEING:
        return False
    here, there = first.places[[m.queryIdx for m in good]], second.places[[m.trainIdx for m in good]]
    _, inside = cv2.findHomography(here, there, cv2.USAC_MAGSAC, WITHIN_PX, maxIters=2000)
    return inside is not None and int(inside.sum()) >= AGREEING


def group(photographs: Sequence[Seen], *, gap_s: float, also: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return for the key of each photograph the name of its scene: as a CSV has it, or its first photograph's.

    `also` are keys of photographs that are known to belong together.
    """
    names = {each.key: each.name for each in photographs}
    joined = {each.key: each.key for each in photographs}

    def root(key: str) -> str:
        while joined[key] != key:
            key = joined[key]
        return key

    def join(first: Seen, second: Seen) -> None:
        join_keys(first.key, second.key)

    def join_keys(first: str, second: str) -> None:
        a, b = sorted((root(first), root(second)), key=lambda key: (names[key], key))
        joined[b] = a

    for one, other in also:
        join_keys(one, other)
    for first, second in _together(photographs, gap_s):
        join(first, second)
    for first, second in _perhaps(photographs):
        if root(first.key) != root(second.key) and show_one_scene(first.sight, second.sight):
            join(first, second)
    by_hand: dict[str, str] = {}
    for each in photographs:
        if each.scene is not None:
            by_hand.setdefault(root(each.key), each.scene)
    return {each.key: by_hand.get(root(each.key), names[root(each.key)]) for each in photographs}


def _together(photographs: Sequence[Seen], gap_s: float) -> Iterator[tuple[Seen, Seen]]:
    """Yield what belongs together by its name, its time or the user's word."""
    for key in (lambda each: each.scene, lambda each: _burst(each.name)):
        known: dict[str, Seen] = {}
        for each in photographs:
            if (name := key(each)) is not None:
                yield known.setdefault(name, each), each
    timed = sorted((each for each in photographs if each.taken is not None), key=lambda each: each.taken or 0.0)
    for before, after in pairwise(timed):
        if (after.taken or 0.0) - (before.taken or 0.0) <= gap_s:
            yield before, after


def _burst(name: str) -> str:
    """The part of a name that all pictures of a burst share."""
    stem = name.rpartition(".")[0] or name
    return _BURST.sub("", stem) or stem


def _perhaps(photographs: Sequence[Seen]) -> Iterator[tuple[Seen, Seen]]:
    """Yield what is worth comparing by features: neighbours in order, and what looks alike as a whole."""
    reach = max(NEIGHBOURS, PAIRS_COMPARED // max(1, len(photographs) // 2))
    for at, each in enumerate(photographs):
        for other in photographs[at + 1 : at + 1 + reach]:
            yield each, other
    shown = [each for each in photographs if each.sight.thumbnail is not None]
    for at in range(1, len(shown)):
        earlier = [each.sight.thumbnail for each in shown[:at] if each.sight.thumbnail is not None]
        latest = shown[at].sight.thumbnail
        assert latest is not None
        for _, column, _ in candidates([latest], earlier):
            yield shown[column], shown[at]


@dataclass(frozen=True)
class Patch:
    """The target of a patch, small, and where it lies."""

    key: str  # of its photograph
    at: tuple[int, int]
    thumbnail: Thumbnail
    path: Path


def leaks(patches: Sequence[Patch], splits: Mapping[str, Split]) -> Iterator[tuple[Patch, Patch]]:
    """Yield patches of validation and test with those of another split that show the same, as `data check` finds them.

    Every pair of patches is compared, so of a very large set nothing is said here, and `data check` has the word.
    """
    if len(patches) > MOST_COMPARED:
        return
    members = {split: [each for each in patches if splits[each.key] == split] for split in SPLITS}
    for number, split in enumerate(SPLITS[1:], start=1):
        others = [each for other in SPLITS[:number] for each in members[other]]
        pairs = candidates([each.thumbnail for each in members[split]], [each.thumbnail for each in others])
        for row, column, orientation in pairs:
            first, second = members[split][row], others[column]
            if patches_show_one_scene(first.path, second.path, orientation):
                yield first, second


def assign(
    sizes: Mapping[str, int], before: Mapping[str, Split], *, seed: int, val: float, test: float
) -> dict[str, Split]:
    """Give every scene to a split by its number of pairs; scenes that have one keep it.

    Scenes come in an order that the seed decides; each goes where most pairs are lacking.
    """
    wanted: dict[Split, float] = {"train": 1 - val - test, "val": val, "test": test}
    total, have = sum(sizes.values()), Counter[Split]()
    splits: dict[str, Split] = {}
    for scene, split in before.items():
        if scene in sizes:
            splits[scene] = split
            have[split] += sizes[scene]
    for scene in sorted((s for s in sizes if s not in splits), key=lambda s: sha256(f"{seed}\0{s}".encode()).digest()):
        lacking = {split: share * total - have[split] for split, share in wanted.items()}
        # A scene larger than a small split's share would starve training: it goes there only where half of it fits.
        fitting = [s for s in SPLITS if s == "train" or (wanted[s] and lacking[s] >= sizes[scene] / 2)]
        chosen = max(fitting, key=lambda s: lacking[s] / max(wanted[s], 1e-9))
        splits[scene] = chosen
        have[chosen] += sizes[scene]
    return _nonempty(splits, sizes, before, wanted)


def _nonempty(
    splits: dict[str, Split], sizes: Mapping[str, int], before: Mapping[str, Split], wanted: Mapping[Split, float]
) -> dict[str, Split]:
    """Where there are scenes enough, give the smallest of training's to a split that has none."""
    for split in ("val", "test"):
        members: dict[str, list[str]] = defaultdict(list)
        for scene, at in splits.items():
            members[at].append(scene)
        free = sorted((s for s in members["train"] if s not in before), key=lambda s: (sizes[s], s))
        if wanted[split] and not members[split] and len(members["train"]) > 1 and free:
            splits[free[0]] = split
    return splits
