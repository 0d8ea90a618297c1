"""What a page says is what the commands say; what came from outside does nothing in it; one file is all there is."""

import base64
import gzip
import json
import os
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow import in_process, make_study, refusal, snapshot
from made_up_study import FINAL_STEPS, HOSTILE, made_up_study

from nas.data.pairs import DataConfig, identity
from nas.plots import check_plot
from nas.report import candidates, cards, course, photos, study_report
from nas.report.data import Photos, StudyReport
from nas.report.page import check_page, study_page
from nas.search import candidate_rows, verdicts
from nas.search import study as studies
from nas.search.candidate import CandidateRecord
from nas.search.gene_importance import gene_importances
from nas.search.study import StudyRecord
from nas.search.verdicts import verdict_of
from search_spaces.errors import UsageError

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results/reference/demo-5m"
MOST_BYTES = 6_000_000


@pytest.fixture(scope="module")
def reference() -> StudyRecord:
    return studies.load(REFERENCE)


@pytest.fixture(scope="module")
def report(reference: StudyRecord) -> StudyReport:
    return study_report.study_report(reference)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    """A study with a hostile name, data folder, and reasons; a file's name has no slash, and 255 bytes at most."""
    folder = tmp_path_factory.mktemp("hostile") / HOSTILE.replace("/", "").replace("\u2028", "")[:180]
    return made_up_study(folder, 60, data=DataConfig(f"/data/{HOSTILE}"), name=HOSTILE, reason=HOSTILE)


class Page(HTMLParser):
    """The elements of a page with their attributes, its visible text, and what its scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, _: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.text.append(data)


def test_a_page_holds_for_every_rung_what_pareto_says(report: StudyReport) -> None:
    for steps in report.front.steps:
        done = in_process("pareto", "--study", REFERENCE.name, "--results", REFERENCE.parent, "--steps", steps,
                          "--all", "--format", "json")  # fmt: skip
        rows = {row["trial"]: row for row in json.loads(done.stdout)}
        shown = {row["trial"]: row for row in report.candidates if steps in row["at"]}
        assert shown.keys() == rows.keys()
        for trial, row in rows.items():
            candidate = {**shown[trial], **shown[trial]["at"][steps]}
            for name in row.keys() - {"steps", "spec"}:
                assert candidate[name] == row[name], (steps, trial, name)
    assert report.front.chosen == 8100


def test_a_page_says_what_best_and_show_say(report: StudyReport, reference: StudyRecord) -> None:
    candidate, rung = candidate_rows.best(reference)
    best = report.overview.best
    assert best is not None
    assert best["trial"] == candidate.trial
    assert best["psnr_db"] == candidate.at(rung).psnr_db
    judged = verdict_of(reference)
    assert judged is not None
    assert report.overview.sentence == judged.sentence
    shown = json.loads(
        in_process("show", "best", "--study", REFERENCE.name, "--results", REFERENCE.parent, "--format", "json").stdout
    )
    assert report.layers.rows == shown["layers"]
    assert report.layers.runtime_ms == shown["runtime_ms"]
    (row,) = [row for row in report.candidates if row["trial"] == candidate.trial]
    assert json.loads(json.dumps(row["history"])) == shown["history"]
    assert json.loads(json.dumps(row["finals"])) == shown["finals"]


def test_the_card_beside_a_study_is_shown_and_one_of_another_network_is_refused(
    reference: StudyRecord, tmp_path: Path
) -> None:
    (card,) = cards.precisions(reference).cards
    stored = json.loads((REFERENCE / "card.json").read_text("utf-8"))
    assert card["precisions"][0]["drop_db"] == stored["precisions"][0]["drop_db"]
    assert card["is_best"]
    of_another = {name: value for name, value in stored.items() if name != "sha256"} | {"hash": "0" * 12}
    (tmp_path / "card.json").write_text(json.dumps(of_another))
    with pytest.raises(UsageError, match="is of network 000000000000, which the study has not trained"):
        cards.precisions(reference, [tmp_path])
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(UsageError, match="is no card of an export"):
        cards.precisions(reference, [tmp_path])


def test_where_something_is_missing_the_page_says_why(report: StudyReport) -> None:
    assert report.photos.rows == ()
    assert "checkpoints of the best networks are not in the study's folder" in report.photos.note
    assert report.spending.note == ""  # every training's worker is known
    text = " ".join(Page(study_page(report)).text)
    assert report.photos.note.replace("'", "’") in text or report.photos.note in text


def test_trainings_of_unknown_workers_are_counted() -> None:
    known, unknown = {"worker": 0}, {"rung": 0}
    assert course._worker_note([known, known]) == ""
    sentence = "Of 1 of 2 trainings the records do not tell which worker did them."
    assert course._worker_note([known, unknown]) == sentence


def test_a_study_before_its_first_training_has_a_page(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s")
    report = study_report.study_report(study)
    assert report.overview.sentence == study_report.NOTHING_TRAINED
    assert study_report.NOTHING_TRAINED in " ".join(Page(study_page(report)).text)


def test_nothing_from_outside_is_part_of_the_page(hostile: StudyRecord) -> None:
    report = study_report.study_report(hostile)
    page = Page(study_page(report))
    assert [tag for tag, _ in page.elements].count("script") == 3
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not [tag for tag, _ in page.elements if tag in ("iframe", "object", "embed", "bold")]
    assert json.loads(page.scripts[0])["overview"]["name"] == HOSTILE
    text = "".join(page.text)
    assert not set("\x1b\u202e\u2028") & set(text)
    assert "<script>alert(1)</script>[bold]x[/bold]\"'</script><!--\\u202egnp.exe" in text


def test_a_page_asks_for_nothing(report: StudyReport) -> None:
    page = Page(study_page(report))
    (policy,) = (a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    links = [
        value for _, a in page.elements for name, value in a.items() if name in ("src", "href", "action") and value
    ]
    assert all(link.startswith(("#", "data:")) for link in links)
    plotly = gzip.decompress(base64.b64decode(page.scripts[1])).decode()
    assert "plotly.js v" in plotly[:200]


def test_a_page_of_500_candidates_is_small(tmp_path: Path) -> None:
    report = study_report.study_report(made_up_study(tmp_path / "s", 500))
    assert len(study_page(report).encode()) < MOST_BYTES / 2  # leaves room for photos


def test_what_was_left_out_is_counted_by_reason_whatever_its_numbers(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", 120)
    counted = {(row["kind"], row["reason"]): row["count"] for row in candidates.refused_by_reason(study)}
    assert counted["over a limit", "predicted … ms is over the limit of 100 ms"] == study.verdicts["infeasible"]
    assert counted["training failed", "The loss is not finite."] == len(study.failed)
    assert (
        sum(count for (kind, _), count in counted.items() if kind.startswith("a repeat")) == study.verdicts["duplicate"]
    )


def event(kind: str, elapsed_s: float, **values: Any) -> dict[str, Any]:
    seconds = {"train_s": 2.0, "compile_s": 1.0, "evaluate_s": 0.5} if kind in course.TRAININGS else {}
    return {"event": kind, "elapsed_s": elapsed_s, **seconds, **values}


RUNTIMES = {0: 60.0, 1: 100.0, 2: 80.0}
EVENTS = [
    event("session", 1.0, workers=2, budget="4 candidates"),
    event("rung", 5.0, trial=0, rung=0, steps=10, psnr_db=30.0, worker=0),
    event("rung", 6.0, trial=1, rung=0, steps=10, psnr_db=32.0, worker=1),
    event("rung", 9.0, trial=2, rung=0, steps=10, psnr_db=29.0, worker=0),
    event("session", 9.0, workers=1, budget="4 candidates"),
    event("final", 15.0, trial=0, seed=1, steps=90, psnr_db=33.0, worker=0),
    event("final", 19.0, trial=0, seed=2, steps=90, psnr_db=31.0, worker=0),
]


def test_the_hypervolume_is_the_area_that_paper_and_pencil_give() -> None:
    rows = course.anytime(EVENTS, RUNTIMES).rows
    # The corner is 29 dB and 100 ms: (100 − 60)·(30 − 29), then trial 1 at 100 ms adds nothing, …
    assert [row["hypervolume"] for row in rows] == [40.0, 40.0, 160.0, 120.0, 120.0]
    # … and the score is PSNR + 20·(0.2 − t): 32 + 2 of trial 1 loses to 33 + 2.8, then to the mean of 33 and 31 less.
    assert [round(row["score"], 6) for row in rows] == [32.8, 34.0, 35.8, 34.8, 34.8]
    assert [row["candidates"] for row in rows] == [1, 2, 3, 3, 3]


def test_time_is_accounted_for_to_the_second() -> None:
    spent = course.spending(EVENTS, final_rung=2)
    assert spent.worker_s == 2 * 8 + 1 * 10
    assert (spent.train_s, spent.compile_s, spent.evaluate_s) == (10.0, 5.0, 2.5)
    assert spent.waiting_s == 26 - 17.5
    assert [(row["steps"], row["trainings"]) for row in spent.by_rung] == [(10, 3), (90, 2)]
    # Waits before trainings: 0.5 and 1.5 s at the start, none, then 2.5 and 0.5 s in the second session.
    assert [row["waiting_s"] for row in spent.by_rung] == [0.5 + 1.5 + 0.5, 2.5 + 0.5]
    assert [(row["worker"], row["waiting_s"]) for row in spent.by_worker] == [(0, 18 - 4 * 3.5), (1, 8 - 3.5)]
    assert spent.note == ""


def test_waits_of_records_that_do_not_name_workers_are_not_made_up() -> None:
    older = [{key: value for key, value in each.items() if key != "worker"} for each in EVENTS]
    assert [row["waiting_s"] for row in course.spending(older, final_rung=2).by_rung] == [None, None]


def test_a_given_corner_makes_hypervolumes_of_two_searches_comparable() -> None:
    assert course.corner_of(EVENTS, RUNTIMES) == (29.0, 100.0)
    assert course.anytime(EVENTS, RUNTIMES, (28.0, 110.0)).rows[0]["hypervolume"] == (110 - 60) * (30 - 28)


def test_finalists_that_are_compared_come_first_by_score(tmp_path: Path) -> None:
    study = made_up_study(tmp_path / "s", 40)
    shown = candidates.finalists(study)
    compared = sorted(study.compared(), key=lambda c: -c.score(study.final_rung))
    assert shown[: len(compared)] == [c.trial for c in compared]
    assert sorted(shown) == sorted(c.trial for c in study.at_rung(study.final_rung))


def test_importances_are_shares_and_need_some_candidates(reference: StudyRecord, tmp_path: Path) -> None:
    importances = gene_importances(reference)
    assert sum(importances.values()) == pytest.approx(1)
    assert list(importances.values()) == sorted(importances.values(), reverse=True)
    few = made_up_study(tmp_path / "s", 5)
    assert gene_importances(few) == {}
    assert study_report.study_report(few).genes.note.startswith("Importances need 10 trained candidates")


# Photos


class Blurred:
    """Stands in for a network: what it makes is the target with an error of its weights' size in one half."""

    def __init__(self, _: object, pairs: Any) -> None:
        self._pairs = pairs

    def outputs(self, weights: float, index: np.ndarray) -> np.ndarray:
        made = self._pairs.rgb[index] / np.float32(255)
        made[:, :, : made.shape[2] // 2] += weights * (1 + index[:, None, None, None])
        return made


@pytest.fixture
def with_pairs(tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyRecord:
    data = DataConfig(str(tiny_pairs))
    study = made_up_study(tmp_path / "s", 40, data=data, data_fingerprint=identity(data))
    for candidate, error in zip(contestants(study), (b"0.01", b"0.02"), strict=True):
        assert candidate is not None
        study.longest_checkpoint(candidate).write_bytes(error)
    monkeypatch.setattr(photos, "Evaluator", Blurred)
    monkeypatch.setattr(photos.checkpoint, "load", lambda path: type("C", (), {"weights": float(path.read_bytes())}))
    return study


def contestants(study: StudyRecord) -> tuple[CandidateRecord | None, CandidateRecord | None]:
    return study_report.contestants(study, study_report.verdict(study))


def photos_of(study: StudyRecord, count: int) -> Photos:
    return study_report.photos(study, study_report.verdict(study), count)


def test_photos_show_the_best_found_beside_the_best_design_with_their_errors(with_pairs: StudyRecord) -> None:
    shown = photos_of(with_pairs, 3)
    assert shown.note == ""
    network, design = (study_report.label(c) for c in contestants(with_pairs) if c)
    for row in shown.rows:
        titles = [picture.title.split(",")[0].split(" (")[0] for picture in row.pictures]
        assert titles == ["RAW mosaic", network, design, "target", f"error of {network}", f"error of {design}"]
        assert all(picture.url.startswith("data:image/webp;base64,") for picture in row.pictures)
        ours, theirs = (float(re.findall(r", ([0-9.]+) dB", row.pictures[i].title)[0]) for i in (1, 2))
        assert ours > theirs
    assert "the largest gain" in shown.rows[0].why
    assert "the smallest gain" in shown.rows[-1].why


def test_photos_of_one_network_alone_name_the_other(with_pairs: StudyRecord) -> None:
    design = contestants(with_pairs)[1]
    assert design is not None
    with_pairs.longest_checkpoint(design).unlink()
    shown = photos_of(with_pairs, 1)
    assert shown.note == f"{design.name} is not shown: its checkpoint is not in the study's folder."
    assert len(shown.rows[0].pictures) == 4


def test_photos_of_pairs_that_have_changed_are_not_made(with_pairs: StudyRecord) -> None:
    from dataclasses import replace

    with_pairs.config = replace(with_pairs.config, data_fingerprint="another")
    assert "are not those that study s was trained on" in photos_of(with_pairs, 1).note


# The command


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("made")
    made_up_study(results / "s", 30)
    return results


def test_report_writes_one_file_and_nothing_into_the_study(made: Path, tmp_path: Path) -> None:
    before = snapshot(made)
    done = in_process("report", "--results", made, "--out", tmp_path / "page.html", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert f"Saved {tmp_path / 'page.html'}" in done.stderr
    assert snapshot(made) == before
    output = json.loads(done.stdout)
    assert output["front"]["chosen"] == FINAL_STEPS
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert json.loads(page.scripts[0]) == json.loads(json.dumps(output))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--out", "page.txt"), "A page is written as .html; got page.txt."),
        (("--out", "nowhere/page.html"), "The folder nowhere does not exist"),
        (("--photos", "-1"), "A page shows 0 to 12 pairs"),
        (("--study", "t"), 'Unknown study "t"'),
        (("--export", "nowhere"), "nowhere cannot be read"),
    ],
)
def test_what_cannot_be_is_one_sentence(made: Path, arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(in_process("report", "--results", made, *arguments))


def test_a_page_of_somebody_else_is_not_overwritten(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<!doctype html>\nmine")
    assert "is no page of isp-nas and is left as it is" in refusal(
        in_process("report", "--results", made, "--out", page)
    )
    assert page.read_text() == "<!doctype html>\nmine"


def test_a_report_is_the_same_data_twice(made: Path) -> None:
    study = studies.load(made / "s")
    assert asdict(study_report.study_report(study)) == asdict(study_report.study_report(study))


def test_a_report_works_its_verdict_out_once(with_pairs: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    worked_out = []
    monkeypatch.setattr(verdicts, "verdict_of", lambda study: worked_out.append(study) or verdict_of(study))
    assert study_report.study_report(with_pairs).photos.rows
    assert worked_out == [with_pairs]


def test_a_page_or_a_picture_that_cannot_be_looked_at_is_told_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name, check in (("page.html", check_page), ("front.png", check_plot)):
        (tmp_path / name).write_bytes(b"x")
        monkeypatch.setattr(os, "open", closed)
        with pytest.raises(UsageError, match=rf'"{tmp_path / name}": Permission denied'):
            check(tmp_path / name)
        monkeypatch.undo()
