"""Options that several commands share, declared once, and the parsing of their values."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.option_groups import option
from nas.train.recipe import DEFAULTS, DTYPES, HARDWARE_RECIPE
from nas.train.registry import LOSSES
from search_spaces.errors import UsageError

if TYPE_CHECKING:
    from nas.data.pairs import DataConfig
    from nas.search.network_ref import NetworkRef

RAW, TRAINING, CLUSTER = "RAW", "Training", "Cluster"
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

    bits: Annotated[
        int | None,
        option("--bits", help="Bit depth of PNG, TIFF, dumps; RAW of cameras says its own.", default="10", panel=RAW),
    ] = None
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
            "--raw-dir",
            help="Sub-folder of the mosaics, or a pattern such as *_raw.png.",
            default="a known layout",
            panel=RAW,
        ),
    ] = None
    rgb_dir: Annotated[
        str | None,
        option(
            "--rgb-dir",
            help="Sub-folder of the target pictures, or a pattern such as *_rgb.jpg.",
            default="a known layout",
            panel=RAW,
        ),
    ] = None

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
class RecipeOptions:
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
            help="Initial learning rate, for any number of steps.",
            panel=TRAINING,
            default=f"{DEFAULTS['learning_rate']:g}, of {DEFAULTS['optimiser'].title()}, and less for more than "
            f"{DEFAULTS['full_rate_steps']} steps",
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
