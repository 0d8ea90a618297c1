"""Put studies, or networks, side by side: where they differ in settings, data, training and genes, and the outcome."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from latency_models.device import Device, load_device
from nas.defaults import DEFAULT_DEVICE
from nas.report import candidates, course
from nas.report.course import Corner
from nas.report.data import Front, Layers, Photos, Row
from nas.report.layers import layers_of
from nas.report.network_photos import LEFT_OUT, NamedNetwork, OnMessage, network_photos
from nas.report.study_report import DEFAULT_PHOTOS, best_row, device_of, front, genes, label, overview, verdict
from nas.search import candidate_rows, verdicts
from nas.search import study as studies
from nas.search.candidate import CandidateRecord
from nas.search.network_ref import NetworkRef, resolve
from nas.search.study import StudyRecord
from search_spaces.designs import DESIGNS
from search_spaces.errors import UsageError
from search_spaces.spec import GENES

STUDIES, NETWORKS = "studies", "networks"
_FOUND = ("trial", "name", "steps", "psnr_db", "psnr_half_width_db", "seeds", "ssim", "score", "runtime_ms",
          "runtime_low_ms", "runtime_high_ms", "parameters", "macs", "hash")  # fmt: skip


@dataclass(frozen=True)
class ComparisonPage:
    """What a page of a comparison shows."""

    kind: str  # studies or networks
    labels: Sequence[str]
    sentences: Sequence[str]  # the verdict of each study; what each network is
    differences: Sequence[Mapping[str, Any]]  # part, name, values, differs
    studies: Sequence[Mapping[str, Any]]  # what the charts draw
    hypervolume_note: str  # why hypervolumes are not drawn; empty where they are
    layers: Sequence[Layers]
    photos: Photos

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Compared:
    """One of those that are compared."""

    label: str
    study: StudyRecord | None
    target: NetworkRef | None  # None: the study as a whole


def find(texts: Sequence[str], results: Path, study: str | None) -> list[Compared]:
    """Return what each text names: a study, `STUDY:NETWORK`, or a network of the study that `study` names.

    A published design is the one that the study of the other networks trained, where it did. Raises UsageError for
    fewer than two, and for studies beside networks; else what `resolve` raises.
    """
    if len(texts) < 2:
        raise UsageError("Name two studies, or two networks, to compare; a network of a study is STUDY:TRIAL.")
    known = studies.names(results)
    compared = _of_one_study([_named(text, results, study, known) for text in texts])
    if len({each.target is None for each in compared}) > 1:
        raise UsageError(
            "Compare studies with studies, or networks with networks; a network of a study is STUDY:TRIAL."
        )
    return compared


def _named(text: str, results: Path, study: str | None, known: Sequence[str]) -> Compared:
    if text in known:
        return Compared(text, studies.load(results / text), None)
    name, colon, network = text.rpartition(":")
    if not (colon and name in known):
        return _of_network_ref(text, resolve(text, results, study))
    target = resolve(network, results, name)
    return _as_trained(_of_network_ref(text, target), target.study)


def _of_network_ref(text: str, target: NetworkRef) -> Compared:
    return Compared(text, target.study if target.candidate else None, target)


def _of_one_study(compared: Sequence[Compared]) -> list[Compared]:
    """Return the same, with designs as they were trained in the study of all other networks, if it is one."""
    named = {each.study.folder: each.study for each in compared if each.study is not None}
    opened = next((each.target.study for each in compared if each.target and each.target.study), None)
    study = next(iter(named.values()), opened)
    return [_as_trained(each, study) for each in compared] if len(named) < 2 else list(compared)


def _as_trained(each: Compared, study: StudyRecord | None) -> Compared:
    """Return a published design as the study trained it; all else, and a design that it did not train, as it is."""
    target = each.target
    if study is None or target is None or target.candidate is not None or target.label not in DESIGNS:
        return each
    candidate = next((c for c in study.trained() if c.spec == target.spec), None)
    return each if candidate is None else replace(each, study=study, target=replace(target, candidate=candidate))


def compare(
    compared: Sequence[Compared], *, photos: int = DEFAULT_PHOTOS, on_message: OnMessage = lambda _: None
) -> ComparisonPage:
    """Return where those differ."""
    are_studies = compared[0].target is None
    parts = [_of_study(each) if are_studies else _of_network(each) for each in compared]
    note = _hypervolume_note(compared) if are_studies else ""
    histories = [list(studies.events(each.study.folder)) if are_studies and each.study else [] for each in compared]
    corner = None if note else _common_corner(compared, histories)
    return ComparisonPage(
        STUDIES if are_studies else NETWORKS,
        [each.label for each in compared],
        [_sentence(each) for each in compared],
        differences(parts),
        [_drawn(each, corner, history) for each, history in zip(compared, histories, strict=True)],
        note,
        [_layers(each) for each in compared],
        _photos(compared, photos, on_message),
    )


def differences(parts: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return one row per value that any of the tables has, in the order of the first; what is missing is None."""
    rows = []
    for part in dict.fromkeys(name for each in parts for name in each):
        tables = [each.get(part, {}) for each in parts]
        for name in dict.fromkeys(name for table in tables for name in table):
            values = [table.get(name) for table in tables]
            rows.append({"part": part, "name": name, "values": values, "differs": any(v != values[0] for v in values)})
    return rows


def _of_study(each: Compared) -> dict[str, dict[str, Any]]:
    assert each.study is not None
    row = best_row(each.study)
    spec = each.study.best().spec if each.study.trained() else None
    return {
        **_settings(each.study),
        "best": {} if row is None else {name: row[name] for name in (*_FOUND, "test_psnr_db", "test_ssim")},
        "genes of the best": {} if spec is None else dict(spec.active_genes),
    }


def _settings(study: StudyRecord) -> dict[str, dict[str, Any]]:
    settings = study.config.to_dict()
    settings.pop("name")
    data, recipe = settings.pop("data"), settings.pop("recipe")
    data |= {"fingerprint": settings.pop("data_fingerprint")}
    search = settings | {"budget": study.sessions[-1].budget if study.sessions else None, "elapsed_s": study.elapsed_s}
    search |= {"trained": len(study.trained()), "sessions": len(study.sessions)}
    return {"search": dict(_flat(search)), "data": dict(_flat(data)), "training": dict(_flat(recipe))}


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _of_network(each: Compared) -> dict[str, dict[str, Any]]:
    assert each.target is not None
    layers, candidate = _layers(each), each.target.candidate
    cost = {"hash": each.target.spec.hash, "parameters": layers.parameters, "macs": layers.macs}
    cost |= {name: getattr(layers, name) for name in ("runtime_ms", "runtime_low_ms", "runtime_high_ms")}
    genes = {name: value for name in GENES if (value := each.target.spec.active_genes.get(name)) is not None}
    row = _row(each.study, candidate) if each.study and candidate else {}
    settings = _settings(each.study) if each.study else {}
    return {
        "genes": genes,
        "cost": cost,
        "quality": row,
        "data": settings.get("data", {}),
        "training": settings.get("training", {}),
    }


def _row(study: StudyRecord, candidate: CandidateRecord) -> dict[str, Any]:
    if candidate.longest is None:
        return {"verdict": candidate.verdict, "reason": candidate.failure or candidate.reason}
    rung = candidate_rows.longest_rung(study, candidate)
    quality = candidate_rows.quality(candidate, rung, verdicts.half_width_db(study, study.ladder[rung]))
    return {"steps": candidate.at(rung).steps, **quality, "score": candidate.score(rung)}


def _sentence(each: Compared) -> str:
    if each.target is None:
        assert each.study is not None
        return overview(each.study, verdict(each.study)).sentence
    candidate = each.target.candidate
    of_study = f", trial {candidate.trial} of {each.study.folder.name}" if each.study and candidate else ""
    return f"{each.target.spec.description}{of_study}"


def _hypervolume_note(compared: Sequence[Compared]) -> str:
    """Return why the areas under the fronts of studies cannot be compared, nothing where they can."""
    configs = [each.study.config for each in compared if each.study is not None]
    if len({config.device for config in configs}) > 1:
        return "Hypervolumes are not shown: runtimes are those of different devices."
    if len({config.data_fingerprint for config in configs}) > 1:
        return "Hypervolumes are not shown: PSNR was measured on different pairs."
    return ""


def _common_corner(compared: Sequence[Compared], histories: Sequence[Sequence[Row]]) -> Corner | None:
    """Return the corner from which the hypervolumes of all studies are taken."""
    corners = [
        corner
        for each, history in zip(compared, histories, strict=True)
        if each.study is not None and (corner := course.corner_of(history, _runtimes_ms(each.study)))
    ]
    return (min(db for db, _ in corners), max(ms for _, ms in corners)) if corners else None


def _runtimes_ms(study: StudyRecord) -> dict[int, float]:
    return {c.trial: c.runtime_ms for c in study.candidates.values() if c.runtime_ms is not None}


def _drawn(each: Compared, corner: Corner | None, history: Sequence[Row]) -> dict[str, Any]:
    """Return what the charts draw of one; `history` are the records of a study."""
    nothing = {"anytime": None, "spending": None, "genes": None}
    if each.study is None:
        return {"label": each.label, "candidates": [], "front": asdict(Front((), None, (), "")), **nothing}
    rows = candidates.candidate_rows(each.study)
    at = front(each.study, _device(each))
    if each.target is not None and each.target.candidate is not None:
        rows = [row for row in rows if row["trial"] == each.target.candidate.trial]
        longest = each.target.candidate.longest
        at = replace(at, chosen=longest.steps if longest else None)
        return {"label": each.label, "candidates": rows, "front": asdict(at), **nothing}
    return {
        "label": each.label,
        "candidates": rows,
        "front": asdict(at),
        "anytime": asdict(course.anytime(history, _runtimes_ms(each.study), corner)),
        "spending": asdict(course.spending(history, final_rung=each.study.final_rung)),
        "genes": asdict(genes(each.study)),
    }


def _device(each: Compared) -> Device | None:
    if each.study is not None:
        return device_of(each.study)
    if each.target is not None and each.target.study is not None:
        return device_of(each.target.study)
    return load_device(DEFAULT_DEVICE)


def _layers(each: Compared) -> Layers:
    if each.target is not None:
        return layers_of(each.label, each.target.spec, _device(each))
    assert each.study is not None
    if not each.study.trained():
        return Layers(each.label, note="No candidate is trained yet.")
    best = each.study.best()
    return layers_of(f"{label(best)} of {each.label}", best.spec, _device(each))


def _photos(compared: Sequence[Compared], count: int, on_message: OnMessage) -> Photos:
    """Return what each makes of the same validation pairs, or why that cannot be shown."""
    if not count:
        return LEFT_OUT
    trained = [NamedNetwork(each.label, each.study, c) for each in compared if (c := _candidate(each)) and each.study]
    if len(trained) < len(compared):
        return Photos(note="Photos need networks that a study has trained.")
    if len({each.study.config.data_fingerprint for each in trained}) > 1:
        return Photos(note="They were trained on other pairs, so that no pair belongs to both.")
    return network_photos(trained, count, on_message)


def _candidate(each: Compared) -> CandidateRecord | None:
    if each.target is not None:
        return each.target.candidate
    return each.study.best() if each.study is not None and each.study.trained() else None
