"""The folder of a training run: settings, names of files, and the lock on it."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from nas import provenance
from nas.data.pairs import DataConfig, identity
from nas.train import history
from nas.train.losses import vgg_weights
from nas.train.recipe import Recipe, require_whole
from search_spaces.auxiliary_head import HEAD_BLOCKS, LAYERS
from search_spaces.errors import IspNasError, StudyError, UsageError
from search_spaces.quantised_maps import QuantisedMaps
from search_spaces.spec import ArchSpec
from search_spaces.system import folder_lock, stored
from search_spaces.system.atomic_write import clear_left_behind, write_durably

TRAINED = "trained"  # the folder beside the studies where `isp-nas train` keeps its runs
TRAINING_FILE = "training.toml"
CHECKPOINT_FILE = "checkpoint.safetensors"  # the last state of a run
BEST_FILE = "best.safetensors"  # the state of its best validation
QUANTISATION = "quantisation"  # under this name training.toml tells of quantisation-aware training
OWN_FILES = (CHECKPOINT_FILE, BEST_FILE, history.HISTORY_FILE)
NAMES = {
    "data_identity": "pairs in the same place",
    QUANTISATION: "weights to start from, or their ranges",
}  # what people call a setting
# A checkpoint this often: losing at most a minute or so, spending under 1 % of the time on writing.
STRETCHES = 20
LEAST_STRETCH = 100
# ENERZAI's team took its super-network off above a PSNR that the report does not tell (§4.4); this one is ours, near
# the 22.97 dB that their small network reached on the challenge's pairs.
DETACH_AT_DB = 23.0


def read_training(folder: Path) -> dict[str, Any]:
    """Return the settings of a training run; raise StudyError where they are damaged."""
    path = folder / TRAINING_FILE
    try:
        data = stored.parse_toml(stored.read_bytes(path))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read ({error}); train again into another folder.") from None
    missing = [name for name in ("spec", "data", "recipe", "seed") if name not in data]
    if missing:
        raise StudyError(f"{path} lacks {', '.join(missing)}; train again into another folder.")
    try:
        read = _SETTINGS.read(data)
        require_whole(data["recipe"])
        read["data"].validate()
        spec = ArchSpec.from_dict(data["spec"])
    except (ValueError, IspNasError) as error:
        raise StudyError(
            f"{path} is damaged ({str(error).removesuffix('.')}); restore it, or train again into another folder."
        ) from None
    return {**data, "spec": spec.to_dict()}  # genes that came later have their defaults


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
class _Settings(TypedDict):
    """What training.toml holds; values with classes of their own are checked by these."""

    spec: dict[str, int | str]
    data: DataConfig
    recipe: Recipe
    seed: Annotated[int, Field(ge=0)]
    provenance: NotRequired[dict[str, Any]]
    data_identity: NotRequired[str]
    super_network: NotRequired["SuperNetwork"]
    validate_every: NotRequired[Annotated[int, Field(ge=1)]]
    init_from: NotRequired[str]
    vgg: NotRequired[str]
    quantisation: NotRequired[dict[str, Any]]


_SETTINGS: stored.Schema[_Settings] = stored.Schema(_Settings, known=[f.name for f in fields(Recipe)])


@dataclass(frozen=True)
class SuperNetwork:
    """The larger head that a network is joined to at first, and the validation PSNR above which it is taken off."""

    detach_at_db: float = DETACH_AT_DB
    blocks: int = HEAD_BLOCKS
    layers: int = LAYERS

    def __post_init__(self) -> None:
        if not (math.isfinite(self.detach_at_db) and self.detach_at_db > 0):
            raise UsageError(f"The PSNR to detach at must be above zero dB, got {self.detach_at_db}.")

    def require_fit(self, spec: ArchSpec, recipe: Recipe) -> None:
        """Raise UsageError where this network cannot be joined, or is not trained for long enough."""
        if spec.topology != "flat":
            raise UsageError(
                f"A super-network can be joined to a network of the flat topology only, this one is {spec.topology}; "
                "train it without --super-network."
            )
        if recipe.total_steps < 2:
            raise UsageError(f"A joint and a lone phase need two steps at least, got {recipe.total_steps}; give more.")


@dataclass(frozen=True)
class Quantisation:
    """What quantisation-aware training rounds, and what it started from."""

    maps: QuantisedMaps
    start: str  # SHA-256 of the checkpoint whose weights are fine-tuned
    calibration: int  # pairs from which the first ranges were taken
    scales: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # of its maps' channels, at the start

    def to_dict(self) -> dict[str, Any]:
        """Return it as training.toml has it."""
        data = {"start": self.start, "calibration": self.calibration, "maps": self.maps.to_dict()}
        scales = {name: list(factors) for name, factors in self.scales.items()}
        return {**data, "scales": scales} if scales else data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Quantisation":
        """Read what `to_dict` wrote."""
        scales = {name: tuple(factors) for name, factors in data.get("scales", {}).items()}  # none before they existed
        return cls(QuantisedMaps.from_dict(data["maps"]), data["start"], data["calibration"], scales)


@dataclass(frozen=True)
class TrainingRun:
    """One network, what it is trained on, and where its state is kept."""

    folder: Path
    spec: ArchSpec
    data: DataConfig
    recipe: Recipe
    seed: int
    super_network: SuperNetwork | None = None
    validate_every: int | None = None  # steps; None: a twentieth of the training, but no less than LEAST_STRETCH
    init_from: str | None = None  # what names the checkpoint of the same network whose weights are the first ones
    vgg_file: Path | None = None  # of the weights of VGG-19; None: Keras's own copy, where they are needed
    quantisation: Quantisation | None = None  # train as an int8 file computes; None: in plain float32

    def __post_init__(self) -> None:
        if self.quantisation and self.recipe.precision != "float32":
            raise UsageError(
                f"Quantisation-aware training rounds float32 numbers, not {self.recipe.precision}; "
                "give --dtype float32."
            )
        if self.validate_every is not None and self.validate_every < 1:
            raise UsageError(f"A validation comes after one step or more, got {self.validate_every}.")

    def settings(self) -> dict[str, object]:
        """Return what makes two runs the same; pairs and VGG-19's weights are told by their content."""
        data = {name: value for name, value in self.data.to_dict().items() if value is not None}
        data["raw"] = {name: value for name, value in data["raw"].items() if value is not None}
        values = {"spec": self.spec.to_dict(), "data": data, "recipe": self.recipe.to_dict(), "seed": self.seed}
        more = {
            "data_identity": identity(self.data),
            "super_network": asdict(self.super_network) if self.super_network else None,
            "validate_every": self.validate_every,
            "init_from": self.init_from,
            "vgg": vgg_weights.used(self.recipe, self.vgg_file),
            QUANTISATION: self.quantisation.to_dict() if self.quantisation else None,
        }
        return values | {name: value for name, value in more.items() if value is not None}

    @property
    def quantised(self) -> QuantisedMaps | None:
        """What is rounded as in an int8 file."""
        return self.quantisation.maps if self.quantisation else None

    @property
    def stretch(self) -> int:
        """Steps from one validation to the next."""
        return self.validate_every or max(LEAST_STRETCH, self.recipe.total_steps // STRETCHES)


@contextmanager
def only_training(long_run: TrainingRun) -> Iterator[None]:
    """Hold the folder against a second process that trains into it."""
    from filelock import Timeout

    try:
        long_run.folder.mkdir(parents=True, exist_ok=True)
        held = folder_lock.lock(long_run.folder).acquire()
    except Timeout:
        raise StudyError(f"Another training works on {long_run.folder}; wait for it, or name another --out.") from None
    except OSError as error:
        raise StudyError(
            f"{long_run.folder} cannot be written ({error.strerror}); name another folder with --out."
        ) from None
    with held:
        clear_left_behind(long_run.folder)
        yield


def require_free(long_run: TrainingRun) -> None:
    """Raise StudyError where the folder holds a run with other settings, or files that no run explains."""
    if not (long_run.folder / TRAINING_FILE).exists():
        foreign = [name for name in OWN_FILES if (long_run.folder / name).exists()]
        if foreign:
            raise StudyError(
                f"{long_run.folder} holds {' and '.join(foreign)} but no {TRAINING_FILE} to tell what of; "
                "name another folder with --out."
            )
        return
    before = _with_defaults(read_training(long_run.folder))
    wanted = dict.fromkeys(("super_network", "validate_every", "init_from", "vgg", QUANTISATION)) | long_run.settings()
    before = {"data_identity": wanted["data_identity"], **before}  # not written down at first
    differs = [NAMES.get(name, name.replace("_", "-")) for name, value in wanted.items() if before.get(name) != value]
    if differs:
        raise StudyError(
            f"{long_run.folder} holds a training run with other {' and '.join(differs)}; "
            "name another folder with --out."
        )


def claim(long_run: TrainingRun) -> None:
    """Write the settings of a new run down; those of a begun one stay as they are."""
    import tomli_w

    if (long_run.folder / TRAINING_FILE).exists():
        return
    described = {name: value for name, value in provenance.collect().items() if value is not None}
    text = tomli_w.dumps({**long_run.settings(), "provenance": described})
    try:
        write_durably(long_run.folder / TRAINING_FILE, text.encode())
    except OSError as error:
        raise StudyError(
            f"{long_run.folder} cannot be written ({error.strerror}); name another folder with --out."
        ) from None


def _with_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Return stored settings with what did not exist when they were written: its default is what was done then."""
    spec, recipe = ArchSpec.from_dict(data["spec"]), Recipe.from_dict(data["recipe"])
    return {**data, "spec": spec.to_dict(), "recipe": recipe.to_dict()}
