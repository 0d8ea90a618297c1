"""How far a study is: what was trained, how far, and what was not."""

from collections.abc import Collection, Mapping

from nas.search.study import StudyRecord


def counts(study: StudyRecord, busy: Collection[int] = ()) -> dict[str, int]:
    """Return how many proposals were trained, how far, failed, repeated, or refused before training."""
    verdicts, failed = study.verdicts, study.failed
    trained, top = study.trained(), len(study.config.rungs) - 1
    done = study.at_rung(top)
    climbing = [c for c in map(study.candidates.__getitem__, {*busy}) if c.rungs and top not in c.rungs]
    return {
        "trained": len(trained),
        f"done at {study.config.rungs[-1]} steps": len(done),
        "stopped earlier": len(trained) - len(done) - len(climbing),
        "failed": len(failed),
        "duplicates": verdicts["duplicate"],
        "over the limit": verdicts["infeasible"],
        "not runnable on the device": verdicts["unsupported"],
    }


def in_words(counts: Mapping[str, int]) -> str:
    """Return counts as words, those of nothing left out."""
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number or name == "trained")
