"""Gather what the page of one study shows, from its records and from what lies beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_models.device import Device, load_device
from nas.report import candidates, course
from nas.report.cards import precisions
from nas.report.data import Front, Genes, Layers, Overview, Photos, Precisions, StudyReport
from nas.report.layers import layers_of
from nas.report.network_photos import LEFT_OUT, NamedNetwork, OnMessage, network_photos
from nas.search import candidate_rows, verdicts
from nas.search import study as studies
from nas.search.candidate import CandidateRecord
from nas.search.standing import counts
from nas.search.study import RUN_FILE, StudyRecord
from nas.search.verdicts import Verdict
from search_spaces.errors import IspNasError
from search_spaces.spec import GENES
from search_spaces.system import stored

DEFAULT_PHOTOS = 3


@dataclass(frozen=True)
class ReportOptions:
    """What a page may be asked for."""

    photos: int = DEFAULT_PHOTOS  # validation pairs to show; 0: none
    exports: Sequence[Path] = ()  # folders of exports, or their card.json


def study_report(
    study: StudyRecord, options: ReportOptions | None = None, *, on_message: OnMessage = lambda _: None
) -> StudyReport:
    """Return everything that the page of a study shows; `on_message` gets a sentence before anything that takes long.

    Raises UsageError for an export that cannot be read.
    """
    options = options or ReportOptions()
    judged = verdict(study)
    cards = precisions(study, options.exports) if study.trained() else Precisions(note=NOTHING_TRAINED)
    events = list(studies.events(study.folder))
    runtimes = {c.trial: c.runtime_ms for c in study.candidates.values() if c.runtime_ms is not None}
    device = device_of(study)
    return StudyReport(
        overview=overview(study, judged),
        candidates=candidates.candidate_rows(study),
        front=front(study, device),
        photos=photos(study, judged, options.photos, on_message=on_message),
        anytime=course.anytime(events, runtimes),
        spending=course.spending(events, final_rung=study.final_rung),
        finalists=candidates.finalists(study),
        genes=genes(study),
        layers=_layers(study, device),
        precisions=cards,
        refused=candidates.refused_by_reason(study),
        provenance=provenance_of(study),
        settings=study.config.to_dict(),
    )


NOTHING_TRAINED = "No candidate is trained yet."


def verdict(study: StudyRecord) -> Verdict | None:
    """Return the verdict of a study's finals, None without finals."""
    return verdicts.verdict_of(study) if study.trained() else None


def overview(study: StudyRecord, judged: Verdict | None) -> Overview:
    """Return what a study is, with the verdict of its finals."""
    config, last = study.config, study.sessions[-1] if study.sessions else None
    return Overview(
        name=config.name,
        folder=str(study.folder),
        objective=config.objective,
        device=config.device,
        space=config.space,
        data=config.data.source,
        sentence=judged.sentence if judged else _without_finals(study),
        verdict=judged.to_dict() if judged else None,
        best=best_row(study),
        counts=counts(study),
        budget=last.budget if last else "not begun",
        elapsed_s=study.elapsed_s,
        sessions=len(study.sessions),
    )


def best_row(study: StudyRecord) -> dict[str, Any] | None:
    """Return the best candidate as `isp-nas best` tells it; its quality on the test pairs where that is recorded."""
    if not study.trained():
        return None
    candidate, rung = candidate_rows.best(study)
    row = candidate_rows.row(candidate, rung, verdicts.half_width_db(study, study.ladder[rung]))
    unknown = {"test_psnr_db": None, "test_ssim": None}
    return row | (study.tests.get((candidate.trial, row["steps"], candidate.best_seed)) or unknown)


def _without_finals(study: StudyRecord) -> str:
    if not study.trained():
        return NOTHING_TRAINED
    best, rung = study.best(), study.comparison_rung()
    name = f" ({best.name})" if best.name else ""
    return (
        f"Trial {best.trial}{name} is the best of {len(study.at_rung(rung))} candidates at {study.ladder[rung]} steps, "
        f"with a score of {best.score(rung):.2f}. There were no finals, so the noise of trainings is not known."
    )


def front(study: StudyRecord, device: Device | None) -> Front:
    """Return the steps at which candidates were compared, and lines of equal score."""
    if not study.trained():
        return Front((), None, (), NOTHING_TRAINED)
    steps = [steps for rung, steps in enumerate(study.ladder) if study.at_rung(rung)]
    runtimes = [c.runtime_ms for c in study.candidates.values() if c.runtime_ms]
    chosen = study.ladder[candidate_rows.choose_rung(study, None)]
    return Front(steps, chosen, candidates.score_offsets(runtimes), _runtime_note(study, device))


def _runtime_note(study: StudyRecord, device: Device | None) -> str:
    if device is None:
        return f"Runtimes on {study.config.device} are predicted; its file is not here any more."
    if device.predictor.interval.kind == "assumed":
        return f"Runtimes on {device.name} are predicted, and the width of their interval is an assumption."
    return f"Runtimes on {device.name} are predicted, with the interval of held-out measurements."


def device_of(study: StudyRecord) -> Device | None:
    """Return the study's device, None where its file is gone."""
    try:
        return load_device(study.config.device)
    except IspNasError:
        return None


def photos(study: StudyRecord, judged: Verdict | None, count: int, *, on_message: OnMessage = lambda _: None) -> Photos:
    """Return some validation pairs with what the best found and the best design make of them, or why there are none."""
    if not count:
        return LEFT_OUT
    if not study.trained():
        return Photos(note=NOTHING_TRAINED)
    best = [c for c in contestants(study, judged) if c]
    shown = [c for c in best if study.longest_checkpoint(c).exists()]
    if not shown:
        return Photos(
            note="The checkpoints of the best networks are not in the study's folder, so their pictures cannot be made."
        )
    missing = [f"{label(c)} is not shown: its checkpoint is not in the study's folder." for c in best if c not in shown]
    return network_photos([NamedNetwork(label(c), study, c) for c in shown], count, on_message, note=" ".join(missing))


def label(candidate: CandidateRecord) -> str:
    """Return what a candidate is called in pictures."""
    return candidate.name or f"trial {candidate.trial}"


def contestants(study: StudyRecord, judged: Verdict | None) -> tuple[CandidateRecord | None, CandidateRecord | None]:
    """Return the best network found and the best published design: those of the verdict, else by score."""
    if judged and judged.found is not None and judged.design is not None:
        return study.candidates[judged.found], study.candidates[judged.design]
    rung = study.comparison_rung()
    ranked = sorted(study.at_rung(rung), key=lambda c: -c.score(rung))
    return (next((c for c in ranked if not c.name), None), next((c for c in ranked if c.name), None))


def genes(study: StudyRecord) -> Genes:
    """Return which genes matter, or why that is not known."""
    from nas.search.gene_importance import FEWEST, gene_importances  # loads Optuna

    importances = gene_importances(study)
    if not importances:
        return Genes(note=f"Importances need {FEWEST} trained candidates; the study has {len(study.trained())}.")
    rows = [{"gene": name, "share": share, "meaning": GENES[name].meaning} for name, share in importances.items()]
    return Genes(rows)


def _layers(study: StudyRecord, device: Device | None) -> Layers:
    if not study.trained():
        return Layers("", note=NOTHING_TRAINED)
    best = study.best()
    return layers_of(label(best), best.spec, device)


def provenance_of(study: StudyRecord) -> dict[str, Any]:
    """Return the provenance in run.toml; nothing where it has none."""
    try:
        provenance = stored.parse_toml(stored.read_bytes(study.folder / RUN_FILE)).get("provenance", {})
    except (OSError, ValueError):
        return {}
    return provenance if isinstance(provenance, dict) else {}
