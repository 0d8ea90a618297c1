"""What comes of measuring one network where it is not a time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """A network without a time that could be trusted."""

    network: str
    model: str  # the path of its file
    reason: str
