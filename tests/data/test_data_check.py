import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data.check.measurement import measure
from nas.data.check.near_duplicates import TURNED, turned
from nas.data.check.problems import Problem
from nas.data.check.report import CheckReport, check
from nas.data.demo.scene import draw_scene
from nas.data.demo.sensor import capture
from nas.data.pairs import DataConfig, Pair
from nas.data.raw_format import PATTERNS, RawFormat

REAL = Path(__file__).parents[3] / "shared" / "data" / "raw_pairs"
SIDE = 96
COUNTS = {"train": 6, "val": 2, "test": 2}

Images = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    """Large enough to cut shifted pairs from."""
    return [draw_scene(seed)[:128, :128] for seed in range(sum(COUNTS.values()))]


def made_pairs(scenes: list[np.ndarray], *, shift: tuple[int, int] = (0, 0), fmt: RawFormat = RawFormat()) -> Images:  # noqa: B008 frozen
    """Pairs keyed "train/0" …, the target's content lying `shift` px down and right of the mosaic's."""
    names = [f"{split}/{number}" for split, count in COUNTS.items() for number in range(count)]
    made = {}
    for seed, (name, scene) in enumerate(zip(names, scenes, strict=True)):
        raw = capture(scene, fmt, seed=seed)[16 : 16 + SIDE, 16 : 16 + SIDE]
        top, left = 16 - shift[0], 16 - shift[1]
        made[name] = (raw, scene[top : top + SIDE, left : left + SIDE])
    return made


def write(root: Path, images: Images, *, layout: tuple[str, str] = ("mediatek_raw", "fujifilm")) -> DataConfig:
    for name, pair in images.items():
        split, number = name.split("/")
        for kind, image in zip(layout, pair, strict=True):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / split / kind / f"{number}.png")
    return DataConfig(str(root))


def errors(report: CheckReport) -> list[Problem]:
    return [problem for problem in report.problems if problem.severity == "error"]


def only(problems: list[Problem] | tuple[Problem, ...]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


def test_good_pairs_are_ok(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    seen: list[tuple[int, int]] = []
    report = check(write(tmp_path, made_pairs(scenes)), progress=lambda done, total: seen.append((done, total)))
    assert report.ok
    assert report.problems == ()
    assert report.counts == COUNTS
    assert (report.readable, report.size, report.shift) == (10, (SIDE, SIDE), (0, 0))
    assert report.raw.bits_observed == 10
    assert max(report.pattern_scores, key=report.pattern_scores.__getitem__) == "RGGB"
    assert seen == [(done, 10) for done in range(1, 11)]


def test_a_report_is_json(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    report = check(write(tmp_path, made_pairs(scenes, shift=(2, 2))))
    read = json.loads(json.dumps(report.to_dict()))
    assert read["ok"] is False
    assert read["counts"] == COUNTS
    assert set(read["problems"][0]) == {"severity", "name", "what", "what_to_do", "names"}


def test_an_unreadable_file_is_named_and_the_rest_still_checked(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    config = write(tmp_path, made_pairs(scenes))
    path = tmp_path / "val" / "fujifilm" / "1.png"
    path.write_bytes(path.read_bytes()[:500])
    report = check(config)
    problem = only(errors(report))
    assert problem.name == "val/1"
    assert str(path) in problem.what
    assert problem.what_to_do == "copy it from the source again"
    assert report.readable == 9


def test_swapped_folders_are_one_error(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    report = check(write(tmp_path, made_pairs(scenes), layout=("fujifilm", "mediatek_raw")))
    assert "swapped: train/mediatek_raw holds colour images" in only(report.problems).what


@pytest.mark.parametrize("shift", [(1, 0), (-2, 3), (4, 6)])
def test_a_systematic_shift_is_an_error_with_its_size(
    tmp_path: Path, scenes: list[np.ndarray], shift: tuple[int, int]
) -> None:
    report = check(write(tmp_path, made_pairs(scenes, shift=shift)))
    assert report.shift == pytest.approx(shift, abs=0.3)
    assert "targets lie off their mosaics by (dy, dx) = (" in only(errors(report)).what


def test_a_single_shifted_pair_is_a_warning(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    images["train/3"] = made_pairs(scenes, shift=(4, 0))["train/3"]
    report = check(write(tmp_path, images))
    assert report.ok
    problem = only(report.problems)
    assert problem.name == "train/3"
    assert re.search(r"\(dy, dx\) = \(4(\.25)?, 0\) px", problem.what)


def test_unrelated_mosaics_and_targets_are_an_error(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    targets = [rgb for _, rgb in images.values()]
    mixed = {name: (raw, rgb) for (name, (raw, _)), rgb in zip(images.items(), targets[1:] + targets[:1], strict=True)}
    assert any("no structure in common" in problem.what for problem in errors(check(write(tmp_path, mixed))))


def test_one_unrelated_pair_is_a_warning(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    images["train/1"] = (images["train/1"][0], np.ascontiguousarray(images["train/1"][1][::-1]))
    report = check(write(tmp_path, images))
    assert report.ok
    assert (only(report.problems).name, only(report.problems).severity) == ("train/1", "warning")


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("declared", ["RGGB", "GBRG"])
def test_a_wrong_bayer_pattern_is_named(tmp_path: Path, scenes: list[np.ndarray], pattern: str, declared: str) -> None:
    config = write(tmp_path, made_pairs(scenes, fmt=RawFormat(pattern=pattern)))
    report = check(replace(config, raw=RawFormat(pattern=declared)))
    if pattern == declared:
        assert report.problems == ()
    else:
        problem = only(report.problems)
        assert problem.severity == "error"
        assert problem.what_to_do.startswith(f"give --pattern {pattern}")


def quad_bayer(scene: np.ndarray, seed: int) -> np.ndarray:
    """Move every value of a Bayer mosaic's 4×4 tile so that one filter covers 2×2 px, as on the IMX586."""
    bayer = capture(np.repeat(np.repeat(scene[:48, :48], 2, 0), 2, 1), RawFormat(), seed=seed)
    quad = np.empty_like(bayer)
    for row in range(4):
        for column in range(4):
            source = (row // 2) + 2 * (row % 2), (column // 2) + 2 * (column % 2)
            quad[row::4, column::4] = bayer[source[0] :: 4, source[1] :: 4]
    return quad


def test_a_quad_bayer_mosaic_is_an_error(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = {
        name: (quad_bayer(scene, seed), np.repeat(np.repeat(scene[:48, :48], 2, 0), 2, 1))
        for seed, (name, scene) in enumerate(zip(made_pairs(scenes), scenes, strict=True))
    }
    assert "Quad-Bayer" in only(errors(check(write(tmp_path, images)))).what


def test_grey_raw_files_are_not_taken_for_mosaics(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    grey = {name: ((rgb.mean(axis=-1) * 4).astype(np.uint16), rgb) for name, (_, rgb) in made_pairs(scenes).items()}
    report = check(write(tmp_path, grey))
    assert any("neither demosaiced nor grey" in problem.what_to_do for problem in report.problems)


def test_a_target_in_two_splits_is_a_leak(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    images["val/0"] = (capture(images["train/2"][1], RawFormat(), seed=99), images["train/2"][1])
    problem = only(check(write(tmp_path, images)).problems)
    assert (problem.severity, problem.name) == ("error", "val/0")
    assert "leak: its target is a copy of that of train/2" in problem.what


def test_a_mosaic_in_two_splits_is_a_leak(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    brighter = np.minimum(images["train/2"][1].astype(int) + 1, 255).astype(np.uint8)
    images["test/1"] = (images["train/2"][0], brighter)
    problem = only(check(write(tmp_path, images)).problems)
    assert (problem.severity, problem.name) == ("error", "test/1")
    assert "leak: its mosaic" in problem.what


def test_one_target_for_two_mosaics_is_an_error(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    images["train/4"] = (capture(images["train/2"][1], RawFormat(), seed=99), images["train/2"][1])
    problem = only(check(write(tmp_path, images)).problems)
    assert (problem.severity, problem.name) == ("error", "train/4")
    assert "their mosaics differ" in problem.what


def test_a_pair_that_is_there_twice_is_a_warning(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    images["train/4"] = images["train/2"]
    report = check(write(tmp_path, images))
    assert report.ok
    assert {problem.name for problem in report.problems} == {"train/4"}


def test_constant_pairs_are_warnings_and_no_copies(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    constant = (np.full((SIDE, SIDE), 300, np.uint16), np.full((SIDE, SIDE, 3), 90, np.uint8))
    images["train/0"] = images["val/1"] = constant
    images["train/1"] = (images["train/1"][0], constant[1])
    report = check(write(tmp_path, images))
    assert report.ok
    assert sorted((problem.names, "and the" in problem.what) for problem in report.problems) == [
        (("train/0", "val/1"), False),
        (("train/1",), True),
    ]


def test_a_clipped_pair_is_a_warning(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    raw = images["train/5"][0].copy()
    raw[:60] = 1023
    images["train/5"] = (raw, images["train/5"][1])
    report = check(write(tmp_path, images))
    assert report.ok
    assert any("62% of the mosaic is saturated" in problem.what for problem in report.problems), report.problems


def test_values_above_white_are_one_error_with_the_bits_needed(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    config = write(tmp_path, made_pairs(scenes, fmt=RawFormat(bits=12)))
    problem = only(errors(check(config)))
    assert "above the white level 1023" in problem.what
    assert "needs 12 bits, and 10 are declared" in problem.what
    assert "--bits" in problem.what_to_do
    assert check(replace(config, raw=RawFormat(bits=12))).problems == ()


def test_too_many_declared_bits_are_a_warning(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    report = check(replace(write(tmp_path, made_pairs(scenes)), raw=RawFormat(bits=14)))
    assert report.ok
    assert "give --bits 10" in only(report.problems).what_to_do


def test_values_scaled_up_from_fewer_bits_are_a_warning(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = {name: (raw << 6, rgb) for name, (raw, rgb) in made_pairs(scenes).items()}
    report = check(replace(write(tmp_path, images), raw=RawFormat(bits=16)))
    assert report.raw.step == 64
    assert "multiple of 64" in only(report.problems).what


def test_an_undeclared_black_level_is_a_warning(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    fmt = RawFormat(black=64)
    config = write(tmp_path, made_pairs(scenes, fmt=fmt))
    report = check(config)
    assert report.ok
    assert "--black" in only(report.problems).what_to_do
    assert report.raw.black_estimate == pytest.approx(64, abs=20)
    assert check(replace(config, raw=fmt)).problems == ()


def test_a_colour_that_lacks_one_channel_is_not_black(scenes: list[np.ndarray]) -> None:
    raw, rgb = next(iter(made_pairs(scenes).values()))
    red = np.maximum(rgb, [120, 0, 0]).astype(np.uint8) * np.array([1, 1, 0], np.uint8)
    pair = Pair("0", Path("raw/0.png"), Path("rgb/0.png"))
    assert measure("train", pair, raw, red, RawFormat()).darkest[1] >= 120


def test_pairs_of_another_size_are_errors(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    images["test/0"] = tuple(image[:64, :64] for image in images["test/0"])  # type: ignore[assignment]
    problem = only(errors(check(write(tmp_path, images))))
    assert problem.name == "test/0"
    assert "64×64 px, while train/0 has 96×96" in problem.what


def test_patches_too_small_or_flat_to_align_say_so(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    tiny = {name: (raw[:16, :16], rgb[:16, :16]) for name, (raw, rgb) in made_pairs(scenes).items()}
    report = check(write(tmp_path, tiny))
    assert report.shift is None
    assert any("too few pairs have texture" in problem.what for problem in report.problems)


def test_nothing_readable_is_reported_without_numbers(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    config = write(tmp_path, made_pairs(scenes))
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"damaged")
    report = check(config)
    problem = only(errors(report))
    assert (problem.name, len(problem.names)) == ("all pairs", 10)
    assert (report.readable, report.size, report.shift, report.rgb_range) == (0, None, None, None)


def test_pairs_of_another_phase_are_named_with_how_to_cut_them(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images, odd = made_pairs(scenes), made_pairs(scenes, fmt=RawFormat(pattern="GRBG"))
    images |= {name: odd[name] for name in ("train/0", "train/3", "test/1")}
    problem = only(errors(check(write(tmp_path, images))))
    assert problem.name == "3 of 10 pairs"
    assert set(problem.names) <= set(images)
    assert {"train/0", "train/3"} <= set(problem.names)
    assert "looks like GRBG, and RGGB is declared: it begins at an odd column" in problem.what
    assert "one column later" in problem.what_to_do


def test_exchanged_red_and_blue_are_one_of_two_explanations(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = {name: (raw, rgb[..., ::-1].copy()) for name, (raw, rgb) in made_pairs(scenes).items()}
    problem = only(errors(check(write(tmp_path, images))))
    assert "looks like BGGR" in problem.what
    assert "red and blue are exchanged (BGR" in problem.what
    assert "store them as RGB" in problem.what_to_do


def half_of(image: np.ndarray) -> np.ndarray:
    """What a broken transfer leaves: the upper half, and a grey for the rest."""
    return np.concatenate([image[: len(image) // 2], np.full_like(image[len(image) // 2 :], 128)])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda raw, _, other: (raw, other), "no structure in common"),
        (lambda raw, rgb, _: (raw, np.zeros_like(rgb)), "the target is (almost) constant"),
        (lambda raw, rgb, _: (raw, np.roll(rgb, (4, 0), (0, 1))), "the target lies off its mosaic"),
        (lambda raw, rgb, _: (raw // 8, rgb), "darker beside its target"),
        (lambda raw, rgb, _: (raw, rgb[..., 1:2].repeat(3, axis=2)), "the target is grey"),
        (lambda raw, rgb, _: (raw, rgb // 64 * 85), "the target has 4 different values"),
        (lambda raw, rgb, _: (half_of(raw), rgb), "rows of the mosaic are one value"),
        (lambda raw, rgb, _: (raw, half_of(rgb)), "rows of the target are one value"),
    ],
    ids=["mispaired", "black targets", "shifted", "scaled", "grey", "palette", "half a mosaic", "half a target"],
)
def test_what_one_pair_may_have_is_an_error_in_several(
    tmp_path: Path, scenes: list[np.ndarray], spoil: Callable[..., tuple[np.ndarray, np.ndarray]], says: str
) -> None:
    images = made_pairs(scenes)
    spoilt = ("train/1", "train/4")
    for name in spoilt:
        raw, rgb = images[name]
        images[name] = spoil(raw, rgb, np.ascontiguousarray(rgb[::-1, ::-1]))
    report = check(write(tmp_path, images))
    problems = [problem for problem in errors(report) if says in problem.what]
    assert not report.ok
    assert set(only(problems).names) == set(spoilt)


def test_some_targets_of_another_white_balance_are_told(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    warm, warmer = ("train/1", "train/3", "train/4"), np.array([2.0, 1.0, 0.5])
    assert not any("white balance" in each.what for each in check(write(tmp_path / "as they are", images)).problems)
    for name in warm:
        images[name] = images[name][0], np.clip(images[name][1] * warmer, 0, 255).astype(np.uint8)
    problems = [each for each in check(write(tmp_path / "warmer", images)).problems if "white balance" in each.what]
    assert set(only(problems).names) == set(warm)


def test_a_scene_in_two_splits_is_a_leak_though_no_file_is_a_copy(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = made_pairs(scenes)
    for leaked, source in (("val/0", "train/2"), ("test/1", "train/5")):
        rgb = images[source][1]
        noisy = np.clip(rgb * 1.1 + np.random.default_rng(1).normal(0, 4, rgb.shape), 0, 255).astype(np.uint8)
        images[leaked] = (capture(noisy, RawFormat(), seed=50), noisy)
    problem = only(errors(check(write(tmp_path, images))))
    assert set(problem.names) == {"val/0", "test/1"}
    assert "leak: the target shows the scene of train/2, train/5" in problem.what


@pytest.mark.parametrize("orientation", TURNED)
def test_a_turned_or_mirrored_scene_in_two_splits_is_a_leak(
    tmp_path: Path, scenes: list[np.ndarray], orientation: int
) -> None:
    images = made_pairs(scenes)
    for leaked, source in (("val/0", "train/2"), ("test/1", "train/5")):
        rgb = np.ascontiguousarray(turned(images[source][1], orientation))
        images[leaked] = (capture(rgb, RawFormat(), seed=50), rgb)
    problem = only(errors(check(write(tmp_path, images))))
    assert set(problem.names) == {"val/0", "test/1"}
    assert "leak: the target shows the scene of train/2, train/5, turned or mirrored, which is in" in problem.what


def test_an_8_bit_mosaic_that_was_rescaled_is_an_error(tmp_path: Path, scenes: list[np.ndarray]) -> None:
    images = {name: (np.minimum(raw >> 2, 255), rgb) for name, (raw, rgb) in made_pairs(scenes).items()}
    images["train/0"][0][:2, :2] = 255
    assert any("the largest of 8 bits" in problem.what for problem in errors(check(write(tmp_path, images))))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pairs are not here")
def test_the_real_pairs_are_ok_and_aligned() -> None:
    report = check(DataConfig(str(REAL)))
    assert report.ok, errors(report)
    assert report.counts == {"train": 334, "val": 47, "test": 96}
    assert report.shift == (0, 0)
    assert report.raw.bits_observed == 10
