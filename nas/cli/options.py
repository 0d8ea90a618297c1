"""Options that several commands share, declared once, and the parsing of their values."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.option_groups import option
from nas.search.samplers import DEFAULT_SAMPLER, SAMPLERS
from nas.search.successive_halving import OBJECTIVES
from nas.train.recipe import DEFAULTS, DTYPES, HARDWARE_RECIPE
from nas.train.registry import LOSSES
from search_spaces.errors import UsageError
from search_spaces.precision import PRECISIONS

if TYPE_CHECKING:
    from nas.data.pairs import DataConfig
    from nas.export.options import ExportOptions
    from nas.render.batch import RenderOptions
    from nas.search.cluster import ClusterOptions
    from nas.search.network_ref import NetworkRef

RAW, TRAINING, CLUSTER = "RAW", "Training", "Cluster"
_CALIBRATED = [precision for precision in PRECISIONS.values() if precision.is_calibrated]
_IO_TYPES = list(dict.fromkeys(io for precision in _CALIBRATED for io in precision.io_types))
_MAX_DROPS = ", ".join(f"{p.name} {p.max_drop_db:g}" for p in PRECISIONS.values() if p.name != "fp32")
_CPU, _GPU = HARDWARE_RECIPE["cpu"], HARDWARE_RECIPE["gpu"]


def one_of(names: Iterable[str]) -> str:
    """Return names as a help text offers them: "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


Form = Annotated[str, option("--format", help="table, json or csv.")]
ShortForm = Annotated[str, option("--format", help="table or json.")]
DeviceName = Annotated[
    str | None, option("--device", help="Device name or a .json file.", default="the study's, or dimensity-1000-plus")
]
Watch = Annotated[bool, option("--watch", help="Draw again while a search runs, from another terminal.")]
AnyDevice = Annotated[
    str | None, option("--device", help="Device name or a .json file.", default="dimensity-1000-plus")
]
Seed = Annotated[int | None, option("--seed", help="Seed of sampling and training.", default="the study's, or 0")]
Tls = Annotated[
    Path | None, option("--tls", help="Folder of certificates, from `isp-nas cluster keys`.", panel=CLUSTER)
]
ResultsFolder = Annotated[Path, option("--results", help="Folder of the studies.")]
Trainable = Annotated[str, typer.Argument(help="best, a trial number, a design or a spec file.")]
NetworkName = Annotated[str, typer.Argument(help="best, a trial number, a design, a spec file or a checkpoint folder.")]


@dataclass(frozen=True)
class StudyOptions:
    """Which study is meant."""

    study: Annotated[str | None, option("--study", help="Name of the study.", default="the one used last")] = None
    results: ResultsFolder = Path("results")

    def resolve(self, network: str) -> "NetworkRef":
        """Return the network that a command names."""
        from nas.search.network_ref import resolve

        return resolve(network, self.results, self.study)


@dataclass(frozen=True)
class RawOptions:
    """How the mosaics are to be read."""

    bits: Annotated[int | None, option("--bits", help="Bit depth of the mosaics.", default="10", panel=RAW)] = None
    black: Annotated[int | None, option("--black", help="Black level.", default="0", panel=RAW)] = None
    white: Annotated[int | None, option("--white", help="White level.", default="2^bits − 1", panel=RAW)] = None
    pattern: Annotated[str | None, option("--pattern", help="Bayer pattern.", default="RGGB", panel=RAW)] = None
    packing: Annotated[
        str | None, option("--packing", help="Channel order: challenge or rggb.", default="challenge", panel=RAW)
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the fields of a RawFormat that were given."""
        names = [field.name for field in fields(RawOptions)]
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class PairOptions(RawOptions):
    """How a folder of pairs is to be read."""

    raw_dir: Annotated[
        str | None,
        option(
            "--raw-dir", help="Sub-folder of the mosaics, or a pattern such as *_raw.png.", default="a known layout",
            panel=RAW,
        ),
    ] = None  # fmt: skip
    rgb_dir: Annotated[
        str | None,
        option(
            "--rgb-dir", help="Sub-folder of the target pictures, or a pattern such as *_rgb.jpg.",
            default="a known layout", panel=RAW,
        ),
    ] = None  # fmt: skip

    crop: Annotated[
        int | None,
        option("--crop", help="Cut pairs in their middle to sides that are multiples of this, such as 32.", panel=RAW),
    ] = None

    def config(self, source: str | None, base: "DataConfig | None" = None) -> "DataConfig | None":
        """Return the data that was asked for, or `base` where nothing was said about it; the rest of `base` holds."""
        from dataclasses import replace

        from nas.data.pairs import DataConfig

        given = self.given()
        folders = {n: v for n in ("raw_dir", "rgb_dir", "crop") if (v := getattr(self, n)) is not None}
        if source is None and not given and not folders:
            return base
        if source is None and base is None:
            raise UsageError("Options that say how RAW is read describe a folder of pairs; name it with --data.")
        if source is not None:  # other pairs: nothing that was said of those before holds for them
            config = DataConfig.of(source, raw=given, **folders)
        else:
            assert base is not None
            config = replace(base, **folders, raw=replace(base.raw, **given))
        config.validate()
        return config


@dataclass(frozen=True)
class DataOptions(PairOptions):
    """Which pairs are read, and how."""

    data: Annotated[
        str | None,
        option(
            "--data",
            help='Folder or .csv of RAW→RGB pairs, or "demo" for the built-in set.',
            default="the study's, or demo",
        ),
    ] = None

    def chosen(self, base: "DataConfig | None" = None) -> "DataConfig | None":
        """Return the data that was asked for, or `base` where nothing was said about it."""
        return self.config(self.data, base)


@dataclass(frozen=True)
class TrainingOptions:
    """How networks are trained, where it is not as the recipe or the study says; defaults hold without either."""

    loss: Annotated[
        str | None,
        option(
            "--loss",
            default="l1",
            panel=TRAINING,
            help=f'Losses with weights, "l1=1,ssim=0.2": {", ".join(LOSSES)}.',
        ),
    ] = None
    learning_rate: Annotated[
        float | None,
        option(
            "--learning-rate",
            help="Initial learning rate.",
            panel=TRAINING,
            default=f"{DEFAULTS['learning_rate']:g}, of {DEFAULTS['optimiser'].title()}",
        ),
    ] = None
    batch: Annotated[
        int | None, option("--batch", help="Patches per step.", default=str(_CPU["batch"]), panel=TRAINING)
    ] = None
    patch: Annotated[
        int | None,
        option(
            "--patch",
            help="Side of a training patch in pixels.",
            panel=TRAINING,
            default=f"{_CPU['patch']}, on a GPU {_GPU['patch']}",
        ),
    ] = None
    dtype: Annotated[
        str | None,
        option(
            "--dtype",
            help=f"Type of activations and products: {one_of(DTYPES)} (GPUs).",
            default="float32",
            panel=TRAINING,
        ),
    ] = None
    precision: Annotated[str | None, option("--precision", help="Old name of --dtype.", hidden=True)] = None
    reparameterise: Annotated[
        bool | None,
        option(
            "--reparameterise/--no-reparameterise",
            panel=TRAINING,
            default="no-reparameterise",
            help="Train every kernel as a sum of branches, folded into one for validation and export.",
        ),
    ] = None
    vgg_weights: Annotated[
        Path | None,
        option(
            "--vgg-weights",
            help="Keras's weights of VGG-19, for the loss vgg.",
            default="Keras's cache",
            panel=TRAINING,
        ),
    ] = None

    def recipe_fields(self) -> dict[str, Any]:
        """Return the fields of a recipe that were given, the loss read; raise UsageError where that cannot be."""
        from nas.train.recipe import parse_loss

        given = {
            "loss": None if self.loss is None else parse_loss(self.loss),
            "learning_rate": self.learning_rate,
            "batch": self.batch,
            "patch": self.patch,
            "precision": self._dtype(),
            "reparameterise": self.reparameterise,
        }
        return {name: value for name, value in given.items() if value is not None}

    def _dtype(self) -> str | None:
        if self.precision is None:
            return self.dtype
        if self.dtype is not None:
            raise UsageError("--precision of a training is the old name of --dtype; leave it out.")
        sys.stderr.write(
            "isp-nas: --precision of a training is called --dtype now; the old name works for one release more.\n"
        )
        return self.precision


def parse_rungs(text: str) -> tuple[int, ...]:
    """Read "50,150,450"; raise UsageError for anything else."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f'Rungs are numbers of steps such as "50,150,450"; got "{text}".') from None


@dataclass(frozen=True)
class SearchRunOptions:
    """How long a search runs, for which device, and where its study is kept."""

    budget: Annotated[str, option("--budget", help="Time (5m, 8h) or number of candidates (200).")]
    device: DeviceName = None
    seed: Seed = None
    workers: Annotated[
        str,
        option(
            "--workers",
            help="Candidates trained at once here; auto: one per CPU core, or per GPU; with --cluster none.",
        ),
    ] = "auto"
    study: Annotated[
        str | None, option("--study", help="Name of the study.", default="from data, device and space")
    ] = None
    results: ResultsFolder = Path("results")
    quiet: Annotated[bool, option("--quiet", help="Print the result alone.")] = False
    log_file: Annotated[Path | None, option("--log-file", help="Append every message to this file, with its date.")] = (
        None
    )


@dataclass(frozen=True)
class ClusterSettings:
    """Where else candidates train."""

    cluster: Annotated[
        str | None,
        option(
            "--cluster",
            help="Listen for workers of other machines at HOST:PORT; :8786 is this machine alone.",
            panel=CLUSTER,
        ),
    ] = None
    tls: Tls = None
    send_pairs: Annotated[
        bool,
        option("--send-pairs/--no-send-pairs", help="Send pairs to workers that do not see them.", panel=CLUSTER),
    ] = True
    backend: Annotated[
        str | None,
        option("--backend", help="What workers train on: cpu or gpu.", default="what this machine has", panel=CLUSTER),
    ] = None
    stall: Annotated[
        float | None,
        option(
            "--stall",
            help="Seconds without a step after which a training is lost.",
            default="ten times the slowest step, at least 120",
            panel=CLUSTER,
        ),
    ] = None

    def options(self) -> "ClusterOptions | None":
        """Return what a session takes; None for a search of this machine alone. Raises UsageError."""
        from nas.cluster.address import parse_address
        from nas.search.cluster import ClusterOptions

        if self.stall is not None and not 0 < self.stall < float("inf"):
            raise UsageError(f"--stall takes seconds above zero, got {self.stall:g}.")
        if self.cluster is None:
            if self.tls is not None:
                raise UsageError("--tls protects --cluster; give that, too, or leave --tls out.")
            return None
        return ClusterOptions(parse_address(self.cluster), self.tls, self.send_pairs, self.backend)


@dataclass(frozen=True)
class StudySettings:
    """What a study is started with, beside data, device and training."""

    space: Annotated[str | None, option("--space", help="Space name or a .toml file.", default="mai21")] = None
    objective: Annotated[str | None, option("--objective", help=f"{one_of(OBJECTIVES)}.", default=OBJECTIVES[0])] = None
    sampler: Annotated[str | None, option("--sampler", help=f"{one_of(SAMPLERS)}.", default=DEFAULT_SAMPLER)] = None
    rungs: Annotated[
        str | None, option("--rungs", help="Training steps per rung, such as 50,150,450.", default="by the budget")
    ] = None
    final_steps: Annotated[
        int | None,
        option(
            "--final-steps",
            default="by the budget",
            help="Steps of the finals, which train the best candidates from three seeds; 0: no finals.",
        ),
    ] = None
    final_share: Annotated[
        float | None,
        option("--final-share", help="Share of a time budget that is kept for the finals.", default="0.25"),
    ] = None
    prior: Annotated[
        str | None,
        option(
            "--prior",
            help="auto: start from what was learned on other pairs; none: start from nothing.",
            default="auto",
        ),
    ] = None
    max_runtime: Annotated[float | None, option("--max-runtime", help="Predicted runtime limit in ms.")] = None
    max_memory: Annotated[
        float | None,
        option("--max-memory", help="Peak activation memory limit in MB (Full HD, float32: 4 bytes per value)."),
    ] = None
    allow_fallback: Annotated[
        bool | None,
        option(
            "--allow-fallback",
            help="Allow networks that the delegate runs only in part, at the cost of the CPU fallback.",
        ),
    ] = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of a nas.search.open_study.SearchOptions."""
        return {
            "space": self.space,
            "objective": self.objective,
            "sampler": self.sampler,
            "rungs": None if self.rungs is None else parse_rungs(self.rungs),
            "final_steps": self.final_steps,
            "final_share": self.final_share,
            "prior": self.prior,
            "max_runtime_ms": self.max_runtime,
            "max_memory_mb": self.max_memory,
            "allow_fallback": self.allow_fallback,
        }


@dataclass(frozen=True)
class RunOptions:
    """What else a training to the end may be asked for."""

    recipe: Annotated[
        str | None,
        option("--recipe", help='Recipe name or a .toml file; "report": the published recipe of this design.'),
    ] = None
    super_network: Annotated[
        bool, option("--super-network", help="Train jointly with a larger head, which is removed during training.")
    ] = False
    detach_at: Annotated[
        float | None, option("--detach-at", help="Remove the larger head above this PSNR in dB.", default="23")
    ] = None
    init_from: Annotated[
        str | None,
        option("--init-from", help="Initial weights: a checkpoint file or folder, a trial, best or a design."),
    ] = None
    validate_every: Annotated[
        int | None,
        option("--validate-every", help="Steps between validations.", default="a twentieth of all, at least 100"),
    ] = None
    patience: Annotated[
        int | None,
        option("--patience", help="Stop after this many validations without a better PSNR.", default="never"),
    ] = None
    qat: Annotated[bool, option("--qat", help="Fine-tune the trained weights for int8, rounding as its file does.")] = (
        False
    )
    calibration: Annotated[
        int, option("--calibration", help="Training pairs from which --qat takes its initial ranges.")
    ] = 100


@dataclass(frozen=True)
class FileOptions:
    """Which files an export writes."""

    precision: Annotated[
        list[str] | None,
        option("--precision", help=f"{', '.join(PRECISIONS)}: one or more; fp32 is always included.", default="fp32"),
    ] = None
    size: Annotated[str, option("--size", help="Height x width of the mosaic and the photograph.")] = "1088x1920"
    dynamic: Annotated[
        bool, option("--dynamic", help="Also write files for any size, model_none.tflite and so on.")
    ] = False
    input: Annotated[
        str, option("--input", help="Input of the files: normalized, or raw counts: raw10, raw12 or raw14.")
    ] = "normalized"
    io: Annotated[
        str | None,
        option(
            "--io",
            help=f"Input and output type of integer files: {one_of(_IO_TYPES)}.",
            default="the precision's own",
        ),
    ] = None
    calibration: Annotated[
        int, option("--calibration", help="Training pairs from which integer files take their ranges.")
    ] = 100
    max_drop: Annotated[
        list[str] | None,
        option("--max-drop", help="Largest PSNR loss of a file in dB: 0.3, or int8=1; repeatable.", default=_MAX_DROPS),
    ] = None
    qat: Annotated[
        str | None,
        option("--qat", help="Fine-tune for int8 first: a number of steps, or the folder of `train --qat`."),
    ] = None

    def options(self, more: list[str]) -> "ExportOptions":
        """Return what was asked for; `more` are precisions that the parser took for arguments."""
        from nas.export.options import ExportOptions, parse_max_drop, parse_precisions, parse_size

        options = ExportOptions(
            precisions=parse_precisions([*(self.precision or ["fp32"]), *more]),
            size=parse_size(self.size),
            io=self.io,
            input=self.input,
            calibration=self.calibration,
            dynamic=self.dynamic,
            max_drop_db=parse_max_drop(self.max_drop or []),
        )
        options.validate()
        return options


@dataclass(frozen=True)
class PictureOptions:
    """How pictures are made and stored."""

    bits_out: Annotated[int, option("--bits-out", help="Bits per channel of a PNG: 8 or 16.")] = 8
    jpeg: Annotated[int | None, option("--jpeg", help="Write JPEG of this quality, 1 to 100.")] = None
    compare: Annotated[
        bool, option("--compare", help="Also draw the camera's own rendering, or a pair's target, beside ours.")
    ] = False
    convert: Annotated[
        bool, option("--convert", help="Convert RAW of another Bayer pattern, other levels or odd sides.")
    ] = False
    max_memory: Annotated[
        float | None,
        option("--max-memory", help="Memory limit in MB for a network of open size.", default="half of the machine's"),
    ] = None
    input: Annotated[
        str | None,
        option(
            "--input", help="Input of the file: normalized, raw10, raw12 or raw14.", default="its card's", panel=RAW
        ),
    ] = None

    size: Annotated[str | None, option("--size", help="Height x width of a headerless sensor dump.", panel=RAW)] = None
    storage: Annotated[
        str, option("--storage", help="Storage of a sensor dump: u16le, u16be, mipi10 or mipi12.", panel=RAW)
    ] = "u16le"

    def options(self, raw: RawOptions) -> "RenderOptions":
        """Return what was asked for."""
        from nas.data.raw_dump import dump_of
        from nas.render.batch import RenderOptions
        from nas.render.image_file import FileKind

        kind, dump = FileKind(self.bits_out, self.jpeg), dump_of(self.size, self.storage)
        return RenderOptions(raw.given(), self.input, kind, self.compare, self.convert, self.max_memory, dump)


@dataclass(frozen=True)
class MakeOptions:
    """How photographs become pairs."""

    match: Annotated[
        str, option("--match", help="How photographs are matched: by name, by time, or by a FILE.csv (raw,target).")
    ] = "name"
    patch: Annotated[int, option("--patch", help="Pixels of a patch's side.")] = 256
    stride: Annotated[int | None, option("--stride", help="Pixels between patches.", default="the patch's side")] = None
    per_photo: Annotated[int | None, option("--per-photo", help="Most patches of one photograph.", default="all")] = (
        None
    )
    phase: Annotated[str, option("--phase", help="Bayer pattern to which all mosaics are cropped.")] = "RGGB"
    black_levels: Annotated[
        str, option("--black-levels", help="keep: mosaics stay bit for bit; subtract: of each colour its own.")
    ] = "keep"
    exposure: Annotated[
        str, option("--exposure", help="keep, or match: brighten or darken targets to one exposure beside the mosaics.")
    ] = "keep"
    val: Annotated[float, option("--val", help="Share of the pairs for validation, by whole scenes.")] = 0.1
    test: Annotated[float, option("--test", help="Share of the pairs for the test, by whole scenes.")] = 0.1
    gap: Annotated[float, option("--gap", help="Photographs taken within so many seconds are of one scene.")] = 10.0
    seed: Annotated[int, option("--seed", help="Seed of the split, and of the patches of --per-photo.")] = 0
    workers: Annotated[int | None, option("--workers", help="Photographs at work at once.", default="one per core")] = (
        None
    )
    size: Annotated[
        str | None, option("--size", help="Height x width of a dump of a sensor's frame without a header.", panel=RAW)
    ] = None
    storage: Annotated[
        str, option("--storage", help="How such a dump is stored: u16le, u16be, mipi10 or mipi12.", panel=RAW)
    ] = "u16le"
