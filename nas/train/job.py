"""Jobs and outcomes of workers as plain data, so that the driver never loads JAX."""

from dataclasses import dataclass
from pathlib import Path

from nas.train.recipe import Recipe
from search_spaces.spec import ArchSpec


@dataclass(frozen=True)
class Job:
    """Train `spec` until `steps`, starting from `checkpoint` where it exists, and keep the state there."""

    spec: ArchSpec
    steps: int
    checkpoint: Path
    data: Path  # a folder that nas.data.pairs.prepare made
    recipe: Recipe
    seed: int
    vgg_file: Path | None = None  # of the weights of VGG-19; None: Keras's own copy, where they are needed
    save_every: int | None = None  # steps after which the state is kept, too; None: at the end alone
    judge_training: bool = False  # whether it is judged on training pairs, too, which shows overfitting
    begins_at: int = 0  # steps that the state at `checkpoint` has: without it, nothing is trained
    memory_bytes: int | None = None  # that it may take; None: all that the machine has


@dataclass(frozen=True)
class Outcome:
    """What one rung came to. Means over the validation pairs; seconds of this rung alone."""

    steps: int
    psnr_db: float
    ssim: float
    loss: float
    train_s: float
    compile_s: float
    evaluate_s: float
    # The highest resident memory of the training process so far; None: not told by the system, nor by old records.
    memory_mb: float | None = None
    rate_share: float = 1.0  # of the recipe's learning rates; below one since the loss diverged
    train_psnr_db: float | None = None  # on as many training pairs as there are validation pairs; None: not judged


@dataclass(frozen=True)
class JobFailure:
    """Why a candidate has no result; `fatal` where no other candidate would have one either (a full disk, say)."""

    reason: str
    fatal: bool = False
    died: bool = False  # the process was gone: it needed too much, or somebody killed it
    lost: bool = False  # the machine, its agent or the network was gone, or nothing moved any more
    returned: bool = False  # the worker gave the job back unfinished, which no candidate is to blame for
    needs_bytes: int | None = None  # of memory, where that is why


@dataclass(frozen=True)
class Begun:
    """A training that a worker began for a search from which it was cut off, and goes on with."""

    state: str  # the name of its checkpoint, which no other candidate or final of a study has
    steps: int  # at which it ends
