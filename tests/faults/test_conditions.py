"""A few of the conditions of `conditions.py`, for the time that CI has; all of them are run by its own command."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flow import COMMAND, in_process, make_study, refusal, snapshot
from PIL import Image

from latency_models.measure.importing import import_files
from latency_models.measurements import Conditions
from nas.data.camera_raw import find_raw_files
from nas.data.decode import read_rgb
from nas.export.folder import PREFIX, publish
from nas.plots import PlotPoint, save_front
from search_spaces.errors import DataError, IspNasError, UsageError
from search_spaces.system.atomic_write import temporary_of, write_durably
from search_spaces.system.file_errors import files_below, listed
from search_spaces.system.named_files import names
from search_spaces.system.work_folder import work_folder

sys.path.insert(0, str(Path(__file__).parent))
import condition_run as conditions
from condition_run import Condition

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, and paths of any bytes")
needs_modes_that_hold = pytest.mark.skipif(
    os.getuid() == 0 and shutil.which(conditions.WITHOUT_RIGHTS[0]) is None, reason="root reads whatever the mode"
)
needs_a_compiler = pytest.mark.skipif(conditions.failing_disk() is None, reason="calls fail by LD_PRELOAD")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    conditions.prepare(folder, searched=False)
    return folder


@needs_a_compiler
@pytest.mark.parametrize(
    "condition",
    [
        Condition("full disk", "import", "w"),
        Condition("full disk", "render", "w", under="work/pictures"),
        Condition("no permission to read", "check", "r", under="work", error="EACCES"),
        Condition("no permission to read", "check", "l", under="work/devices", error="EACCES"),
        Condition("read-only place", "search", "womn", under="cache", error="EROFS"),
        Condition("unreadable", "check", unreadable=("work/net.tflite", "a pipe")),
        Condition("unreadable", "predict", unreadable=("work/phone.json", "a folder")),
        pytest.param(
            Condition("unreadable", "plot", unreadable=("work/mine.png", "no permission")), marks=needs_modes_that_hold
        ),
    ],
    ids=lambda c: f"{c.area} {c.command} {c.unreadable[1]}",
)
def test_what_fails_is_one_sentence_with_its_cause_and_harms_nothing(prepared: Path, condition: Condition) -> None:
    (prepared / "work" / "devices").mkdir(exist_ok=True)
    done = conditions.run(prepared, condition)
    assert (done.code, done.wrong) == (2, ()), done.said


@pytest.mark.parametrize("after_s", [0.3, 0.6])
def test_ctrl_c_at_the_start_is_quiet(prepared: Path, after_s: float) -> None:
    done = conditions.run(prepared, Condition("signals", "render", signal="SIGINT", after_s=after_s))
    assert not done.wrong, done.said


# Files that are no files


READERS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "x.tflite": lambda path: ("check", path),
    "y.tflite": lambda path: ("latency", "predict", path),
    "x.json": lambda path: ("show", path),
    "training.toml": lambda path: ("show", path.parent),
    "x.png": lambda path: ("pareto", "--plot", path),
    "x.dng": lambda path: ("data", "make", "--raw", path, "--target", "libraw", "--out", path.with_name("made")),
    "y.png": lambda path: ("data", "make", "--raw", path, "--target", path, "--out", path.with_name("made")),
    "x.toml": lambda path: ("search", "--config", path),
    "x.csv": lambda path: ("latency", "calibrate", path, "--name", "mine"),
    "x.log": lambda path: ("latency", "import", path, "--out", path.with_name("read.csv")),
    "space.toml": lambda path: ("space", path),
    "recipe.toml": lambda path: ("train", "smallnet", "--recipe", path),
    "device.json": lambda path: ("designs", "--device", path),
}


TAKE_FOLDERS = ("x.log", "x.dng", "y.png")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    said = refusal(in_process(*READERS[name](path)))
    assert name in said
    if not (kind == "folder" and name in TAKE_FOLDERS):
        assert f"it is a {kind}, not a file" in said


@pytest.mark.parametrize("name", ["x.json", "x.toml", "space.toml", "recipe.toml", "device.json"])
def test_deep_nesting_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(("x = " if name.endswith("toml") else '{"x": ') + "[" * 100_000)
    assert "nested too deeply" in refusal(in_process(*READERS[name](path)))


# Folders and files of the user's own


def test_a_folder_that_cannot_be_listed_is_named_and_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    for act in (lambda: listed(tmp_path), lambda: names("devices", tmp_path, ".json")):
        with pytest.raises(UsageError, match=r"Could not list .*: Permission denied; change its permissions"):
            act()


def test_a_folder_below_that_cannot_be_listed_is_named_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (tmp_path / "seen.csv").touch()
    list_folder = os.scandir

    def scanned(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", scanned)
    for act in (
        lambda: [*files_below(tmp_path)],
        lambda: find_raw_files(tmp_path),
        lambda: import_files([tmp_path], defaults=Conditions(), allow_partial=False, folder=tmp_path),
    ):
        with pytest.raises(IspNasError, match=r"Could not list .*closed\": Permission denied"):
            act()


def test_a_full_disk_is_told_with_the_name_of_the_file_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "mine").write_text("mine")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_durably(tmp_path / "mine", b"ours")
    assert caught.value.filename == str(tmp_path / "mine")
    assert snapshot(tmp_path) == {"mine": b"mine"}


def test_a_copied_study_goes_by_the_name_of_its_folder(tmp_path: Path) -> None:
    make_study(tmp_path / "results" / "original").close()
    shutil.copytree(tmp_path / "results" / "original", tmp_path / "results" / "duplicate")
    sentence = refusal(in_process("best", "--study", "duplicate", "--results", tmp_path / "results"))
    assert "duplicate" in sentence
    assert "original" not in sentence


def test_names_that_are_no_text_are_refused_where_they_would_have_to_be_kept(tiny_pairs: Path, tmp_path: Path) -> None:
    named = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(tiny_pairs, named)
    for command in (("search", "--budget", 1), ("train", "smallnet", "--steps", 2)):
        done = in_process(*command, "--data", named, "--patch", 16, "--batch", 2)
        assert r"caf\udce9" in refusal(done)
    pair = tiny_pairs.parent / "copied"
    shutil.copytree(tiny_pairs, pair, dirs_exist_ok=True)
    (pair / "train" / "fujifilm" / "0.png").rename(pair / "train" / "fujifilm" / os.fsdecode(b"\xe9.png"))
    assert "is no text in UTF-8" in refusal(in_process("data", "check", pair))


@pytest.mark.parametrize("name", ["n" * 255, "数" * 85, "n" * 240 + ".json"])
def test_every_name_that_a_file_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this file system takes no name of 255 bytes")
    write_durably(tmp_path / name, b"ours")
    assert snapshot(tmp_path) == {name: b"ours"}


def test_long_names_that_begin_alike_have_temporary_files_of_their_own(tmp_path: Path) -> None:
    one, other = (temporary_of(tmp_path / ("n" * 254 + end)) for end in "ab")
    assert one != other
    for path in (one, other):
        path.write_bytes(b"half")  # no longer than a system takes
        assert path.name.endswith(f"-{os.getpid()}.tmp")


def test_an_export_into_a_folder_of_a_long_name_is_whole_at_once(tmp_path: Path) -> None:
    out = tmp_path / ("数" * 85)
    out.mkdir()
    with work_folder(out, PREFIX) as folder:
        (folder / "card.json").write_bytes(b"{}")
        publish(folder, out)
    assert snapshot(tmp_path) == {out.name: None, f"{out.name}/card.json": b"{}"}


@pytest.mark.parametrize("command", [("check",), ("show",), ("space",), ("pareto", "--study"), ("data", "check")])
def test_a_refusal_is_one_line_whatever_a_name_holds(tmp_path: Path, command: tuple[str, ...]) -> None:
    sentence = refusal(in_process(*command, tmp_path / "a\nisp-nas: all is well.toml"))
    assert r"a\nisp-nas: all is well" in sentence


# Names in pictures; those in pages: tests/report

HOSTILE = ("<script>alert(1)</script>", "$x^2$", "$\\frac$", "\u202egnp", "a\x1b[31m", "<a href='x'>y</a>", "&lt;b&gt;")


def point(name: str, psnr_db: float = 24.0) -> PlotPoint:
    return PlotPoint(0, name, psnr_db, 60.0, 50.0, 70.0, on_front=True)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_names_in_a_picture_are_text(tmp_path: Path, kind: str) -> None:
    points = [point(name, 24.0 + at) for at, name in enumerate(HOSTILE)]
    save_front(tmp_path / f"front.{kind}", points, title=" ".join(HOSTILE), interval=" ".join(HOSTILE))
    if kind == "png":
        with Image.open(tmp_path / "front.png") as picture:
            assert picture.width > 500
    if kind == "svg":
        save_front(tmp_path / "formula.svg", [point("$x^2$")], title="t", interval="i")
        assert "<!-- $x^2$ -->" in (tmp_path / "formula.svg").read_text("utf-8")


def test_a_picture_that_cannot_be_written_does_not_take_the_one_before_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "front.png").write_bytes(b"isp-nas, mine")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*front\.png'"):  # the command makes a sentence of it
        save_front(tmp_path / "front.png", [point("x")], title="t", interval="i")
    assert snapshot(tmp_path) == {"front.png": b"isp-nas, mine"}


# Standard streams


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", [("space", "--format", "json"), ("--version",)], ids=lambda c: c[0])
def test_output_that_finds_no_room_is_an_error_and_said_once(command: tuple[str, ...], unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [str(COMMAND), *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "No space left on device" in done.stderr


def test_closed_streams_are_no_traceback_and_no_file_takes_their_place(tmp_path: Path) -> None:
    make_study(tmp_path / "results" / "s").close()
    before = snapshot(tmp_path)
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        shell = f'exec "$0" pareto --results "$1" {closed}'
        done = subprocess.run(
            ["sh", "-c", shell, str(COMMAND), str(tmp_path / "results")],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert snapshot(tmp_path) == before


def test_a_damaged_tiff_leaves_no_lines_of_a_library(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "damaged.tif"
    Image.effect_noise((64, 64), 40).convert("RGB").save(place, compression="tiff_lzw")
    content = bytearray(place.read_bytes())
    content[200:400] = b"\xff" * 200
    place.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged\.tif"):
        read_rgb(place)
    assert capfd.readouterr().err == ""
