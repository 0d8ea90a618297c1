"""Train every published design under one budget and evaluate it, so that only the structures differ.

    python benchmarks/design_comparison.py --data demo --label demo --steps 2000 --seeds 0 \
        --out results/designs/demo.json [--only smallnet,csanet] [--work FOLDER] [--allow-dirty]

Each run is what `isp-nas train` does with the CPU's recipe, L1 and the same steps, pairs and seed, in a folder of its
own below --work (default: one in the system's temporary folder, named after label, steps and commit). The same
command continues: what was trained and judged there is read, not trained again. The file names the data by its label;
where the pairs lie is kept out of it.
"""

import argparse
import json
import math
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import backend, provenance
from nas.audit import design_comparison
from nas.audit.design_comparison import Comparison, Run
from nas.data.pairs import DataConfig, PairSet, find_pairs, identity, load_split
from nas.train.default_recipe import default_recipe
from nas.train.recipe import Recipe
from nas.train.run_folder import CHECKPOINT_FILE
from search_spaces.designs import DESIGNS, Design, find_design
from search_spaces.errors import IspNasError, StudyError, TrainingError, UsageError
from search_spaces.networks import build_graph
from search_spaces.system.atomic_write import write_durably

if TYPE_CHECKING:
    from nas.train.run_folder import TrainingRun

SETTINGS_FILE = "comparison.json"
RUN_FILE = "run.json"


@dataclass(frozen=True)
class Budget:
    """What every design gets, and where the work is kept."""

    data: DataConfig
    recipe: Recipe
    work: Path

    def long_run(self, design: Design, seed: int) -> "TrainingRun":
        from nas.train.run_folder import TrainingRun

        return TrainingRun(self.work / f"{design.name}-{seed}", design.spec, self.data, self.recipe, seed)


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    try:
        write(options.out, compare(options))
    except IspNasError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help='folder of pairs, or "demo"')
    parser.add_argument("--label", required=True, help="what the data is called in the file")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=numbers, default=(0,), help="0,1,2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", type=names, default=None, help="designs to train, default all")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--allow-dirty", action="store_true", help="run from changes that are not committed")
    return parser.parse_args(arguments)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


def names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split(",")))


def compare(options: argparse.Namespace) -> Comparison:
    """Train and judge what was asked for; whatever can be refused is refused before anything is trained."""
    designs = [find_design(name) for name in options.only or DESIGNS]
    check(options)
    made_by = provenance.collect() | {"command": command(options)}
    require_clean(made_by.get("commit"), options.allow_dirty)
    backend.prepare()
    data = DataConfig(options.data)
    recipe = default_recipe("cpu", data).scaled(options.steps)
    work = options.work or default_work(options, made_by.get("commit"))
    pairs = {split: len(pairs_found) for split, pairs_found in find_pairs(data).items()}
    claim(work, {"data": identity(data), "recipe": recipe.to_dict(), "commit": made_by.get("commit")})
    runs = run_all(Budget(data, recipe, work), designs, options.seeds, test=pairs["test"] > 0)
    return Comparison(
        options.label, pairs, identity(data), recipe.to_dict(), options.seeds, runs, made_by | {"backend": device()}
    )


def check(options: argparse.Namespace) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", options.label):
        raise UsageError(f'A label is made of letters, digits, ".", "-" and "_"; got "{options.label}".')
    if min(options.seeds) < 0:
        raise UsageError(f"A seed is zero or more, got {min(options.seeds)}.")
    if options.out.exists():
        raise UsageError(f"{options.out} exists and is not overwritten; move it away, or name another file with --out.")


def require_clean(commit: object, allowed: bool) -> None:
    if not allowed and (commit is None or str(commit).endswith("-dirty")):
        raise UsageError(
            f"The figures would name the commit {commit}, from which nobody can repeat them; commit the changes, or "
            "add --allow-dirty for a run that is not kept."
        )


def command(options: argparse.Namespace) -> str:
    """Return the command for a reader: without the place of the data and of the work."""
    data = options.data if options.data == "demo" else "FOLDER"
    seeds = ",".join(map(str, options.seeds))
    words = ["python", "benchmarks/design_comparison.py", "--data", data, "--label", options.label]
    words += ["--steps", str(options.steps), "--seeds", seeds, "--out", f"results/designs/{options.out.name}"]
    return shlex.join(words + (["--only", ",".join(options.only)] if options.only else []))


def default_work(options: argparse.Namespace, commit: object) -> Path:
    return Path(tempfile.gettempdir()) / f"isp-nas-designs-{options.label}-{options.steps}-{commit}"


def claim(work: Path, settings: dict[str, Any]) -> None:
    """Make the work folder one of these settings; raise StudyError where it holds runs of others."""
    path = work / SETTINGS_FILE
    if not path.exists():
        save(path, settings, "--work")
    before = json.loads(path.read_text("utf-8"))
    differs = [name for name, value in settings.items() if before.get(name) != value]
    if differs:
        raise StudyError(f"{work} holds runs with other {' and '.join(differs)}; name another folder with --work.")


def run_all(budget: Budget, designs: Sequence[Design], seeds: Sequence[int], *, test: bool) -> tuple[Run, ...]:
    pairs = load_split(budget.data, "test") if test else None
    runs = []
    for seed in seeds:
        for design in designs:
            runs.append(run_once(budget, design, seed, pairs))
            sys.stderr.write(f"{summary(runs[-1])}\n")
    return tuple(runs)


def run_once(budget: Budget, design: Design, seed: int, test: PairSet | None) -> Run:
    """Train and judge one design, or read what an earlier call came to."""
    run_file = budget.work / f"{design.name}-{seed}" / RUN_FILE
    if run_file.exists():
        run = Run(**json.loads(run_file.read_text("utf-8")))
        if run.hash != design.spec.hash:
            raise StudyError(
                f"{run_file} is of network {run.hash}; {design.name} is {design.spec.hash}. Name another --work."
            )
        return run
    run = train_and_judge(budget.long_run(design, seed), design, test)
    save(run_file, asdict(run), "--work")
    return run


def train_and_judge(long_run: "TrainingRun", design: Design, test: PairSet | None) -> Run:
    from nas.train.checkpoint import load
    from nas.train.evaluation import judge
    from nas.train.long_run import run

    path = long_run.folder / CHECKPOINT_FILE
    is_whole = not path.exists()
    begun = time.perf_counter()
    try:
        val = run(long_run).quality
        train_s = time.perf_counter() - begun
        judged: dict[str, Any] = {"val_psnr_db": val.psnr_db, "val_ssim": val.ssim}
        if test is not None:
            quality = judge(build_graph(design.spec), load(path).weights, test)
            judged |= {"test_psnr_db": quality.psnr_db, "test_ssim": quality.ssim}
        require_numbers(judged)
    except TrainingError as error:
        return Run(design.name, design.spec.hash, long_run.seed, failure=str(error))
    return Run(design.name, design.spec.hash, long_run.seed, **judged, train_s=train_s if is_whole else None)


def require_numbers(judged: dict[str, float]) -> None:
    for name, value in judged.items():
        if not math.isfinite(value):
            raise TrainingError(f"The network's {name} is not a number.")


def summary(run: Run) -> str:
    if run.failure:
        return f"{run.design}, seed {run.seed}: {run.failure}"
    return f"{run.design}, seed {run.seed}: {run.val_psnr_db:.3f} dB, SSIM {run.val_ssim:.4f} on the validation pairs"


def device() -> str:
    """Return what JAX computed on, such as "cpu" or "gpu: NVIDIA H200"."""
    import jax

    first = jax.devices()[0]
    return first.platform if first.platform == "cpu" else f"{first.platform}: {first.device_kind}"


def save(path: Path, content: dict[str, Any], option: str) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        write_durably(path, f"{text}\n".encode())
    except OSError as error:
        raise StudyError(f"{path} cannot be written ({error.strerror}); name another with {option}.") from None


def write(path: Path, comparison: Comparison) -> None:
    save(path, comparison.to_dict(), "--out")
    for quality, found_order in comparison.to_dict()["rank_correlation"].items():
        sys.stderr.write(
            f"Order of {quality} against Table 1's PSNR: {design_comparison.correlation_text(found_order)}.\n"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
