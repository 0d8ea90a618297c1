"""Decide which patches become which pairs: one kind of mosaic, scenes to splits, numbers to patches.

Pure: from the records of all photographs and the pairs that are there already. A photograph that came later adds pairs
and changes none.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from nas.data.check.problems import listed
from nas.data.decode import read_rgb
from nas.data.layout import SPLITS, Split
from nas.data.make.patch_judging import Judgement
from nas.data.make.photograph import KEEP
from nas.data.make.photograph_state import FinishedPhotograph, PhotographRecord
from nas.data.make.scenes import Patch, Seen, assign, group, leaks
from nas.data.make.sources import Refused

MATCH = "match"
EXPOSURE_CHOICES = ("keep", MATCH)
# Of the values of a photograph's patches, so many at most are clipped by brightening.
MOST_CLIPPED = 0.005
MOST_SHARED = 0.1  # of a photograph's patches: with more in another photograph, both are of one scene
BLACK_WITHIN = 1.0  # levels of the mosaic: black of one kind of sensor


@dataclass(frozen=True)
class AssemblySettings:
    """How patches become a set."""

    per_photograph: int | None = None
    seed: int = 0
    val: float = 0.1
    test: float = 0.1
    gap_s: float = 10.0  # photographs taken within it are of one scene
    exposure: str = "keep"


@dataclass(frozen=True)
class SetLevels:
    """What all mosaics of a set share, as `isp-nas data check` and `search` are told it."""

    black: int
    white: int
    exposure: float | None  # the median over photographs, to which targets may be matched
    camera: str | None = None  # None where RAW files do not tell

    @property
    def bits(self) -> int:
        """The fewest bits that hold the white level."""
        return max(9, self.white.bit_length())


@dataclass(frozen=True)
class PlannedPair:
    """One pair to be written."""

    split: Split
    number: int
    source: FinishedPhotograph
    judgement: Judgement
    scene: str
    brighten: float  # factor on the target's values


@dataclass(frozen=True)
class AssemblyPlan:
    """What is to be written, and what is left out."""

    levels: SetLevels
    pairs: tuple[PlannedPair, ...]
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]
    splits: Mapping[str, Split]  # of each scene


def plan(
    photographs: Sequence[FinishedPhotograph],
    settings: AssemblySettings,
    *,
    levels: SetLevels | None = None,
    before: Mapping[str, Split] | None = None,  # the split of photographs that were planned earlier, by key
    numbers: Mapping[Split, int] | None = None,  # the highest that is there
    black_levels: str = KEEP,
) -> AssemblyPlan | None:
    """Plan the pairs of a set; None where no photograph has a patch that was kept."""
    earlier = dict(before or {})
    usable = [each for each in photographs if each.record.kept]
    if not usable:
        return None
    levels = levels or _levels(usable)
    same = [each for each in usable if _fits(each.record, levels)]
    refused = [
        Refused(each.record.name, _other_sensor(each.record, levels))
        for each in usable
        if not _fits(each.record, levels)
    ]
    chosen = {each.key: _chosen(each, settings) for each in same}
    scenes, splits, shared = _split(same, chosen, earlier, settings)
    new = [each for each in same if each.key not in earlier]
    brighten = {each.key: _brighten(each, chosen[each.key], levels) for each in new if settings.exposure == MATCH}
    factors = {key: factor for key, (factor, _) in brighten.items()}
    pairs = _numbered(new, chosen, scenes, splits, factors, Counter(numbers or {}))
    notes = _notes(same, levels, splits, settings, black_levels)
    if limited := [each.record.name for each in new if each.key in brighten and brighten[each.key][1]]:
        notes.append(
            f"{len(limited)} photographs ({listed(limited)}) were brightened less than their exposure asks for: more "
            f"than {MOST_CLIPPED:.1%} of their values would have been clipped."
        )
    if shared:
        notes.append(f"{shared} patches that show what a patch of another split shows were left out.")
    return AssemblyPlan(levels, tuple(pairs), tuple(refused), tuple(notes), splits)


def _split(
    same: Sequence[FinishedPhotograph],
    chosen: dict[str, list[Judgement]],
    earlier: Mapping[str, Split],
    settings: AssemblySettings,
) -> tuple[dict[str, str], dict[str, Split], int]:
    """Return the scene of each photograph and the split of each scene; and of how many patches `chosen` was freed.

    Photographs that share many patches though they differ as a whole are of one scene, and scenes are shared out
    again; single patches that are alike are left out of validation and test.
    """
    seen = [_seen(each) for each in same]
    patches = [patch for each in same if each.key in chosen for patch in _patches(each, chosen[each.key])]
    together: set[tuple[str, str]] = set()
    while True:
        scenes = group(seen, gap_s=settings.gap_s, also=together)
        sizes = Counter[str]()
        for key, of_photograph in chosen.items():
            sizes[scenes[key]] += len(of_photograph)
        fixed = {scenes[key]: split for key, split in earlier.items() if key in scenes}
        splits = assign(sizes, fixed, seed=settings.seed, val=settings.val, test=settings.test)
        shared = list(leaks(patches, {key: splits[scenes[key]] for key in chosen}))
        counts = Counter((first.key, second.key) for first, second in shared)
        more = {pair for pair, count in counts.items() if count > MOST_SHARED * len(chosen[pair[0]])} - together
        if not more:
            break
        together |= more
    odd = {(first.key, first.at) for first, _ in shared if first.key not in earlier}
    for key, of_photograph in chosen.items():
        chosen[key] = [each for each in of_photograph if (key, (each.row, each.column)) not in odd]
    return scenes, splits, len(odd)


def _patches(each: FinishedPhotograph, chosen: Sequence[Judgement]) -> Iterator[Patch]:
    wanted = {(patch.row, patch.column) for patch in chosen}
    for at, small in each.thumbnails().items():
        if at in wanted:
            yield Patch(each.key, at, small, each.patch(*at, "rgb"))


def _levels(usable: Sequence[FinishedPhotograph]) -> SetLevels:
    """The levels, and of these the camera, that most photographs have."""
    (black, white), _ = Counter(_levels_of(each.record) for each in usable).most_common(1)[0]
    own = [each.record for each in usable if _levels_of(each.record) == (black, white)]
    cameras = Counter(record.camera for record in own if record.camera is not None)
    camera = cameras.most_common(1)[0][0] if cameras else None
    known = [record.exposure for record in own if record.exposure is not None and record.camera in (None, camera)]
    return SetLevels(black, white, float(np.median(known)) if known else None, camera)


def _levels_of(record: PhotographRecord) -> tuple[int, int]:
    return round(float(np.mean(record.black))), round(record.white)


def _fits(record: PhotographRecord, levels: SetLevels) -> bool:
    same_black = abs(float(np.mean(record.black)) - levels.black) <= BLACK_WITHIN
    return round(record.white) == levels.white and same_black and not _is_of_another_camera(record, levels)


def _is_of_another_camera(record: PhotographRecord, levels: SetLevels) -> bool:
    return None not in (record.camera, levels.camera) and record.camera != levels.camera


def _other_sensor(record: PhotographRecord, levels: SetLevels) -> str:
    if _is_of_another_camera(record, levels):
        return (
            f"It was taken with {record.camera}, the others with {levels.camera}: another sensor; make its pairs in a "
            "folder of their own."
        )
    return (
        f"Its mosaic has black {float(np.mean(record.black)):g} and white {record.white:g}, those of the others have "
        f"{levels.black} and {levels.white}: another sensor or mode; make its pairs in a folder of their own"
        + (", or use --black-levels subtract." if round(record.white) == levels.white else ".")
    )


def _seen(each: FinishedPhotograph) -> Seen:
    return Seen(each.key, each.record.name, each.sight(), each.record.taken, each.record.scene)


def _chosen(each: FinishedPhotograph, settings: AssemblySettings) -> list[Judgement]:
    """Return the patches of a photograph, some by chance where fewer are wanted."""
    kept = each.record.kept
    if settings.per_photograph is None or len(kept) <= settings.per_photograph:
        return kept
    seed = int.from_bytes(sha256(f"{settings.seed}\0{each.key}".encode()).digest()[:8], "big")
    order = np.random.default_rng(seed).permutation(len(kept))[: settings.per_photograph]
    return [kept[number] for number in sorted(order)]


def _numbered(
    new: Sequence[FinishedPhotograph],
    chosen: Mapping[str, Sequence[Judgement]],
    scenes: Mapping[str, str],
    splits: Mapping[str, Split],
    factors: Mapping[str, float],  # on targets, by photograph; one where there is none
    numbers: Counter[Split],
) -> list[PlannedPair]:
    pairs = []
    for each in new:
        scene = scenes[each.key]
        split = splits[scene]
        for judgement in chosen[each.key]:
            numbers[split] += 1
            pairs.append(PlannedPair(split, numbers[split], each, judgement, scene, factors.get(each.key, 1.0)))
    return pairs


def _brighten(each: FinishedPhotograph, chosen: Sequence[Judgement], levels: SetLevels) -> tuple[float, bool]:
    """The factor on display values that gives a target the exposure, beside its mosaic, of the whole set.

    It is limited where it would clip more than MOST_CLIPPED of the values that are not clipped yet; True tells so.
    """
    from nas.data.check.measurement import CURVE

    exposure = each.record.exposure
    if exposure is None or levels.exposure is None or not chosen:
        return 1.0, False
    wanted = float(2.0 ** ((exposure - levels.exposure) / CURVE))
    most = _most_brightening(each, chosen) if wanted > 1 else math.inf
    return min(wanted, most), wanted > most


def _most_brightening(each: FinishedPhotograph, chosen: Sequence[Judgement]) -> float:
    """The largest factor that clips few of the values below 255."""
    counts = np.zeros(256, np.int64)
    for patch in chosen:
        counts += np.bincount(read_rgb(each.patch(patch.row, patch.column, "rgb")).ravel(), minlength=256)
    as_bright = np.cumsum(counts[254::-1])[::-1]  # values from here to 254
    bright_levels = np.nonzero(as_bright > MOST_CLIPPED * counts.sum())[0]  # the brightest of these must not be clipped
    return 255 / max(1, int(bright_levels[-1])) if len(bright_levels) else math.inf


EXPOSURE_TOLD_FROM = 1.0  # stops off the median


def _notes(
    same: Sequence[FinishedPhotograph],
    levels: SetLevels,
    splits: Mapping[str, Split],
    settings: AssemblySettings,
    black_levels: str,
) -> list[str]:
    notes = []
    off = [
        each.record
        for each in same
        if each.record.exposure is not None
        and levels.exposure is not None
        and abs(each.record.exposure - levels.exposure) > EXPOSURE_TOLD_FROM
    ]
    if off:
        done = "targets were matched" if settings.exposure == MATCH else "--exposure match corrects the targets"
        names = ", ".join(record.name for record in off[:3])
        notes.append(f"{len(off)} photographs ({names}) are exposed over 1 stop apart from the others; {done}.")
    spread = max((max(each.record.black) - min(each.record.black) for each in same), default=0.0)
    if black_levels == KEEP and spread > BLACK_WITHIN:
        notes.append(
            f"Black levels of the four colours differ by {spread:g}, and a training knows one ({levels.black}); "
            "--black-levels subtract takes each off."
        )
    members: dict[Split, int] = defaultdict(int)
    for split in splits.values():
        members[split] += 1
    if len(splits) == 1 and len(same) > 1:
        notes.append(
            f"All {len(same)} photographs show one scene, so that validation would know what training saw; add others."
        )
    elif empty := [
        split for split in SPLITS if not members[split] and {"val": settings.val, "test": settings.test}.get(split)
    ]:
        scenes = f"{len(splits)} scenes are" if len(splits) != 1 else "1 scene is"
        notes.append(f"{scenes} too few for {' and '.join(empty)}; add photographs of others.")
    return notes
