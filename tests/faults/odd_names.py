"""Commands on files and folders whose names are not the usual ones: what is tried, and what must hold then.

Each name is given to pairs and to files within them, photographs, tables, networks, devices, spaces, studies, results,
and to everything that a command writes. `conditions.py` runs all of it.
"""

import csv
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import forked_command
from condition_run import COMMAND, LONGEST_S, Condition, Outcome, environment, snapshot, wrong_of

from search_spaces.system.printable import is_text

# The first ones are odd in many ways at once.
ODD_NAMES = (
    "写真 raw%s?x=1&y#z'q\"[bold]{0}$x$<b>;*\n\u202e", "-x", "caf\udce9", "n" * 238, "--help", "..x", "数" * 79, "~x",
    " x ", "数据集", "写真raw", "写真 raw (1)", "w%s?x=1&y#z", "[bold]x[bold]", "$x$", "<script>x", "a\nb",
    "ab\u202ecd",
    "n" * 200, "\x1b[31mred", "'q'\"q\"", "{x}", "a\\b", "a;b|c&d`e`", "cafe\u0301", "a\r\nisp-nas: b", "%d%n{0}",
    "*?[a-z]", "x.json", "\u200b", "@x,=1+1", ":8786",
)  # fmt: skip


def names() -> Iterator[Condition]:
    """Yield commands on files and folders of odd names; what is called so is made by `run_named`."""
    yield from (Condition("names", f"names {at}", what=name) for at, name in enumerate(ODD_NAMES))


TINY = ["--batch", "2", "--patch", "16"]
SEARCH = ["--budget", "1", "--workers", "1", "--rungs", "2", *TINY]
# Cheap ones first: what trains or converts comes last, see HEAVY.
NAMED: tuple[list[str], ...] = (
    ["data", "check", "./{}"],
    ["data", "check", "./{}-inner"],
    ["data", "check", "./{}-list.csv"],
    ["check", "./{}.tflite"],
    ["check", "--", "{}.tflite"],
    ["latency", "predict", "./{}.tflite", "--format", "json"],
    ["latency", "predict", "net.tflite", "--device={}"],
    ["latency", "predict", "net.tflite", "--device", "./devices/{}.json"],
    ["latency", "import", "./{}.csv", "--out", "./{}-read.csv"],
    ["space", "./spaces/{}.toml"],
    ["render", "./{}.tflite", "./{}.png", "--out", "./{}-out", "--convert"],
    ["render", "net.tflite", "./{}-phone", "--out={}-pictures", "--convert"],
    ["pareto", "--study", "s", "--plot", "./{}-plot.png"],
    ["pareto", "--study", "s", "--plot", "./{}-plot.html"],
    ["pareto", "--study={}"],
    ["show", "./{}.json"],
    ["pareto", "--results", "./{}-copies"],
    ["pareto", "--results={}-copies", "--format", "csv"],
    ["report", "--results", "./{}-copies", "--photos", "0", "--out", "./{}-report.html"],
    ["compare", "s:0", "s:1", "--study", "s", "--photos", "0", "--out", "./{}-compare.html"],
    ["designs", "--results", "./{}-copies"],
    ["latency", "calibrate", "./{}.csv", "--name", "{}", "--prior", "dimensity-1000-plus"],
    ["latency", "calibrate", "measured.csv", "--name={}-mine", "--prior", "dimensity-1000-plus"],
    ["latency", "measure", "./{}.tflite", "--out", "./{}-timed"],
    ["data", "make", "--raw", "./{}-phone", "--target", "libraw", "--out", "./{}-made", "--patch", "64",
     "--workers", "1"],
    ["search", *SEARCH, "--data", "pairs", "--space", "tiny.toml", "--study={}"],
    ["search", *SEARCH, "--data", "./{}", "--space", "./spaces/{}.toml", "--device", "./devices/{}.json",
     "--results", "./{}-results", "--log-file", "./{}-log.txt"],
    ["search", *SEARCH, "--data={}-inner", "--space", "tiny.toml", "--results={}-results", "--study", "inner"],
    ["train", "smallnet", "--steps", "2", "--data", "./{}", "--out", "./{}-run", *TINY],
    ["audit", "a.json", "b.json", "c.json", "d.json", "--rungs", "2", "--steps", "4", "--seeds", "1", "--data", "./{}",
     "--out", "./{}-audited", *TINY],
    ["export", "./{}-run", "--out", "./{}-export"],
    ["delete", "copied", "--results", "./{}-copies"],
)  # fmt: skip
HEAVY = ("search", "train", "audit", "export", "measure")
# What commands write besides what they were told to: the folder of studies, a calibrated device, another's log.
OURS = ("results", "devices", "delegates", "kernels")


def run_named(prepared: Path, condition: Condition, forms: Sequence[list[str]]) -> Iterator[Outcome]:
    """Run commands of NAMED on copies that have the odd name, one after the other in one folder."""
    with tempfile.TemporaryDirectory(prefix="isp-nas-condition-") as at:
        folder = Path(at) / "at"
        shutil.copytree(prepared, folder)
        env = environment(folder)
        _name(folder / "work", condition.what)
        yield from (_outcome(folder, condition, form, env) for form in forms)


def _name(work: Path, name: str) -> None:
    """Give the name to copies of everything that commands read."""
    shutil.copytree(work / "pairs", work / name)
    shutil.copytree(work / "pairs", work / f"{name}-inner")
    with (work / f"{name}-list.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("raw", "rgb", "split", "bits"))
        for split in ("train", "val", "test"):
            for kind in ("mediatek_raw", "fujifilm"):
                place = work / f"{name}-inner" / split / kind
                (place / "0.png").rename(place / f"{name}.png")
            inner = f"{name}-inner/{split}"
            rows.writerow((f"{inner}/mediatek_raw/{name}.png", f"{inner}/fujifilm/{name}.png", split, 10))
    for kind, source in (("tflite", "net.tflite"), ("png", "m.png"), ("json", "a.json"), ("csv", "measured.csv")):
        shutil.copy(work / source, work / f"{name}.{kind}")
    for kind in ("devices", "spaces"):
        (work / kind).mkdir()
    shutil.copy(work / "tiny.toml", work / "spaces" / f"{name}.toml")
    device = json.loads((work / "phone.json").read_text()) | {"name": name}
    (work / "devices" / f"{name}.json").write_text(json.dumps(device))
    shutil.copytree(work / "phone", work / f"{name}-phone")
    (work / f"{name}-phone" / "0.dng").rename(work / f"{name}-phone" / f"{name}.dng")
    shutil.copytree(work / "results" / "s", work / f"{name}-copies" / "copied")


def _outcome(folder: Path, condition: Condition, form: Sequence[str], env: Mapping[str, str]) -> Outcome:
    work, name = folder / "work", condition.what
    before = snapshot(work)
    code, out, err = forked_command.run(
        COMMAND, [part.replace("{}", name) for part in form], cwd=work, env=env, longest_s=LONGEST_S
    )
    named = replace(condition, command=" ".join(form), what=ascii(name))
    wrong = [*wrong_of(named, code, out, err, before, folder), *_odd(form, name, code, out, err)]
    wrong += [f"{path!a} appeared" for path in snapshot(work).keys() - before.keys() if not _is_meant(path, name)]
    return Outcome(named, code, (err or out).replace(str(folder), "")[-400:] if wrong else "", tuple(wrong))


def _odd(form: Sequence[str], name: str, code: int | None, out: str, err: str) -> Iterator[str]:
    if re.search("[\x00-\x09\x0b-\x1f\u202e]", out + err):
        yield "control characters"
    if code == 2 and "check" not in form and err.count("\n") != 1:
        yield f"{err.count(chr(10))} lines"
    if "pareto" in form and form[-1].endswith("-copies") and code == 0 and "copied" not in out:
        yield "a copied study goes by the name of the original"
    if code == 2 and _must_work(form, name):
        yield "refused"


def _must_work(form: Sequence[str], name: str) -> bool:
    """Tell whether a command has nothing to refuse: names of studies and devices follow rules, paths of text do not."""
    return is_text(name) and not any(part.startswith(("--study=", "--name", "--device=")) for part in form)


def _is_meant(path: str, name: str) -> bool:
    return path.startswith(name) or path.split("/")[0] in OURS
