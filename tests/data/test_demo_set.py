import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nas.data.cache import build_once, cache_dir
from nas.data.check.report import check
from nas.data.demo import demo_set
from nas.data.demo.demo_set import DEMO_NOTE, PAIRS, PHOTOS, demo_folder, demo_summary, make_target, photo_path, recipes
from nas.data.demo.scene import KINDS, LEAF_RADII, draw_scene, power_law_radii
from nas.data.pairs import DataConfig, find_pairs, fingerprint, load_split, prepare
from nas.data.raw_format import RawFormat
from search_spaces.errors import DataError, UsageError


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the demo set, built once."""
    cache = tmp_path_factory.mktemp("demo-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISP_NAS_CACHE", str(cache))
        demo_folder()
    return cache


@pytest.fixture
def in_demo_cache(demo_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISP_NAS_CACHE", str(demo_cache))
    return demo_cache


def test_the_demo_set_reads_like_any_folder(in_demo_cache: Path) -> None:
    config = DataConfig("demo")
    assert {split: len(pairs) for split, pairs in find_pairs(config).items()} == PAIRS
    pairs = load_split(config, "val")
    assert pairs.raw.shape == (24, 256, 256)
    assert pairs.rgb.shape == (24, 256, 256, 3)
    assert len(load_split(DataConfig(str(demo_folder())), "test")) == 24


def test_no_pair_is_constant_or_saturated(in_demo_cache: Path) -> None:
    pairs = load_split(DataConfig("demo"), "train")
    assert pairs.rgb.reshape(len(pairs), -1).std(axis=1).min() > 10
    assert (pairs.raw == 1023).mean(axis=(1, 2)).max() < 0.2
    assert len({image.tobytes() for image in pairs.rgb}) == len(pairs)


def test_the_demo_set_passes_its_own_check(in_demo_cache: Path) -> None:
    report = check(DataConfig("demo"))
    assert report.ok, report.problems
    assert report.shift == (0, 0)


def test_a_photographed_scene_is_in_one_split_only() -> None:
    split_of: dict[str, set[str]] = {}
    for recipe in recipes():
        if recipe.photo:
            split_of.setdefault(recipe.photo.name, set()).add(recipe.split)
    assert split_of == {photo.name: {photo.split} for photo in PHOTOS}
    assert len(split_of) == 7
    assert set.union(*split_of.values()) == {"train", "val", "test"}


def test_every_pair_has_a_seed_of_its_own() -> None:
    assert len({recipe.seed for recipe in recipes()}) == sum(PAIRS.values())


def test_the_summary_counts_the_recipes_and_the_note_says_they_are_made_up() -> None:
    for split, counts in demo_summary().items():
        of_split = [recipe for recipe in recipes() if recipe.split == split]
        assert counts["pairs"] == len(of_split)
        assert counts["photo_pairs"] == sum(recipe.photo is not None for recipe in of_split)
        assert counts["made_up_pairs"] == sum(recipe.photo is None for recipe in of_split)
        assert counts["photos"] == len({recipe.photo.name for recipe in of_split if recipe.photo})
    total = sum(counts["pairs"] for counts in demo_summary().values())
    assert sum(counts["made_up_pairs"] for counts in demo_summary().values()) == pytest.approx(0.75 * total)
    assert "made-up" in DEMO_NOTE
    assert "simulated" in DEMO_NOTE


def test_a_pair_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from nas.data.demo.demo_set import make_target, recipes; r = recipes();"
        "print(hashlib.sha256(b''.join(make_target(r[i]).tobytes() for i in (0, 40, 41, 42, 43))).hexdigest())"
    )
    here = hashlib.sha256(b"".join(make_target(recipes()[i]).tobytes() for i in (0, 40, 41, 42, 43))).hexdigest()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_each_kind_of_scene_has_colour_and_contrast(seed: int) -> None:
    scene = draw_scene(seed).astype(float)
    assert scene.mean(axis=-1).std() > 10
    assert (scene.max(axis=-1) - scene.min(axis=-1)).mean() > 5


def test_radii_follow_the_power_law() -> None:
    low, high = LEAF_RADII
    radii = power_law_radii(np.random.default_rng(0), 20_000, LEAF_RADII)
    law = stats.truncpareto(2, high / low, scale=low)
    assert stats.kstest(radii, law.cdf).pvalue > 0.01


def test_the_cache_folder_follows_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ISP_NAS_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("ISP_NAS_CACHE")
    assert cache_dir().name == "isp-nas"


def test_a_built_demo_set_is_not_built_again(in_demo_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_set, "recipes", pytest.fail)
    assert demo_folder().parent == in_demo_cache
    assert [path.name for path in in_demo_cache.iterdir()] == [f"demo-v{demo_set.DEMO_VERSION}"]


def test_two_that_build_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISP_NAS_CACHE", str(tmp_path))
    few = [recipes()[0], recipes()[40]]
    monkeypatch.setattr(demo_set, "recipes", lambda: few)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: demo_folder(), range(2)))
    assert folders[0] == folders[1]
    assert list(tmp_path.iterdir()) == [folders[0]]
    assert len(list(folders[0].rglob("*.png"))) == 4


def test_a_broken_off_build_leaves_no_folder(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("done")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "set", build)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_says_where(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left on device; free space there"):
        build_once(tmp_path / "set", build)


def test_a_missing_photograph_is_named() -> None:
    with pytest.raises(DataError, match=r'photograph "coffee" is not at data/gone\.png in the package skimage'):
        photo_path(replace(PHOTOS[-1], path="data/gone.png"))
    with pytest.raises(DataError, match="no_such_package"):
        photo_path(replace(PHOTOS[-1], package="no_such_package"))


def test_the_fingerprint_names_version_and_seed_without_building(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISP_NAS_CACHE", str(tmp_path))
    before = fingerprint(DataConfig("demo"))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(demo_set, "DEMO_VERSION", demo_set.DEMO_VERSION + 1)
    assert fingerprint(DataConfig("demo")) != before


def test_another_raw_format_is_refused_and_another_packing_is_not(in_demo_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="demo set has the raw format"):
        find_pairs(DataConfig("demo", raw=RawFormat(bits=12)))
    rggb = DataConfig("demo", raw=RawFormat(packing="rggb"))
    assert prepare(rggb, tmp_path).name != fingerprint(DataConfig("demo"))
