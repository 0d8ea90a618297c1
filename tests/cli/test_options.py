"""Options: declared once, with defaults that are true, and old names that go on working."""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import typer
from flow import in_process, refusal

from nas.cli import main, option_groups
from nas.cli.command_options import FileOptions
from nas.cli.option_groups import grouped, option
from nas.cli.options import DataOptions, RecipeOptions
from nas.data.pairs import DataConfig
from nas.data.raw_format import RawFormat
from nas.search.open_study import SearchOptions
from nas.search.samplers import SAMPLERS
from nas.search.successive_halving import FINAL_SHARE
from nas.train.recipe import DTYPES, HARDWARE_RECIPE, Recipe
from nas.train.registry import LOSSES
from nas.train.run_folder import DETACH_AT_DB
from search_spaces.errors import UsageError
from search_spaces.precision import PRECISIONS

CLI = Path(option_groups.__file__).parent
MOST_PARAMETERS = 12


def functions() -> Iterator[tuple[str, int]]:
    for path in sorted(CLI.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                given = node.args
                yield f"{path.name}:{node.name}", len([*given.posonlyargs, *given.args, *given.kwonlyargs])


def test_no_function_of_the_command_line_takes_more_than_a_dozen_parameters() -> None:
    counts = dict(functions())
    assert len(counts) > 100
    assert {name: count for name, count in counts.items() if count > MOST_PARAMETERS} == {}


def helped(*words: str) -> str:
    """Return a command's help as one line, without the box."""
    said = in_process(*words, "--help").stdout
    return " ".join(said.replace("│", " ").split())


FORMAT = RawFormat()
CPU, GPU = HARDWARE_RECIPE["cpu"], HARDWARE_RECIPE["gpu"]
DEFAULTS = [
    (
        "search",
        "--learning-rate",
        f"{CPU['learning_rate']:g}, of Muon, and less for more than {CPU['full_rate_steps']} steps",
    ),
    ("search", "--batch", str(CPU["batch"])),
    ("search", "--patch", f"{CPU['patch']}, on a GPU {GPU['patch']}"),
    ("search", "--dtype", Recipe().precision),
    ("search", "--loss", ",".join(Recipe().loss)),
    ("search", "--bits", str(FORMAT.bits)),
    ("search", "--black", str(FORMAT.black)),
    ("search", "--pattern", FORMAT.pattern),
    ("search", "--packing", FORMAT.packing),
    ("search", "--final-share", str(FINAL_SHARE)),
    ("search", "--workers", "auto"),
    ("train", "--detach-at", f"{DETACH_AT_DB:g}"),
    ("train", "--calibration", "100"),
    (
        "export",
        "--max-drop",
        ", ".join(f"{name} {each.max_drop_db:g}" for name, each in PRECISIONS.items() if name != "fp32"),
    ),
    ("export", "--size", "1088x1920"),
]


@pytest.mark.parametrize(("command", "name", "default"), DEFAULTS)
def test_help_tells_the_default_that_holds(command: str, name: str, default: str) -> None:
    said = helped(command)
    after = said[said.index(f" {name} ") :]
    assert after[after.index("[default: ") :].startswith(f"[default: {default}]")


@pytest.mark.parametrize(
    ("command", "name", "choices"),
    [
        ("search", "--sampler", SAMPLERS),
        ("search", "--loss", LOSSES),
        ("search", "--dtype", DTYPES),
        ("export", "--precision", PRECISIONS),
    ],
)
def test_help_names_every_choice(command: str, name: str, choices: Iterable[str]) -> None:
    said = helped(command)
    paragraph = said[said.index(f" {name} ") :].partition("[default: ")[0]
    assert {*choices} <= {*re.findall(r"\w+", paragraph)}


def test_a_training_takes_the_old_name_of_its_dtype_with_a_note(tmp_path: Path) -> None:
    command = ("train", "smallnet", "--out", tmp_path / "run", "--patience", 0, "--steps", 2)
    done = in_process(*command, "--precision", "bfloat16")
    note, refused = done.stderr.splitlines()
    assert "--dtype" in note
    assert "patience" in refused
    assert done.returncode == 2
    assert len(in_process(*command, "--dtype", "bfloat16").stderr.splitlines()) == 1
    assert "old name" in refusal(in_process(*command, "--dtype", "float32", "--precision", "float32"))


def test_both_names_mean_the_same_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert RecipeOptions(precision="bfloat16").recipe_fields() == RecipeOptions(dtype="bfloat16").recipe_fields()
    assert capsys.readouterr().err.count("--dtype") == 1
    assert SearchOptions(precision="bfloat16").precision == "bfloat16"


# Groups


def test_what_is_said_of_pairs_changes_those_of_a_file_and_nothing_else() -> None:
    base = DataConfig("somewhere", raw_dir="a", rgb_dir="b", split_seed=3, raw=RawFormat(bits=12))
    assert DataOptions().chosen(base) is base
    assert DataOptions(black=64).chosen(base) == DataConfig(
        "somewhere", raw_dir="a", rgb_dir="b", split_seed=3, raw=RawFormat(bits=12, black=64)
    )
    assert DataOptions(data="elsewhere").chosen(base) == DataConfig("elsewhere")
    with pytest.raises(UsageError, match="name it with --data"):
        DataOptions(black=64).chosen()


def test_files_of_an_export_are_read_from_both_places_where_precisions_may_stand() -> None:
    assert FileOptions(precision=["fp16"]).options(["int8"]).precisions == ("fp16", "int8")


def test_a_group_keeps_arguments_defaults_and_what_a_command_says_of_itself() -> None:
    seen: list[tuple[object, ...]] = []

    @grouped
    def look(name: str, files: FileOptions, often: int = 3) -> None:
        """Look at something."""
        seen.append((name, files, often))

    assert look.__doc__ == "Look at something."
    assert list(inspect.signature(look).parameters)[:2] == ["name", "precision"]
    app = typer.Typer()
    app.command()(look)
    app(["this", "--size", "64x96", "--often", "4"], standalone_mode=False)
    assert seen == [("this", FileOptions(size="64x96"), 4)]


def test_a_default_in_brackets_is_text_and_no_style() -> None:
    assert option("--x", help="What.", default="3e-3").help == r"What. \[default: 3e-3]"
    assert "[default: 0.02" in helped("train")
    assert main.app.registered_commands
