"""What travels between a hub and its agents: plain data and bytes of checkpoints, read strictly on arrival.

    agent ──► hello (Facts) ─────────────────► hub
          ◄── welcome (Terms) or refused ◄────
          ──► ready (Holding) or unfit ──────►
          ◄── job (JobMessage, state) ◄───────
          ──► kept (attempt, state) ─────────►      while a long training goes on
          ──► done (attempt, result, state) ─►
          ──► leaving ───────────────────────►

No message holds code, and nothing in one is executed or unpickled by us.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from nas.train.job import Job, JobFailure, Outcome
from nas.train.ranges import Decibels, Finite, Megabytes, Number, Seconds, Share, Ssim, Steps
from nas.train.recipe import Recipe
from search_spaces.spec import ArchSpec
from search_spaces.system import stored

Text = Annotated[str, Field(max_length=2000)]
Bytes = Annotated[int, Field(ge=0, le=2**60)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$")]
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
METRIC = "isp_nas"  # of Dask's heartbeats, in which they tell the step
PREFIX = "isp-nas-"


@dataclass(frozen=True)
class Facts:
    """What an agent tells of itself before it is given anything."""

    __pydantic_config__ = _STRICT

    host: Text
    process: Number
    number: Number  # of the agent, where one command runs several
    code: Text  # as in nas.provenance
    versions: dict[str, Text]
    backend: Text
    processor: Text
    memory_bytes: Bytes | None
    now_s: float  # by its clock, since 1970


@dataclass(frozen=True)
class Terms:
    """What a search needs of its agents, and where they find the pairs."""

    __pydantic_config__ = _STRICT

    study: Text
    code: Text
    versions: dict[str, Text]
    backend: Text
    least_memory_bytes: Bytes
    content: Text  # of the prepared pairs
    pairs: Text  # the folder in which the hub has them
    files: dict[Name, Bytes]
    sends_pairs: bool
    vgg: Text | None = None  # SHA-256 of VGG-19's weights, where they take part
    vgg_bytes: Bytes = 0


@dataclass(frozen=True)
class Holding:
    """What an agent trains for the same study since before it was cut off."""

    __pydantic_config__ = _STRICT

    state: Name  # of the checkpoint
    steps: Steps


@dataclass(frozen=True)
class JobMessage:
    """A job without the places in which its files are."""

    __pydantic_config__ = _STRICT

    name: Name  # of the checkpoint
    genes: dict[str, Any]
    steps: Steps
    recipe: Recipe
    seed: Number
    save_every: Steps | None
    judge_training: bool
    begins_at: Number

    @classmethod
    def of(cls, job: Job) -> "JobMessage":
        """Return what travels of a job."""
        return cls(
            job.checkpoint.name,
            job.spec.to_dict(),
            job.steps,
            job.recipe,
            job.seed,
            job.save_every,
            job.judge_training,
            job.begins_at,
        )

    def job(self, *, folder: Path, pairs: Path, vgg_file: Path | None, memory_bytes: int | None) -> Job:
        """Return the job with its files in an agent's places."""
        return Job(
            ArchSpec.from_dict(self.genes), self.steps, folder / self.name, pairs, self.recipe, self.seed, vgg_file,
            self.save_every, self.judge_training, self.begins_at, memory_bytes,
        )  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """An Outcome, in its ranges."""

    __pydantic_config__ = _STRICT

    steps: Steps
    psnr_db: Decibels
    ssim: Ssim
    loss: Finite
    train_s: Seconds
    compile_s: Seconds
    evaluate_s: Seconds
    memory_mb: Megabytes | None
    rate_share: Share
    train_psnr_db: Decibels | None


@dataclass(frozen=True)
class TrainingFailure:
    """A JobFailure."""

    __pydantic_config__ = _STRICT

    reason: Text
    fatal: bool
    died: bool
    lost: bool
    returned: bool
    needs_bytes: Bytes | None


FACTS: stored.Schema[Facts] = stored.Schema(Facts)
TERMS: stored.Schema[Terms] = stored.Schema(Terms)
HOLDING: stored.Schema[Holding] = stored.Schema(Holding)
JOB: stored.Schema[JobMessage] = stored.Schema(JobMessage)
_FIGURES: stored.Schema[Figures] = stored.Schema(Figures)
_FAILURE: stored.Schema[TrainingFailure] = stored.Schema(TrainingFailure)


def plain(message: Facts | Terms | Holding | JobMessage) -> dict[str, Any]:
    """Return a message as plain data."""
    if isinstance(message, JobMessage):
        return {**asdict(message), "recipe": message.recipe.to_dict()}
    return asdict(message)


def plain_result(result: Outcome | JobFailure) -> dict[str, Any]:
    """Return a result as plain data."""
    kind = "failure" if isinstance(result, JobFailure) else "outcome"
    data = asdict(result)
    if kind == "failure":
        data["reason"] = data["reason"][:2000]
    return {kind: data}


def read_result(data: Any) -> Outcome | JobFailure:
    """Return the result that plain data tell; raise ValueError where they tell none."""
    if not isinstance(data, dict) or len(data) != 1 or not data.keys() <= {"failure", "outcome"}:
        raise ValueError("it is neither an outcome nor a failure")
    if "failure" in data:
        return JobFailure(**asdict(_FAILURE.read(data["failure"])))
    return Outcome(**asdict(_FIGURES.read(data["outcome"])))


def progress(attempt: str, step: int) -> dict[str, Any]:
    """Return what heartbeats tell of a training."""
    return {"attempt": attempt, "step": step}


def step_in(metrics: Any, attempt: str) -> int:
    """Return the step that a heartbeat told of an attempt; 0 where it told none."""
    progress_data = metrics.get(METRIC) if isinstance(metrics, dict) else None
    if not isinstance(progress_data, dict) or progress_data.get("attempt") != attempt:
        return 0
    step = progress_data.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= 10**12 else 0
