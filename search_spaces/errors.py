"""Errors that a user can correct.

Every error here is one sentence: what was wanted, what came, what to do. The command line prints it and
exits with code 2; anything that is not an `IspNasError` is a bug of ours and is left to crash loudly.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class IspNasError(Exception):
    """The base of every error that the user can mend."""


class UsageError(IspNasError):
    """An argument or a configuration value is outside what it may be."""


class UnknownNameError(UsageError):
    """A name that is not among the known ones; says which is nearest."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(str(name), names, n=1, cutoff=0.5)
        listed = ", ".join(names) if names else "none yet"
        hint = f' Did you mean "{near[0]}"?' if near else ""
        super().__init__(f'Unknown {kind} "{name}"; known: {listed}.{hint}')


class SpecError(UsageError):
    """A specification of an architecture that is not a member of any space."""


class GraphError(IspNasError):
    """A graph whose operations cannot be connected as asked."""


class DataError(IspNasError):
    """Training pairs that are missing, unreadable or wrong."""


class DeviceError(IspNasError):
    """A device description that is missing, damaged, or lacks what a network needs."""


class MeasurementError(IspNasError):
    """A measured time, or a file or phone that should give one, that cannot be trusted."""


class StudyError(IspNasError):
    """A study on disk that is missing, damaged, locked or was started with other settings."""


class MissingStateError(StudyError):
    """A training that was to go on from a state which is not there."""


class TrainingError(IspNasError):
    """A candidate whose training cannot give a result: the loss is not finite or diverged."""


class TooLargeError(TrainingError):
    """A training that needs more memory than there is where it was to run; another machine may have it."""

    def __init__(self, sentence: str, needs_bytes: int) -> None:
        super().__init__(sentence)
        self.needs_bytes = needs_bytes


class DivergedError(TrainingError):
    """A training whose loss left the road; a lower learning rate may keep it there."""


class ExportError(IspNasError):
    """A file that was not written because it would not be what it claims to be."""
