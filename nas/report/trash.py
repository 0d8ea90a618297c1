"""Move a study to the trash of the system, from which it can be taken back."""

from pathlib import Path

from nas.search import study as studies
from search_spaces.errors import StudyError, UnknownNameError
from search_spaces.system import folder_lock


def trash_study(results: Path, name: str) -> Path:
    """Move the study called `name` to the trash and return the folder it lay in.

    Raises UnknownNameError where there is no such study, StudyError where a search works on it or there is no trash.
    """
    from send2trash import send2trash

    known = studies.names(results)
    if name not in known:
        raise UnknownNameError("study", name, known)
    folder = results / name
    if folder_lock.is_held(folder):
        raise StudyError(f"A search is working on {folder}; stop it with Ctrl-C before the study is deleted.")
    try:
        send2trash(folder)
    except OSError as error:
        raise StudyError(
            f"{folder} could not be moved to the trash ({error.strerror or error}) and is left where it is; move it by "
            "hand."
        ) from None
    return folder
