"""`isp-nas data make` as people type it: photographs become a set that `data check` finds nothing wrong with."""

import json
import shlex
from pathlib import Path

from dng import Camera
from flow import in_process, refusal
from photographed import photograph
from PIL import Image


def shoot(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        truth = photograph(258, 322, seed=60 + number)
        Camera().write(folder / f"{number}.dng", truth.mosaic)
    return folder


def test_photographs_become_pairs_that_the_printed_command_finds_fit(tmp_path: Path) -> None:
    """LibRaw is told nothing of levels and pattern; they are in the files."""
    out = tmp_path / "some pairs"
    made = in_process(
        "data", "make", "--raw", shoot(tmp_path / "phone", 3), "--target", "libraw", "--out", out, "--patch", 64,
        "--val", 0.3, "--test", 0.3, "--workers", 1,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    printed = made.stdout.partition("Next: isp-nas ")[2]
    check = in_process(*shlex.split(printed))
    assert check.returncode == 0, check.stdout
    assert "Fit for training." in check.stdout


def test_what_could_not_be_used_is_counted_and_named_for_programs(tmp_path: Path) -> None:
    phone = shoot(tmp_path / "phone", 1)
    Image.new("RGB", (300, 300)).save(phone / "x.png")
    command = ("data", "make", "--raw", phone, "--target", "libraw", "--out", tmp_path / "pairs", "--patch", 64)
    made = in_process(*command, "--format", "json", "--workers", 1)
    report = json.loads(made.stdout)
    assert [each["name"] for each in report["refused"]] == ["x.png"]
    assert (report["photographs"], report["written"]) == (2, sum(report["pairs"].values()))
    assert "begun with another patch" in refusal(in_process(*command[:-1], 32 * 3))


def test_wrong_options_are_refused_before_anything_is_read_or_written(tmp_path: Path) -> None:
    phone = shoot(tmp_path / "phone", 1)
    command = ("data", "make", "--raw", phone, "--out", tmp_path / "pairs", "--target")
    for options, said in (
        (("libraw", "--patch", 63), "even number from 64"),
        (("libraw", "--phase", "RGBG"), 'Unknown Bayer pattern "RGBG"'),
        (("libraw", "--val", 0.6, "--test", 0.6), "together below 1"),
        (("libraw", "--exposure", "mach"), 'Did you mean "match"'),
        (("libraw", "--tile-black", "64,65"), "Black levels of a tile are four numbers"),
        (("libraw", "--tile-black", "64;65"), "--tile-black is four numbers, row by row"),
        (("libraw", "--tile-black", "64,65,65,64", "--black", "64"), "not both"),
        (("libraw", "--per-photo", 0), "--per-photo is at least 1"),
        ((tmp_path / "nothing",), "No photographs at"),
    ):
        assert said in refusal(in_process(*command, *options))
    assert not (tmp_path / "pairs").exists()
