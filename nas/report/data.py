"""What a page about a study shows, as plain data: the templates draw it, and the page hands it out as JSON.

Rows have the names and the full precision of `isp-nas pareto`, `best` and `show` with `--format json`. Where something
is not known, `note` says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Overview:
    """What a study is, how far it came, and its verdict."""

    name: str
    folder: str
    objective: str
    device: str
    space: str
    data: str
    sentence: str  # the verdict, with its interval
    verdict: Row | None  # as `isp-nas best` has it; None without finals
    best: Row | None  # as `isp-nas best` has it; None before anything is trained
    counts: Mapping[str, int]
    budget: str
    elapsed_s: float
    sessions: int


@dataclass(frozen=True)
class Front:
    """Quality against runtime, at each number of training steps."""

    steps: Sequence[int]  # at which candidates were compared
    chosen: int | None  # of them, what `isp-nas pareto` shows
    score_offsets: Sequence[tuple[float, float]]  # (ms, what the score adds to PSNR there): lines of equal score
    runtime_note: str


@dataclass(frozen=True)
class PairPicture:
    """One picture of a pair, ready to be shown."""

    title: str
    url: str  # data:


@dataclass(frozen=True)
class PhotoRow:
    """One validation pair: mosaic, target, and what each network makes of it."""

    pair: str
    why: str  # it was chosen
    pictures: Sequence[PairPicture]


@dataclass(frozen=True)
class Photos:
    """A few validation pairs side by side."""

    rows: Sequence[PhotoRow] = ()
    note: str = ""


@dataclass(frozen=True)
class Anytime:
    """What was best after how long: one row per training that changed it."""

    rows: Sequence[Row] = ()  # elapsed_s, candidates, score, hypervolume
    reference_psnr_db: float | None = None  # the corner from which the hypervolume is taken
    reference_runtime_ms: float | None = None


@dataclass(frozen=True)
class Spending:
    """Where the time of the workers went, in seconds."""

    worker_s: float  # workers × seconds of all sessions
    train_s: float
    compile_s: float
    evaluate_s: float
    waiting_s: float
    by_rung: Sequence[Row] = ()
    by_worker: Sequence[Row] = ()
    note: str = ""


@dataclass(frozen=True)
class Genes:
    """Which genes matter."""

    importances: Sequence[Row] = ()  # gene, share, meaning; the greatest first
    note: str = ""


@dataclass(frozen=True)
class Layers:
    """Where a network spends its milliseconds."""

    target: str
    rows: Sequence[Row] = ()  # as `isp-nas show` has them
    runtime_ms: float | None = None
    runtime_low_ms: float | None = None
    runtime_high_ms: float | None = None
    fixed_ms: float | None = None  # start, input and output
    parameters: int | None = None
    macs: int | None = None
    peak_activation_bytes: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Precisions:
    """What an export lost in each precision."""

    cards: Sequence[Row] = ()  # file, target, hash, steps, is_best, precisions: as in card.json
    note: str = ""


@dataclass(frozen=True)
class StudyReport:
    """Everything that the page of one study shows, in its order."""

    overview: Overview
    candidates: Sequence[Row]  # all proposals by trial
    front: Front
    photos: Photos
    anytime: Anytime
    spending: Spending
    finalists: Sequence[int]  # trials whose learning curves are drawn
    genes: Genes
    layers: Layers
    precisions: Precisions
    refused: Sequence[Row]  # verdict, reason, count, trials
    provenance: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
