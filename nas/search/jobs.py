"""What a worker is told to do for a piece of work, as data."""

from collections.abc import Callable
from pathlib import Path

from nas.search.policy import Work
from nas.search.study import StudyRecord
from nas.train.job import Job


def job_of(
    study: StudyRecord, work: Work, *, data: Path, vgg_file: Path | None, on_message: Callable[[str], None]
) -> Job:
    """Return the job of a rung or a final; say so where the state from which a rung goes on is gone."""
    return _rung(study, work, data, vgg_file, on_message) if work.seed is None else _final(study, work, data, vgg_file)


def _rung(study: StudyRecord, work: Work, data: Path, vgg_file: Path | None, on_message: Callable[[str], None]) -> Job:
    config, path = study.config, study.checkpoint(work.candidate)
    return Job(
        work.candidate.spec,
        config.rungs[work.rung],
        path,
        data,
        config.recipe,
        config.seed,
        vgg_file,
        begins_at=_begins_at(study, work, path, on_message),
    )


def _begins_at(study: StudyRecord, work: Work, path: Path, on_message: Callable[[str], None]) -> int:
    """Return the steps that a candidate's state must have; where it is gone, begin anew."""
    if not work.rung:
        return 0
    before = study.config.rungs[work.rung - 1]
    if path.exists():
        return before
    on_message(
        f"The state of trial {work.candidate.trial} at step {before} is missing at {path}; it is trained again from "
        "the first step."
    )
    return 0


def _final(study: StudyRecord, work: Work, data: Path, vgg_file: Path | None) -> Job:
    config = study.config
    assert config.final_steps is not None
    assert work.seed is not None
    return Job(
        work.candidate.spec,
        config.final_steps,
        study.final_checkpoint(work.candidate, work.seed),
        data,
        config.recipe.scaled(config.final_steps),
        work.seed,
        vgg_file,
        save_every=config.rungs[-1],
        judge_training=True,
    )
