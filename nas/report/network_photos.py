"""Photos of trained networks for a page, or the sentence that says why there are none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nas import backend
from nas.report.data import Photos
from nas.search.candidate import CandidateRecord
from nas.search.network_ref import require_same_data
from nas.search.study import StudyRecord
from search_spaces.errors import IspNasError

OnMessage = Callable[[str], None]
LEFT_OUT = Photos(note="Photos were left out (--photos 0).")


@dataclass(frozen=True)
class NamedNetwork:
    """A network that a study has trained, under the name it has in pictures."""

    label: str
    study: StudyRecord
    candidate: CandidateRecord


def network_photos(networks: Sequence[NamedNetwork], count: int, on_message: OnMessage, *, note: str = "") -> Photos:
    """Return what each network makes of the same validation pairs, or why that cannot be shown."""
    try:
        for study in {each.study.folder: each.study for each in networks}.values():
            require_same_data(study)
        on_message("Making photos of validation pairs…")
        backend.prepare()
        from nas.report.photos import Shown, photo_rows

        shown = [
            Shown(
                each.label, each.candidate.spec, each.study.longest_checkpoint(each.candidate), each.study.config.data
            )
            for each in networks
        ]
        return Photos(photo_rows(shown, count), note)
    except (IspNasError, OSError) as error:
        return Photos(note=f"The photos could not be made: {error}")
