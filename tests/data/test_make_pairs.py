"""Photographs become a set that trains: one sentence for each that cannot, and the same command goes on."""

import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from colour_profiles import CAMERAS
from dng import Camera
from flow import truncate
from photographed import FMT, View, photograph
from PIL import Image

from nas.data.check.report import check
from nas.data.make import assembly, maker, pair_writing, report_page
from nas.data.make.assembly import AssemblySettings
from nas.data.make.maker import MakeReport, make_pairs
from nas.data.make.photograph import MakeSettings
from nas.data.make.report_page import LEFT_OUT
from nas.data.make.scenes import Patch
from nas.data.pairs import DataConfig
from search_spaces.errors import DataError, UsageError

PATCH = 64
SETTINGS = MakeSettings("folder", patch=PATCH, raw=FMT)
ASSEMBLY = AssemblySettings(val=0.2, test=0.2)
SIZE = (300, 420)
STRAIGHT = View(degrees=2)
NAMES = ("a", "b", "c", "d")


pytestmark = pytest.mark.usefixtures("one_core_of_opencv")


def shoot(folder: Path, name: str, seed: int, view: View = STRAIGHT) -> None:
    truth = photograph(*SIZE, view=view, seed=seed)
    for kind in ("phone", "camera"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(truth.mosaic).save(folder / "phone" / f"{name}.png")
    Image.fromarray(truth.picture).save(folder / "camera" / f"{name}.jpg", quality=97)


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shot")
    for seed, name in enumerate(NAMES):
        shoot(folder, name, 20 + seed)
    return folder


@pytest.fixture
def photographs(shot: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shot, tmp_path / "photographs"))


def run(folder: Path, out: Path, settings: MakeSettings = SETTINGS, shares: AssemblySettings = ASSEMBLY) -> MakeReport:
    return make_pairs(folder / "phone", str(folder / "camera"), out, settings, shares, workers=1)


@pytest.fixture(scope="module")
def made(shot: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MakeReport]:
    out = tmp_path_factory.mktemp("made") / "pairs"
    return out, run(shot, out)


@pytest.fixture
def prepared(made: tuple[Path, MakeReport], tmp_path: Path) -> Path:
    """An output folder in which the four photographs are made already, and no pair is written."""
    out = tmp_path / "pairs"
    shutil.copytree(made[0] / ".isp-nas-make" / "photographs", out / ".isp-nas-make" / "photographs")
    return out


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "pairs.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_of(out: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.png")) if ".isp-nas-make" not in p.parts
    }


def test_the_set_is_fit_for_training(made: tuple[Path, MakeReport]) -> None:
    out, report = made
    result = check(DataConfig(str(out), raw=FMT))
    assert result.ok, result.problems
    assert result.counts == dict(report.pairs)
    assert min(report.pairs.values()) > 0
    assert report.check_options == " --black 64"


def test_every_pair_says_where_it_comes_from(made: tuple[Path, MakeReport], shot: Path) -> None:
    out, report = made
    rows = rows_of(out)
    assert len(rows) == sum(report.pairs.values()) == report.written
    for row in rows[::7]:
        at = int(row["row"]), int(row["column"])
        whole = np.asarray(Image.open(shot / "phone" / row["source"]))
        np.testing.assert_array_equal(
            np.asarray(Image.open(out / row["raw"])), whole[at[0] : at[0] + PATCH, at[1] : at[1] + PATCH]
        )
        assert np.asarray(Image.open(out / row["rgb"])).shape == (PATCH, PATCH, 3)


def test_a_scene_is_in_one_split(made: tuple[Path, MakeReport]) -> None:
    splits: dict[str, set[str]] = {}
    for row in rows_of(made[0]):
        splits.setdefault(row["source"], set()).add(row["split"])
    assert all(len(names) == 1 for names in splits.values())
    assert len(set.union(*splits.values())) == 3


def test_what_was_dropped_is_listed_with_the_reason_and_drawn(made: tuple[Path, MakeReport]) -> None:
    out, report = made
    with (out / "dropped.csv").open(encoding="utf-8") as file:
        dropped = list(csv.DictReader(file))
    assert len(dropped) == sum(count for reason, count in report.patches.items() if reason != "kept")
    page = (out / "report.html").read_text("utf-8")
    assert page.count("<rect") >= len(dropped) + report.patches["kept"]
    assert all(row["rgb"] in page for row in rows_of(out)[:1])


def test_the_same_command_again_writes_nothing(made: tuple[Path, MakeReport], shot: Path) -> None:
    out, _ = made
    before = files_of(out), (out / "pairs.csv").read_bytes()
    again = run(shot, out)
    assert again.written == 0
    assert (files_of(out), (out / "pairs.csv").read_bytes()) == before


def test_a_run_killed_while_it_wrote_goes_on_with_the_same_pairs(
    made: tuple[Path, MakeReport], prepared: Path, shot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photograph that comes meanwhile changes nothing that was decided."""

    class Killed(BaseException): ...

    count = 0

    def dying(*arguments: object) -> None:
        nonlocal count
        count += 1
        if count > 10:
            raise Killed
        pair_writing.write_pair(*arguments)

    out = prepared
    with monkeypatch.context() as patched:
        patched.setattr(maker, "write_pair", dying)
        with pytest.raises(Killed):
            run(shot, out)
    assert 0 < len(files_of(out)) < len(files_of(made[0]))
    assert not (out / "pairs.csv").exists()
    shutil.copytree(shot, tmp_path / "more")
    shoot(tmp_path / "more", "0", 31)
    run(tmp_path / "more", out)
    assert files_of(made[0]).items() <= files_of(out).items()
    assert len(files_of(out)) > len(files_of(made[0]))


def test_a_file_of_somebody_else_is_not_overwritten(prepared: Path, shot: Path, tmp_path: Path) -> None:
    out = tmp_path / "theirs"
    (out / "train").mkdir(parents=True)
    with pytest.raises(UsageError, match="something else"):
        run(shot, out)
    theirs = prepared / "train" / "fujifilm" / "1.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"mine")
    with pytest.raises(DataError, match="is there already"):
        run(shot, prepared)
    assert theirs.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["pairs.csv", "dropped.csv", "report.html"])
def test_a_table_that_somebody_changed_is_not_written_over(
    made: tuple[Path, MakeReport], shot: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made[0], out)
    mine = b"\n".join((out / name).read_bytes().splitlines()[:-1]) + b"\n"
    (out / name).write_bytes(mine)
    with pytest.raises(DataError, match=f"{name}. was changed since it was written; move it away"):
        run(shot, out)
    assert (out / name).read_bytes() == mine
    (out / name).unlink()
    run(shot, out)
    assert (out / name).read_bytes() == (made[0] / name).read_bytes()


def test_other_settings_need_another_folder(made: tuple[Path, MakeReport], shot: Path) -> None:
    with pytest.raises(UsageError, match="begun with another stride"):
        run(shot, made[0], replace(SETTINGS, stride=32))


@pytest.mark.parametrize(
    ("pattern", "old", "new"),
    [
        ("photographs/*/record.json", b'"white": 1023.0', b'"white": 1020.0'),
        ("photographs/*/sight.npz", b"PK", b"KP"),
        ("levels.json", b'"black": 64', b'"black": 60'),
        ("planned.csv", b"train/mediatek_raw/1.png", b"train/../../elsewhere.png"),
        ("planned.csv", b"train,", b"tr\xffin,"),
        ("planned.csv", b",raw,", b",row,"),
    ],
)
def test_a_state_that_is_not_as_it_was_written_is_refused(
    made: tuple[Path, MakeReport], shot: Path, tmp_path: Path, pattern: str, old: bytes, new: bytes
) -> None:
    out = Path(shutil.copytree(made[0], tmp_path / "pairs"))
    path = sorted((out / ".isp-nas-make").glob(pattern))[0]
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(DataError, match=r"remove that folder and run again|name a new folder with --out"):
        run(shot, out)
    assert files_of(out) == files_of(made[0])


def _halve_target(folder: Path) -> None:
    truncate(folder / "camera" / "b.jpg")


def _halve_mosaic(folder: Path) -> None:
    truncate(folder / "phone" / "b.png")


def _mirror(folder: Path) -> None:
    path = folder / "camera" / "b.jpg"
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)


def _exchange(folder: Path) -> None:
    shutil.copy(folder / "camera" / "a.jpg", folder / "camera" / "b.jpg")


def _copy(folder: Path) -> None:
    for kind, suffix in (("camera", "jpg"), ("phone", "png")):
        shutil.copy(folder / kind / f"a.{suffix}", folder / kind / f"b.{suffix}")


def _lose_target(folder: Path) -> None:
    (folder / "camera" / "b.jpg").unlink()


def _no_header(folder: Path) -> None:
    (folder / "phone" / "b.png").unlink()
    (folder / "phone" / "b.raw").write_bytes(bytes(2 * 300 * 420))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_halve_target, "damaged"),
        (_halve_mosaic, "damaged"),
        (_mirror, "mirrored"),
        (_exchange, "same scene"),
        (_copy, "copy of a.png"),
        (_lose_target, "there is none"),
        (_no_header, "without a header"),
    ],
)
def test_what_cannot_be_used_gets_a_sentence_and_the_rest_goes_on(
    photographs: Path, prepared: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(photographs)
    report = run(photographs, prepared)
    [refused] = report.refused
    assert refused.name.startswith("b.")
    assert said in refused.why
    assert refused.why.endswith(".")
    assert report.written > 0
    assert report.photographs == 4


def test_mosaics_of_another_sensor_are_left_out(photographs: Path, tmp_path: Path) -> None:
    (photographs / "phone" / "d.png").unlink()
    for name in ("a", "b", "c"):
        path = photographs / "phone" / f"{name}.png"
        values = np.asarray(Image.open(path))
        path.unlink()
        other = name == "b"
        Camera(black=(64,) * 4, white=4095 if other else 1023).write(
            path.with_suffix(".dng"), values * 4 if other else values
        )
    report = run(photographs, tmp_path / "pairs")
    [refused] = report.refused
    assert refused.name == "b.dng"
    assert "another sensor" in refused.why
    assert report.patches["kept"] == report.written, "what is left out does not count as kept"
    assert report.patches[LEFT_OUT] > 0
    page = (tmp_path / "pairs" / "report.html").read_text("utf-8")
    assert "left out: " in page


def test_mosaics_of_another_camera_of_the_same_levels_are_left_out(photographs: Path, tmp_path: Path) -> None:
    (photographs / "phone" / "d.png").unlink()
    for name in ("a", "b"):
        path = photographs / "phone" / f"{name}.png"
        values = np.asarray(Image.open(path))
        path.unlink()
        Camera(black=(64,) * 4, model=f"Phone {name}").write(path.with_suffix(".dng"), values)
    [refused] = run(photographs, tmp_path / "pairs").refused  # c.png tells no camera, and is taken
    assert {refused.name, refused.why} == {
        "b.dng",
        "It was taken with Phone b, the others with Phone a: another sensor; make its pairs in a folder of their own.",
    }


def test_mosaics_of_an_output_among_the_photographs_are_no_photographs(photographs: Path, tmp_path: Path) -> None:
    first = run(photographs, photographs / "phone" / "pairs")
    again = run(photographs, tmp_path / "pairs")
    assert again.photographs == first.photographs == len(NAMES)
    assert not again.refused


def test_photographs_of_one_wall_are_one_scene_and_that_is_said(tmp_path: Path) -> None:
    for number in range(3):
        shoot(tmp_path, f"{number}", 20, View(degrees=2, shot_noise=1e-4 * (number + 1), scale=1.05))
        path = tmp_path / "phone" / f"{number}.png"
        noisy = np.asarray(Image.open(path)) + np.random.default_rng(number).integers(0, 3, SIZE).astype(np.uint16)
        Image.fromarray(np.minimum(noisy, 1023)).save(path)
    report = run(tmp_path, tmp_path / "pairs")
    assert report.scenes == 1
    assert any("All 3 photographs show one scene" in note for note in report.notes)
    assert report.pairs["train"] == report.written


def test_no_pair_at_all_is_an_error_that_names_every_cause_and_leaves_a_report(
    photographs: Path, tmp_path: Path
) -> None:
    for path in sorted((photographs / "camera").iterdir())[:3]:
        truncate(path)
    (photographs / "camera" / "d.jpg").unlink()
    with pytest.raises(DataError, match=r"No pair could be made of 4 photographs\. .*a\.png.*: .*damaged") as raised:
        run(photographs, tmp_path / "pairs")
    assert "d.png: One target of the same name is needed" in str(raised.value)
    page = (tmp_path / "pairs" / "report.html").read_text("utf-8")
    assert all(name in page for name in ("a.png", "b.png", "c.png", "d.png"))
    assert (tmp_path / "pairs" / "dropped.csv").exists()


def test_names_that_are_markup_are_escaped_in_the_report(photographs: Path, tmp_path: Path) -> None:
    for name in ("b", "c", "d"):
        (photographs / "phone" / f"{name}.png").unlink()
    for kind, suffix in (("camera", "jpg"), ("phone", "png")):
        (photographs / kind / f"a.{suffix}").rename(photographs / kind / f"<b onload=x>&\n.{suffix}")
    out = tmp_path / "pairs"
    run(photographs, out)
    page = (out / "report.html").read_text("utf-8")
    assert "<b onload" not in page
    assert "&lt;b onload=x&gt;&amp;\\n" in page


def test_a_name_that_is_no_text_is_shown_by_its_bytes_and_stops_nothing(photographs: Path, prepared: Path) -> None:
    for kind, suffix in (("camera", "jpg"), ("phone", "png")):
        path = photographs / kind / f"b.{suffix}"
        try:
            path.rename(path.with_name(os.fsdecode(b"b\xff.") + suffix))
        except OSError:
            pytest.skip("this disk holds no such names")
    truncate(photographs / "camera" / os.fsdecode(b"b\xff.jpg"))
    report = run(photographs, prepared)
    [refused] = report.refused
    assert refused.name == r"b\udcff.png"
    assert refused.name in (prepared / "report.html").read_text("utf-8")


def test_the_report_holds_each_photograph_once_and_fits_a_phone(made: tuple[Path, MakeReport]) -> None:
    page = (made[0] / "report.html").read_text("utf-8")
    assert page.count('<image id="photograph-') == page.count('<use href="#photograph-') == len(NAMES)
    assert "width=device-width" in page
    assert "prefers-color-scheme:dark" in page


def test_of_very_many_photographs_the_report_shows_some_and_says_how_many_are_left_out(
    made: tuple[Path, MakeReport], prepared: Path, shot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_page, "SHOWN_PHOTOGRAPHS", 3)
    run(shot, prepared)
    page = (prepared / "report.html").read_text("utf-8")
    assert page.count('<image id="photograph-') == 3
    assert "1 more photographs are in pairs.csv" in page


def test_pairs_say_which_bits_and_colours_their_targets_had(photographs: Path, prepared: Path) -> None:
    path = photographs / "camera" / "b.jpg"
    with Image.open(path) as image:
        pixels = np.asarray(image)
    path.unlink()
    tifffile.imwrite(
        path.with_suffix(".tif"),
        pixels.astype(np.uint16) * 257,
        photometric="rgb",
        iccprofile=CAMERAS["Display P3"],
    )
    report = run(photographs, prepared)
    targets = {row["source"]: (row["target_bits"], row["target_colours"]) for row in rows_of(prepared)}
    assert targets["a.png"] == ("8", "not told, taken for sRGB")
    assert targets["b.png"] == ("16", "Display P3, converted to sRGB")
    assert "a.png and 2 more: the target does not say which colours it has; they were taken for sRGB" in report.notes
    assert "b.png: the colours of the target were converted from Display P3 to sRGB" in report.notes


def test_targets_are_matched_in_exposure_where_that_is_asked_for(photographs: Path, prepared: Path) -> None:
    path = photographs / "camera" / "b.jpg"
    darker = (np.asarray(Image.open(path)) * 0.5).astype(np.uint8)
    Image.fromarray(darker).save(path, quality=97)
    shutil.copytree(prepared, prepared.with_name("matched"))
    report = run(photographs, prepared)
    assert any("1 photographs (b.png) are exposed over 1 stop apart" in note for note in report.notes)
    run(photographs, prepared.with_name("matched"), shares=replace(ASSEMBLY, exposure="match"))
    factors = {row["source"]: float(row["brightened"]) for row in rows_of(prepared.with_name("matched"))}
    assert factors["b.png"] == pytest.approx(2, rel=0.1)
    assert factors["a.png"] == pytest.approx(1, rel=0.1)


def test_targets_are_brightened_no_further_than_little_of_them_is_clipped(photographs: Path, prepared: Path) -> None:
    path = photographs / "camera" / "b.jpg"
    pixels = np.asarray(Image.open(path)) * 0.5
    pixels[::8, ::8] = 200  # lights, in each patch
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=97)
    report = run(photographs, prepared, shares=replace(ASSEMBLY, exposure="match"))
    assert any("(b.png) were brightened less than their exposure asks for" in note for note in report.notes)
    rows = [row for row in rows_of(prepared) if row["source"] == "b.png"]
    assert rows
    assert 1 < float(rows[0]["brightened"]) < 1.9
    clipped = [(np.asarray(Image.open(prepared / row["rgb"])) == 255).mean() for row in rows]
    assert np.mean(clipped) < 0.01


def test_several_processes_make_the_same_pairs(made: tuple[Path, MakeReport], shot: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    seen: list[tuple[int, int]] = []
    make_pairs(
        shot / "phone", str(shot / "camera"), out, SETTINGS, ASSEMBLY, workers=2, progress=lambda *at: seen.append(at)
    )
    assert files_of(out) == files_of(made[0])
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_single_patches_alike_are_left_out_and_many_join_their_photographs(
    prepared: Path, shot: Path, made: tuple[Path, MakeReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_share(share: float) -> Callable[..., list[tuple[Patch, Patch]]]:
        def leaks(patches: list[Patch], splits: dict[str, str]) -> list[tuple[Patch, Patch]]:
            val = [each for each in patches if splits[each.key] == "val"]
            train = next(each for each in patches if splits[each.key] == "train")
            return [(each, train) for each in val[: max(1, int(share * len(val)))]]

        return leaks

    shutil.copytree(prepared, prepared.with_name("joined"))
    monkeypatch.setattr(assembly, "MOST_SHARED", 0.2)  # a photograph has nine patches
    monkeypatch.setattr(assembly, "leaks", of_share(0))
    report = run(shot, prepared)
    assert any("1 patches that show what a patch of another split shows" in note for note in report.notes)
    assert report.written == made[1].written - 1
    monkeypatch.setattr(assembly, "leaks", of_share(0.5))
    assert run(shot, prepared.with_name("joined")).scenes < report.scenes


def test_a_folder_in_which_a_run_is_at_work_is_left_to_it(photographs: Path, tmp_path: Path) -> None:
    from search_spaces.system.folder_lock import lock

    out = tmp_path / "pairs"
    (out / ".isp-nas-make").mkdir(parents=True)
    with lock(out / ".isp-nas-make"), pytest.raises(UsageError, match="Another run"):
        run(photographs, out)


def test_a_disk_without_links_gets_copies(
    made: tuple[Path, MakeReport], prepared: Path, shot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refusing)
    run(shot, prepared)
    assert files_of(prepared) == files_of(made[0])
