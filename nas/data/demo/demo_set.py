"""Make the built-in demo set, for searching on a machine without data.

The demo set is written once, as real PNG files in the challenge's layout, and read by the same code as any other
folder. Its targets are photographs that come with scikit-image and scikit-learn, and made-up scenes; its mosaics
are what `nas.data.demo.sensor` says a sensor would have recorded. No network is used.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nas.data.cache import build_once, cache_dir
from nas.data.decode import workers
from nas.data.demo.scene import SIZE, draw_scene
from nas.data.demo.sensor import capture
from nas.data.layout import SPLITS, Split
from nas.data.picture_file import open_picture
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError

DEMO_VERSION = 2  # raise whenever a pixel changes
DEMO_SEED = 0
DEMO_NOTE = (
    "Built-in demo pairs: three in four show made-up scenes, the rest crops of seven photographs, and all mosaics are "
    "simulated. They show that a search runs; for the quality of a phone's pictures only its own pairs count."
)

PAIRS = {"train": 160, "val": 24, "test": 24}
PHOTO_PAIRS = {"train": 40, "val": 6, "test": 6}  # shared evenly among the split's photographs

# Crops are averaged down by at least this, so that the target is cleaner than the photograph's own JPEG blocks
# and noise; Chelsea, 300 px high, allows no more.
LEAST_REDUCTION = 1.15
FAST_PNG = 1  # zlib level: the files are 10 % larger than at 6 and written four times as fast


@dataclass(frozen=True)
class Photo:
    """One photographed scene inside an installed package, and the only split it appears in."""

    name: str
    package: str
    path: str
    split: Split


# Of the stereo pair "motorcycle" only the left view: both show one scene.
PHOTOS = (
    Photo("astronaut", "skimage", "data/astronaut.png", "train"),
    Photo("chelsea", "skimage", "data/chelsea.png", "train"),
    Photo("rocket", "skimage", "data/rocket.jpg", "train"),
    Photo("motorcycle", "skimage", "data/motorcycle_left.png", "train"),
    Photo("china", "sklearn", "datasets/images/china.jpg", "train"),
    Photo("flower", "sklearn", "datasets/images/flower.jpg", "val"),
    Photo("coffee", "skimage", "data/coffee.png", "test"),
)


@dataclass(frozen=True)
class PairPlan:
    """All that one demo pair is made from; a made-up scene has no photo."""

    split: Split
    number: int
    seed: int
    photo: Photo | None


def recipes() -> list[PairPlan]:
    """List every pair of the demo set; each has a seed of its own."""
    return [
        PairPlan(split, number, seed=DEMO_SEED + 10_000 * at + number, photo=_photo(split, number))
        for at, split in enumerate(SPLITS)
        for number in range(PAIRS[split])
    ]


def _photo(split: Split, number: int) -> Photo | None:
    photos = [photo for photo in PHOTOS if photo.split == split]
    return photos[number % len(photos)] if number < PHOTO_PAIRS[split] else None


def demo_summary() -> dict[str, dict[str, int]]:
    """Count, per split, all pairs, those cut from photographs, the photographs, and those of made-up scenes."""
    return {
        split: {
            "pairs": PAIRS[split],
            "photo_pairs": PHOTO_PAIRS[split],
            "photos": sum(photo.split == split for photo in PHOTOS),
            "made_up_pairs": PAIRS[split] - PHOTO_PAIRS[split],
        }
        for split in SPLITS
    }


def demo_folder(*, progress: Callable[[int, int], None] | None = None) -> Path:
    """Return the folder of the demo set, in the challenge's layout; writes it where it is not in the cache yet."""

    def build(folder: Path) -> None:
        for split in SPLITS:
            for kind in ("mediatek_raw", "fujifilm"):
                (folder / split / kind).mkdir(parents=True)
        everything = recipes()
        with ThreadPoolExecutor(workers()) as pool:
            for done, _ in enumerate(pool.map(lambda recipe: _write_pair(folder, recipe), everything), start=1):
                if progress is not None:
                    progress(done, len(everything))

    return build_once(cache_dir() / f"demo-v{DEMO_VERSION}", build)


def _write_pair(folder: Path, recipe: PairPlan) -> None:
    target = make_target(recipe)
    mosaic = capture(target, RawFormat(), seed=recipe.seed)
    name = f"{recipe.number}.png"
    Image.fromarray(target).save(folder / recipe.split / "fujifilm" / name, compress_level=FAST_PNG)
    Image.fromarray(mosaic).save(folder / recipe.split / "mediatek_raw" / name, compress_level=FAST_PNG)


def make_target(recipe: PairPlan) -> UInt8[np.ndarray, "256 256 3"]:
    """Draw the scene of a recipe, or cut it from its photograph."""
    return draw_scene(recipe.seed) if recipe.photo is None else cut_photo(recipe.photo, seed=recipe.seed)


def cut_photo(photo: Photo, *, seed: int) -> UInt8[np.ndarray, "256 256 3"]:
    """Cut a random square of a photograph and average it down to the size of a pair."""
    rng = np.random.default_rng(seed)
    with open_picture(photo_path(photo)) as image:
        reduction = rng.uniform(LEAST_REDUCTION, min(image.size) / SIZE)
        side = reduction * SIZE
        left, top = (rng.uniform(0, extent - side) for extent in image.size)
        box = (left, top, left + side, top + side)
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX, box=box))


def photo_path(photo: Photo) -> Path:
    """Find a photograph inside its installed package, without importing the package."""
    spec = find_spec(photo.package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    path = next((p for folder in folders if (p := Path(folder, photo.path)).is_file()), None)
    if path is None:
        raise DataError(
            f'The photograph "{photo.name}" is not at {photo.path} in the package {photo.package}; reinstall the '
            "pinned versions of scikit-image and scikit-learn, or search on a folder with --data."
        )
    return path
