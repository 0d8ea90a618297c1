"""What a study reads back is what was written, or a sentence names the line; nothing else decides who is best."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flow import make_study, search
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.search import study as studies
from nas.search.records import GENES, VERDICTS, Verdict
from nas.search.verdicts import verdict_of
from nas.train.recipe import GENERATIONS, Recipe
from search_spaces.errors import StudyError
from search_spaces.system import stored

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "demo-5m"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with candidates on two rungs; tests work on a copy."""
    folder = tmp_path_factory.mktemp("finished") / "s"
    search(make_study(folder, sampler="random"), 4)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "s")


def lines_of(folder: Path) -> list[bytes]:
    return (folder / studies.RECORDS_FILE).read_bytes().splitlines(keepends=True)


def write(folder: Path, lines: list[bytes]) -> None:
    (folder / studies.RECORDS_FILE).write_bytes(b"".join(lines))


def without_checksums(folder: Path) -> list[dict[str, Any]]:
    """Return the records as versions before there were checksums wrote them."""
    records = [json.loads(line) for line in lines_of(folder)]
    return [{name: value for name, value in each.items() if name not in ("checksum", "settings")} for each in records]


def write_records(folder: Path, records: list[dict[str, Any]]) -> None:
    write(folder, [json.dumps(each).encode() + b"\n" for each in records])


# Checksums


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_flipped_bit_is_taken_for_what_was_written(finished: Path, data: st.DataObject) -> None:
    """But for the very last line, whose end a crash may have cut off."""
    content = bytearray((finished / studies.RECORDS_FILE).read_bytes())
    last = content[:-1].rfind(b"\n")
    place = data.draw(st.integers(0, last - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    with_flip = finished.parent / "flipped"
    shutil.rmtree(with_flip, ignore_errors=True)
    with_flip.mkdir()
    shutil.copy(finished / studies.RUN_FILE, with_flip)
    (with_flip / studies.RECORDS_FILE).write_bytes(content)
    with pytest.raises(StudyError, match=r"Line \d+ of .* is damaged"):
        studies.load(with_flip)


def removed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], *lines[3:]]


def repeated(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[2], *lines[3:]]


def exchanged(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


def without_its_checksum(lines: list[bytes]) -> list[bytes]:
    record = json.loads(lines[2])
    record.pop("checksum")
    return [*lines[:2], json.dumps(record).encode() + b"\n", *lines[3:]]


@pytest.mark.parametrize("change", [removed, repeated, exchanged, without_its_checksum])
def test_lines_that_are_not_those_written_in_that_order_are_refused(
    folder: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    write(folder, change(lines_of(folder)))
    with pytest.raises(StudyError, match=r"Line [34] of .*checksum"):
        studies.load(folder)


def test_carriage_returns_are_refused_and_never_cut_off(folder: Path) -> None:
    for ending in (b"\r\n", b"\r"):
        write(folder, [line.rstrip(b"\r\n") + ending for line in lines_of(folder)])
        before = (folder / studies.RECORDS_FILE).read_bytes()
        with pytest.raises(StudyError, match="Line 1 of"):
            studies.load(folder)
        assert (folder / studies.RECORDS_FILE).read_bytes() == before
        write(folder, before.replace(b"\r\n", b"\n").replace(b"\r", b"\n").splitlines(keepends=True))
        studies.load(folder)


def test_a_last_line_that_lacks_its_end_alone_is_kept(folder: Path) -> None:
    before = (folder / studies.RECORDS_FILE).read_bytes()
    (folder / studies.RECORDS_FILE).write_bytes(before.removesuffix(b"\n"))
    opened = studies.load(folder)
    opened.append("session", budget="again", workers=1)
    opened.close()
    assert (folder / studies.RECORDS_FILE).read_bytes().startswith(before)
    assert studies.load(folder).sessions == opened.sessions


def test_two_lines_that_ran_together_are_no_unfinished_one(folder: Path) -> None:
    *before, first, last = lines_of(folder)
    write(folder, [*before, first.replace(b"\n", b" "), last.removesuffix(b"\n")])
    with pytest.raises(StudyError, match=rf"Line {len(before) + 1} of"):
        studies.load(folder)


def test_records_that_another_process_added_meanwhile_are_not_overwritten(folder: Path) -> None:
    first, second = studies.load(folder), studies.load(folder)
    first.append("session", budget="first", workers=1)
    with pytest.raises(StudyError, match="was changed while it was in use"):
        second.append("session", budget="second", workers=1)
    first.close()
    assert studies.load(folder).sessions == first.sessions


def test_records_from_before_checksums_open_and_the_first_new_line_covers_them(folder: Path) -> None:
    best = studies.load(folder).best().trial
    old = without_checksums(folder)
    write_records(folder, old)
    opened = studies.load(folder)
    assert opened.best().trial == best
    opened.append("session", budget="again", workers=1)
    opened.close()
    lines = lines_of(folder)
    studies.load(folder)
    write(folder, [lines[0].replace(b"candidates", b"candidate"), *lines[1:]])
    with pytest.raises(StudyError, match=rf"Line {len(lines)} of .*checksum"):
        studies.load(folder)


def test_the_reference_study_opens() -> None:
    opened = studies.load(REFERENCE)
    assert (len(opened.candidates), opened.best().trial) == (46, 32)


def test_a_verdict_names_designs_that_other_pairs_found_as_good_as_the_one_compared() -> None:
    verdict = verdict_of(studies.load(REFERENCE))
    assert verdict is not None
    assert (
        "About as good on other pairs, but not trained to 8100 steps: cvml, isp-forever, tuned-unet."
        in verdict.sentence
    )


def test_records_that_do_not_tell_which_designs_were_likely_call_none_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.load(REFERENCE)
    monkeypatch.setattr(study, "sessions", [replace(session, designs=None) for session in study.sessions])
    verdict = verdict_of(study)
    assert verdict is not None
    assert "About as good" not in verdict.sentence


# Records without checksums are held to the schema and to one another


def first_of(event: str, records: list[dict[str, Any]], nth: int = 0) -> dict[str, Any]:
    return [each for each in records if each["event"] == event][nth]


WRONG_VALUES = [
    ("rung", "psnr_db", value) for value in (float("nan"), float("inf"), -1.0, 1e308, True, "30", None, [1], 10**400)
] + [
    ("rung", "rung", value) for value in (-1, 7, 2**63, 0.5, True, None)
] + [
    ("rung", "steps", 11), ("rung", "train_s", -1.0), ("rung", "rate_share", 0), ("rung", "trial", 99),
    ("rung", "ssim", 1.5), ("asked", "runtime_ms", -50.0), ("asked", "runtime_ms", float("nan")),
    ("asked", "runtime_ms", 1e6), ("asked", "verdict", "banana"), ("asked", "verdict", "duplicate"),
    ("asked", "duplicate_of", 0), ("asked", "trial", 5), ("asked", "genes", {}), ("asked", "pace", 1),
    ("session", "elapsed_s", float("inf")), ("session", "workers", -1), ("session", "event", "nap"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "name", "value"), WRONG_VALUES, ids=lambda value: str(value)[:20])
def test_a_value_that_nothing_could_have_written_is_refused_with_its_line(
    folder: Path, event: str, name: str, value: object
) -> None:
    records = without_checksums(folder)
    first_of(event, records)[name] = value if value != {} else {"widht": 4}
    write_records(folder, records)
    with pytest.raises(StudyError, match=r"Line \d+ of .* is damaged \(.+\)"):
        studies.load(folder)


def test_a_rung_that_is_there_twice_is_refused(folder: Path) -> None:
    records = without_checksums(folder)
    again = {**first_of("rung", records), "psnr_db": 99.0}
    write_records(folder, [*records, again])
    with pytest.raises(StudyError, match=f"Line {len(records) + 1} of .*reached rung 0 before"):
        studies.load(folder)


JUDGED = {"event": "test", "elapsed_s": 1.0}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"test_psnr_db": 20.0}, "test_psnr_db and test_ssim are there together"),
        ({"steps": 777}, "no training of 777 steps"),
        ({"seed": 99}, "from seed 99"),
        ({"trial": 99}, "trial 99 was not asked for"),
    ],
    ids=str,
)
def test_a_judgement_on_test_pairs_is_whole_and_of_a_training_that_is_there(
    folder: Path, changed: dict[str, Any], why: str
) -> None:
    records = without_checksums(folder)
    rung = first_of("rung", records)
    judged = {**JUDGED, "trial": rung["trial"], "steps": rung["steps"]}
    write_records(folder, [*records, judged, judged])
    assert studies.load(folder).tests
    write_records(folder, [*records, {**judged, **changed}])
    with pytest.raises(StudyError, match=f"Line {len(records) + 1} of .*{why}"):
        studies.load(folder)


def test_a_candidate_is_judged_on_test_pairs_once(folder: Path) -> None:
    records = without_checksums(folder)
    rung = first_of("rung", records)
    judged = {**JUDGED, "trial": rung["trial"], "steps": rung["steps"], "test_psnr_db": 20.0, "test_ssim": 0.5}
    write_records(folder, [*records, judged, {**judged, "test_psnr_db": 45.0}])
    with pytest.raises(StudyError, match=f"Line {len(records) + 2} of .*judged on the test pairs before"):
        studies.load(folder)


def test_a_key_that_is_there_twice_is_refused(folder: Path) -> None:
    write_records(folder, without_checksums(folder))
    lines = lines_of(folder)
    place = next(n for n, line in enumerate(lines) if b'"rung", ' in line)
    lines[place] = lines[place].replace(b'"psnr_db"', b'"psnr_db": 99.0, "psnr_db"')
    write(folder, lines)
    with pytest.raises(StudyError, match=f'Line {place + 1} of .*"psnr_db" is there twice'):
        studies.load(folder)


def test_an_unknown_key_names_the_nearest_that_is_missing(folder: Path) -> None:
    records = without_checksums(folder)
    rung = first_of("rung", records)
    rung["psnr"] = rung.pop("psnr_db")
    write_records(folder, records)
    with pytest.raises(StudyError, match='the key "psnr" is unknown; did you mean "psnr_db"'):
        studies.load(folder)


def test_the_schema_knows_every_gene_and_verdict() -> None:
    assert set(VERDICTS) == set(Verdict.__args__)
    assert len(GENES) == 37


# run.toml


def changed_settings(folder: Path, before: str, after: str) -> None:
    path = folder / studies.RUN_FILE
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), "utf-8")


def test_settings_that_were_changed_since_the_search_began_are_refused(folder: Path) -> None:
    changed_settings(folder, "seed = 0", "seed = 1")
    with pytest.raises(StudyError, match=r"run\.toml has other settings than those with which the records were made"):
        studies.load(folder)


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ('flip = "both"\n', "", '"flip" of the recipe is missing'),
        ("batch = 4", "bach = 4", '"bach" is unknown; did you mean "batch"'),
        ("batch = 4", "batch = true", "batch should be a valid integer, got true"),
        ('objective = "score"', 'objective = "speed"', "objective .*should match"),
        ("learning_rate = 0.003", "learning_rate = nan", "learning_rate should be a finite number"),
        ("seed = 0", "seed = -1", "seed should be greater than or equal to 0"),
        ("[study.data]", "[study.dates]", '"dates" is unknown; did you mean "data"'),
    ],
)
def test_settings_that_nothing_could_have_written_are_refused_by_name(
    folder: Path, before: str, after: str, wanted: str
) -> None:
    changed_settings(folder, before, after)
    with pytest.raises(StudyError, match=wanted):
        studies.load(folder)


def test_every_key_of_a_recipe_is_of_a_generation() -> None:
    assert {name for names in GENERATIONS for name in names} == Recipe().to_dict().keys()


# Files


def test_a_pipe_a_folder_and_a_deep_file_are_no_files_to_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("pipe", "a pipe"), (".", "a folder"), ("/dev/zero", "a device")):
        with pytest.raises(OSError, match=kind):
            stored.read_bytes(tmp_path / name)
    for parse in (stored.parse_json, stored.parse_toml):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse(b"a = " * (parse is stored.parse_toml) + b"[" * 100_000)
        with pytest.raises(ValueError, match="nested too deeply"):  # no recursion ends it, but that of a reader would
            parse(b"a = " * (parse is stored.parse_toml) + b"[" * 150 + b"1" + b"]" * 150)


def test_a_whole_number_that_no_float_holds_is_refused_where_it_is_read() -> None:
    for parse, text in ((stored.parse_json, '{"a": %s}'), (stored.parse_toml, "a = %s")):
        assert parse((text % (2**63)).encode()) == {"a": 2**63}
        with pytest.raises(ValueError, match="digits"):
            parse((text % 10**400).encode())
