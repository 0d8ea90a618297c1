"""Options of one command alone, declared as groups, and what a command makes of their values."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from nas.cli.option_groups import option
from nas.cli.options import CLUSTER, RAW, DeviceName, RawOptions, ResultsFolder, Seed, Tls, one_of, parse_rungs
from nas.data.encodings import INPUT_BITS, NORMALIZED, STORAGES
from nas.search.samplers import DEFAULT_SAMPLER, SAMPLERS
from nas.search.successive_halving import OBJECTIVES
from search_spaces.precision import PRECISIONS

if TYPE_CHECKING:
    from nas.data.raw_dump import RawDump
    from nas.export.options import ExportOptions
    from nas.render.batch import RenderOptions
    from nas.search.cluster import ClusterOptions

STRATEGY, LIMITS = "Strategy", "Limits"
_CALIBRATED = [precision for precision in PRECISIONS.values() if precision.is_calibrated]
_IO_TYPES = list(dict.fromkeys(io for precision in _CALIBRATED for io in precision.io_types))
_MAX_DROPS = ", ".join(f"{p.name} {p.max_drop_db:g}" for p in PRECISIONS.values() if p.name != "fp32")


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
            help="Candidates trained at once here; auto: one per GPU or CPU core; none with --cluster.",
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
            help="Seconds without a step after which a training is lost; compiling and judging, which report no steps, "
            "get ten minutes at least.",
            default="ten times the slowest step, at least 120",
            panel=CLUSTER,
        ),
    ] = None

    def options(self) -> "ClusterOptions | None":
        """Return what a session takes; None for a search of this machine alone. Raises UsageError."""
        from nas.search.cluster import cluster_options

        return cluster_options(self.cluster, self.tls, sends_pairs=self.send_pairs, backend=self.backend)


@dataclass(frozen=True)
class StudySettings:
    """What a study is started with, beside data, device and training."""

    space: Annotated[
        str | None, option("--space", help="Space name or a .toml file.", default="mai21", panel=STRATEGY)
    ] = None
    objective: Annotated[
        str | None,
        option(
            "--objective",
            help=f"Improve the score, or the front of PSNR and runtime: {one_of(OBJECTIVES)}.",
            default=next(iter(OBJECTIVES)),
            panel=STRATEGY,
        ),
    ] = None
    sampler: Annotated[
        str | None, option("--sampler", help=f"{one_of(SAMPLERS)}.", default=DEFAULT_SAMPLER, panel=STRATEGY)
    ] = None
    rungs: Annotated[
        str | None,
        option("--rungs", help="Training steps per rung, such as 50,150,450.", default="by the budget", panel=STRATEGY),
    ] = None
    final_steps: Annotated[
        int | None,
        option(
            "--final-steps",
            default="by the budget",
            help="Steps of the finals: the best networks and designs, from up to five seeds; 0: none.",
            panel=STRATEGY,
        ),
    ] = None
    final_share: Annotated[
        float | None,
        option(
            "--final-share", help="Share of a time budget that is kept for the finals.", default="0.25", panel=STRATEGY
        ),
    ] = None
    prior: Annotated[
        str | None,
        option(
            "--prior",
            help="auto: start from what was learned on other pairs; none: start from nothing.",
            default="auto",
            panel=STRATEGY,
        ),
    ] = None
    max_runtime: Annotated[
        float | None,
        option("--max-runtime", help="Predicted runtime limit in ms; inf: none.", default="inf", panel=LIMITS),
    ] = None
    max_memory: Annotated[
        float | None,
        option(
            "--max-memory",
            help="Peak activation memory limit in MB (Full HD, float32: 4 bytes per value); inf: none.",
            default="inf",
            panel=LIMITS,
        ),
    ] = None
    allow_fallback: Annotated[
        bool | None,
        option(
            "--allow-fallback/--no-allow-fallback",
            help="Allow networks that the delegate runs only in part, at the cost of the CPU fallback.",
            default="no-allow-fallback",
            panel=LIMITS,
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
        str, option("--input", help=f"Input of the files, values from 0 to 1 or raw counts: {one_of(INPUT_BITS)}.")
    ] = NORMALIZED
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
        option("--input", help=f"Input of the file: {one_of(INPUT_BITS)}.", default="its card's", panel=RAW),
    ] = None

    def options(self, raw: RawOptions, dump: "DumpOptions") -> "RenderOptions":
        """Return what was asked for."""
        from nas.render.batch import RenderOptions
        from nas.render.image_file import FileKind

        kind = FileKind(self.bits_out, self.jpeg)
        return RenderOptions(raw.given(), self.input, kind, self.compare, self.convert, self.max_memory, dump.dump())


@dataclass(frozen=True)
class DumpOptions:
    """How a sensor's frame without a header is stored."""

    size: Annotated[str | None, option("--size", help="Height x width of a headerless sensor dump.", panel=RAW)] = None
    storage: Annotated[str, option("--storage", help=f"Storage of a sensor dump: {one_of(STORAGES)}.", panel=RAW)] = (
        "u16le"
    )

    def dump(self) -> "RawDump | None":
        """Return the dump, None where no size was given; raise UsageError for one that cannot be."""
        from nas.data.raw_dump import dump_of

        return dump_of(self.size, self.storage)


@dataclass(frozen=True)
class MakeOptions:
    """How photographs become pairs."""

    match: Annotated[
        str, option("--match", help="How photographs are matched: by name, by time, or by a FILE.csv (raw,target).")
    ] = "name"
    patch: Annotated[int, option("--patch", help="Pixels of a patch's side.")] = 256
    stride: Annotated[int | None, option("--stride", help="Pixels between patches.", default="the patch's side")] = None
    per_photo: Annotated[
        int | None, option("--per-photo", help="Maximum number of patches per photograph.", default="all")
    ] = None
    phase: Annotated[str, option("--phase", help="Bayer pattern to which all mosaics are cropped.")] = "RGGB"
    black_levels: Annotated[
        str, option("--black-levels", help="keep: leave mosaics unchanged; subtract: take off each colour's own level.")
    ] = "keep"
    tile_black: Annotated[
        str | None,
        option(
            "--tile-black",
            help="Black levels of the four places of the Bayer tile, row by row, such as 64,65,65,64.",
            default="the file's",
        ),
    ] = None
    exposure: Annotated[
        str,
        option("--exposure", help="keep, or match: give every target the same exposure relative to its mosaic."),
    ] = "keep"
    val: Annotated[float, option("--val", help="Share of the pairs for validation, by whole scenes.")] = 0.1
    test: Annotated[float, option("--test", help="Share of the pairs for the test, by whole scenes.")] = 0.1
    gap: Annotated[float, option("--gap", help="Photographs taken within so many seconds are of one scene.")] = 10.0
    seed: Annotated[int, option("--seed", help="Seed of the split, and of the patches of --per-photo.")] = 0
    workers: Annotated[int | None, option("--workers", help="Photographs at work at once.", default="one per core")] = (
        None
    )
