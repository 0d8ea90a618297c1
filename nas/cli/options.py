"""Options that several commands share, declared once, and the parsing of their values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search_spaces.errors import UsageError

if TYPE_CHECKING:
    from nas.data.pairs import DataConfig

# Options that several commands share.
Results = Annotated[Path, typer.Option("--results", help="Folder in which studies live.")]
StudyName = Annotated[str | None, typer.Option("--study", help="Name of the study; the one used last if left out.")]
Form = Annotated[str, typer.Option("--format", help="table, json or csv.")]
ShortForm = Annotated[str, typer.Option("--format", help="table or json.")]
DeviceName = Annotated[str | None, typer.Option("--device", help="Device name or a .json file.")]
Source = Annotated[str | None, typer.Option("--data", help='Folder of RAW→RGB pairs, or "demo" for the built-in set.')]
RawDir = Annotated[
    str | None, typer.Option("--raw-dir", help="Name of the mosaics' sub-folder.", rich_help_panel="RAW")
]
RgbDir = Annotated[
    str | None, typer.Option("--rgb-dir", help="Name of the targets' sub-folder.", rich_help_panel="RAW")
]
Bits = Annotated[
    int | None, typer.Option("--bits", help="Bit depth of the mosaics; default 10.", rich_help_panel="RAW")
]
Black = Annotated[int | None, typer.Option("--black", help="Black level; default 0.", rich_help_panel="RAW")]
White = Annotated[int | None, typer.Option("--white", help="White level; default 2^bits − 1.", rich_help_panel="RAW")]
Pattern = Annotated[str | None, typer.Option("--pattern", help="Bayer pattern; default RGGB.", rich_help_panel="RAW")]
Packing = Annotated[
    str | None,
    typer.Option("--packing", help="Channel order: challenge or rggb; default challenge.", rich_help_panel="RAW"),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of sampling and training; default 0.")]
# Where nothing is given, the recipe or the study decides; the help tells what holds where there is none.
Loss = Annotated[
    str | None,
    typer.Option("--loss", help='Losses with weights, "l1=1,ssim=0.2"; else l1.', rich_help_panel="Training"),
]
Rate = Annotated[
    float | None,
    typer.Option("--learning-rate", help="Initial learning rate; else 0.02 (of Muon).", rich_help_panel="Training"),
]
Batch = Annotated[int | None, typer.Option("--batch", help="Patches per step; else 16.", rich_help_panel="Training")]
Patch = Annotated[
    int | None, typer.Option("--patch", help="Pixels of a patch; else 32, on a GPU 128.", rich_help_panel="Training")
]
Precision = Annotated[
    str | None,
    typer.Option("--precision", help="float32 or bfloat16 (GPUs); else float32.", rich_help_panel="Training"),
]
Reparameterise = Annotated[
    bool | None,
    typer.Option(
        "--reparameterise/--no-reparameterise",
        help="Train every kernel as a sum of branches, folded into one wherever it is used; else not.",
        rich_help_panel="Training",
    ),
]
VggWeights = Annotated[
    Path | None,
    typer.Option("--vgg-weights", help="Keras's weights of VGG-19, for the loss vgg.", rich_help_panel="Training"),
]


def parse_rungs(text: str) -> tuple[int, ...]:
    """Read "50,150,450"; raise UsageError for anything else."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f'Rungs are numbers of steps such as "50,150,450"; got "{text}".') from None


def data_config(
    source: str | None,
    raw_dir: str | None,
    rgb_dir: str | None,
    bits: int | None,
    black: int | None,
    white: int | None,
    pattern: str | None,
    packing: str | None,
) -> "DataConfig | None":
    """Return the data that was asked for; None where nothing was said about it."""
    from nas.data.pairs import DataConfig
    from nas.data.raw_format import RawFormat

    raw = {"bits": bits, "black": black, "white": white, "pattern": pattern, "packing": packing}
    given = {name: value for name, value in raw.items() if value is not None}
    if source is None and not given and raw_dir is None and rgb_dir is None:
        return None
    if source is None:
        raise UsageError("Options that say how RAW is read describe a folder of pairs; name it with --data.")
    config = DataConfig(source, raw_dir, rgb_dir, raw=RawFormat(**given))  # type: ignore[arg-type]
    config.validate()
    return config


def training_options(
    loss: str | None,
    learning_rate: float | None,
    batch: int | None,
    patch: int | None,
    precision: str | None,
    reparameterise: bool | None,
) -> dict[str, Any]:
    """Return the fields of a recipe that were given, the loss read; raise UsageError where that cannot be."""
    from nas.train.recipe import parse_loss

    given = {
        "loss": None if loss is None else parse_loss(loss),
        "learning_rate": learning_rate,
        "batch": batch,
        "patch": patch,
        "precision": precision,
        "reparameterise": reparameterise,
    }
    return {name: value for name, value in given.items() if value is not None}
