"""study.db is what the records say, for tools that read Optuna's databases; what else lies there is left alone."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
import pytest
from flow import make_study, optuna_trials, search
from optuna.storages import RDBStorage

from nas.search import candidate_rows, optuna_database
from nas.search import study as studies
from nas.search.optuna_database import DatabaseFile
from search_spaces.spec import GENES

REFERENCE = Path(__file__).parents[2] / "results/reference/demo-5m"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "s"
    search(make_study(folder, sampler="random"), 4)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "s")


@pytest.fixture
def opened(finished: Path) -> Iterator[optuna.Study]:
    storage = RDBStorage(f"sqlite:///{finished / studies.DATABASE_FILE}")
    yield optuna.load_study(study_name="s", storage=storage)
    storage.engine.dispose()


def written_again(folder: Path) -> list[str]:
    """Write the database of a study anew; return what was said."""
    said: list[str] = []
    DatabaseFile(studies.load(folder), said.append).write()
    return said


def test_optuna_reads_the_objective_the_genes_the_rungs_and_our_best(opened: optuna.Study, finished: Path) -> None:
    study = studies.load(finished)
    assert opened.metric_names == ["score in dB at 10 steps"]
    assert opened.user_attrs["best trial"] == study.best().trial
    for candidate, trial in zip(study.candidates.values(), opened.trials, strict=True):
        assert trial.params == {name: str(candidate.genes[name]) for name in GENES}
        scores = {reached.steps: candidate.score(rung) for rung, reached in candidate.rungs.items()}
        assert trial.intermediate_values == scores
        assert trial.user_attrs["network"] == candidate.spec.description
        assert trial.user_attrs.get("best", False) == (candidate is study.best())


def test_a_database_that_is_as_it_was_left_is_written_without_a_word(folder: Path) -> None:
    assert written_again(folder) == []


def test_a_changed_direction_is_noticed_and_written_anew(folder: Path) -> None:
    with closing(sqlite3.connect(folder / studies.DATABASE_FILE)) as database, database:
        database.execute("UPDATE study_directions SET direction = 'MINIMIZE'")
    (sentence,) = written_again(folder)
    assert "was not as the search left it; it was rebuilt from the records" in sentence
    with closing(sqlite3.connect(folder / studies.DATABASE_FILE)) as database:
        assert database.execute("SELECT direction FROM study_directions").fetchall() == [("MAXIMIZE",)]


def test_somebody_else_s_database_is_left_alone(folder: Path) -> None:
    path = folder / studies.DATABASE_FILE
    path.unlink()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    (sentence,) = written_again(folder)
    assert "holds something else than this study and is left as it is" in sentence
    assert path.read_bytes() == before
    assert not list(folder.glob("*.damaged-*"))


def test_a_database_of_optuna_without_a_study_is_free(folder: Path) -> None:
    path = folder / studies.DATABASE_FILE
    path.unlink()
    RDBStorage(f"sqlite:///{path}").engine.dispose()  # what a dashboard leaves that came first
    written_again(folder)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM trials").fetchone()[0] > 0


def test_a_database_that_is_being_written_is_left_for_now_and_never_called_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optuna_database, "PATIENCE_S", 0.05)
    path = folder / studies.DATABASE_FILE
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        (sentence,) = written_again(folder)
        assert "is in use by another program and is left as it is for now" in sentence
    assert not list(folder.glob("*.damaged-*"))


@pytest.mark.parametrize("name", ["q?mode=ro", "100%", "a" * 200 + "/" + "b" * 200 + "/" + "c" * 200, "写真 raw"])
def test_any_folder_holds_its_own_database(finished: Path, tmp_path: Path, name: str) -> None:
    moved = shutil.copytree(finished, tmp_path / name / "s")
    (moved / studies.DATABASE_FILE).unlink()
    assert written_again(moved) == []
    assert (moved / studies.DATABASE_FILE).stat().st_size > 0
    if len(name) < 100:
        shutil.copy(moved / studies.DATABASE_FILE, tmp_path)
        assert len(list(optuna_trials(tmp_path))) == len(studies.load(moved).candidates)


@contextmanager
def opened_in_optuna(study: studies.StudyRecord, path: Path) -> Iterator[optuna.Study]:
    path.write_bytes(optuna_database.to_bytes(study))
    storage = RDBStorage(f"sqlite:///{path}")
    try:
        yield optuna.load_study(study_name=study.config.name, storage=storage)
    finally:
        storage.engine.dispose()  # Python 3.13 tells connections that nobody closes


def test_optuna_names_the_same_best_as_we_do_after_finals_too(tmp_path: Path) -> None:
    study = studies.load(REFERENCE)
    with opened_in_optuna(study, tmp_path / "study.db") as opened:
        assert opened.best_trial.number == study.best().trial
        assert opened.best_value == study.best().score(study.final_rung)
        assert opened.metric_names == ["score in dB at 8100 steps"]
        complete = [t.number for t in opened.trials if t.state is optuna.trial.TrialState.COMPLETE]
    assert complete == [c.trial for c in study.compared()]


def test_optuna_shows_the_same_front_as_we_do(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", objective="pareto", sampler="random")
    search(study, 6)
    rows = candidate_rows.rows(study, candidate_rows.choose_rung(study, None), everything=False)
    with opened_in_optuna(study, tmp_path / "copy.db") as opened:
        best = sorted(opened.best_trials, key=lambda t: t.values[1])
    assert sorted(t.number for t in best) == sorted(row["trial"] for row in rows)
    assert [t.values for t in best] == [[row["psnr_db"], row["runtime_ms"]] for row in rows]


def test_trials_of_a_later_session_have_the_dates_of_that_session(tmp_path: Path) -> None:
    study = make_study(tmp_path / "s", sampler="random")
    for began, elapsed_s in (("2026-01-01T10:00:00+02:00", 1.0), ("2026-01-03T10:00:00+00:00", 100.0)):
        study.elapsed_s = elapsed_s
        study.append("session", budget="4 candidates", workers=1, began=began)
        study.elapsed_s += 5
        genes = {name: gene.default for name, gene in GENES.items()}
        study.append("asked", trial=len(study.candidates), genes=genes, verdict="unsupported", reason="no")
    study.close()
    with opened_in_optuna(study, tmp_path / "copy.db") as opened:
        starts = [trial.datetime_start for trial in opened.trials]
    assert [str(start)[:19] for start in starts] == ["2026-01-01 08:00:05", "2026-01-03 10:00:05"]
