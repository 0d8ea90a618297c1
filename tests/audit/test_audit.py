"""What an audit trains, keeps, continues and says, through the command; most tests make up the trainings."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from audits import LADDERS, NETWORKS, SPECS, ask, assert_close, audit_json, figures, use
from flow import InlineWorker, in_process, made_up, made_up_psnr, refusal, snapshot, truncate
from scipy import stats

from latency_models.device import load_device
from nas import backend
from nas.audit import trainings as audit
from nas.audit.report import from_dict, rung_rows
from nas.audit.trainings import AuditedNetwork, AuditPlan
from nas.cli import audit as audit_table
from nas.cli.audit import default_ladders
from nas.data.pairs import DataConfig, identity
from nas.defaults import DEFAULT_DATA, DEFAULT_DEVICE
from nas.search.budget import Budget
from nas.search.score import final_score
from nas.search.successive_halving import LADDER_TOPS, default_ladder
from nas.train import checkpoint
from nas.train.candidate import load_or_start
from nas.train.default_recipe import HARDWARE_RECIPE, default_recipe
from nas.train.job import Job
from nas.train.recipe import Recipe
from search_spaces.designs import DESIGNS
from search_spaces.errors import UsageError
from search_spaces.networks import build_graph
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[InlineWorker]:
    """Let no audit start a process; what it asked for is in the workers."""
    return use(monkeypatch, made_up)


# What is trained


def test_a_network_is_trained_once_per_seed_and_horizon_and_the_truth_shares_a_ladder_of_its_length() -> None:
    plan = AuditPlan(tuple(map(AuditedNetwork, NETWORKS, SPECS)), (0, 1), ((2, 4), (2, 4, 8)), 8, Recipe())
    assert plan.stops == {4: [2, 4], 8: [2, 4, 8]}
    trainings = list(plan.trainings())
    assert len({training.key for training in trainings}) == len(trainings) == 4 * 2 * 2
    assert {(t.total_steps, t.stops) for t in trainings} == {(4, (2, 4)), (8, (2, 4, 8))}


def test_the_truth_is_trained_apart_from_shorter_ladders() -> None:
    plan = AuditPlan(tuple(map(AuditedNetwork, NETWORKS, SPECS)), (0,), ((2, 4),), 8, Recipe())
    assert plan.stops == {4: [2, 4], 8: [8]}


def test_a_long_way_between_rungs_is_gone_in_stretches_of_which_a_kill_costs_one() -> None:
    plan = AuditPlan(tuple(map(AuditedNetwork, NETWORKS, SPECS)), (0,), ((900, 2700, 8100),), 8100, Recipe())
    stops = next(plan.trainings()).stops
    assert {900, 2700, 8100} <= set(stops)
    assert max(b - a for a, b in zip((0, *stops), stops, strict=False)) <= audit.LEAST_STRETCH


def test_every_rung_is_trained_with_the_recipe_of_its_ladder(
    workers: list[InlineWorker], tiny_pairs: Path, tmp_path: Path
) -> None:
    assert ask(tiny_pairs, tmp_path / "a", "--seeds", "3", "--learning-rate", "0.001").returncode == 0
    jobs = [job for worker in workers for job in worker.jobs]
    assert len(jobs) == len(NETWORKS) * 3 * (2 + 3)
    assert {(job.recipe.total_steps, job.steps) for job in jobs} == {(4, 2), (4, 4), (8, 2), (8, 4), (8, 8)}
    assert {job.seed for job in jobs} == {0, 1, 2}
    wanted = default_recipe(backend.expected(), DEFAULT_DATA).changed(batch=2, patch=16, learning_rate=0.001)
    assert {replace(job.recipe, total_steps=wanted.total_steps) == wanted for job in jobs} == {True}


def test_two_workers_share_the_networks(workers: list[InlineWorker], tiny_pairs: Path, tmp_path: Path) -> None:
    assert ask(tiny_pairs, tmp_path / "two", "--workers", "2").returncode == 0
    one, two = (worker.jobs for worker in workers)
    assert one
    assert two
    assert not {job.checkpoint for job in one} & {job.checkpoint for job in two}
    assert ask(tiny_pairs, tmp_path / "one").returncode == 0
    assert figures(tmp_path / "one") == figures(tmp_path / "two")


def test_where_nobody_is_named_twelve_or_more_take_part_the_same_every_time() -> None:
    space = load_space("mai21")
    networks = audit.default_networks(space)
    assert networks == audit.default_networks(space)
    assert len(networks) >= audit.ENOUGH
    graphs = [build_graph(network.spec) for network in networks]
    assert len({graph.structure for graph in graphs}) == len(networks)
    assert max(graph.macs for graph in graphs) <= audit.MOST_MACS
    device = load_device(DEFAULT_DEVICE)
    # What the default device's delegate does not take whole has no runtime there.
    normalises = {network.name for network in networks if network.spec.normalisation != "none"}
    assert {n.name for n in networks if audit_table.predicted_ms(device, n.spec) is None} == normalises
    designs = [network.spec for network in networks if network.name in DESIGNS]
    assert len(designs) >= len(networks) / 3
    assert all(space.contains(network.spec) for network in networks if network.spec not in designs)


def test_the_default_ladders_are_those_that_a_search_chooses_from() -> None:
    wanted = tuple(default_ladder(Budget(seconds=limit), "cpu") for limit, _ in LADDER_TOPS)
    assert default_ladders(8100, "cpu") == wanted
    assert default_ladders(2700, "cpu") == wanted[:2]
    assert default_ladders(81000, "gpu")[-1][-1] == 81000


def test_options_that_are_not_given_are_the_defaults_of_the_hardware(
    workers: list[InlineWorker], tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HARDWARE_RECIPE, "cpu", {"batch": 3, "patch": 32})
    monkeypatch.setattr(audit_table.backend, "expected", lambda: "cpu")
    done = in_process("audit", *NETWORKS, "--data", tiny_pairs, "--out", tmp_path / "a", "--seeds", "1")
    assert done.returncode == 0, done.stderr
    jobs = workers[0].jobs
    assert {(job.recipe.batch, job.recipe.patch) for job in jobs} == {(3, 32)}
    assert {job.recipe.total_steps for job in jobs} == {top for _, top in LADDER_TOPS}


# What is said


@pytest.fixture
def made(workers: list[InlineWorker], tiny_pairs: Path, tmp_path: Path) -> Path:
    assert ask(tiny_pairs, tmp_path / "made").returncode == 0
    return tmp_path / "made"


def test_the_file_holds_what_was_trained_on_what_how_and_where(made: Path, tiny_pairs: Path) -> None:
    document = audit_json(made)
    assert {"command", "commit", "created", "machine", "python", "versions", "hardware"} <= set(document["provenance"])
    assert document["data"]["pairs"] == {"train": 8, "val": 4, "test": 2}
    assert document["data"]["identity"] == identity(DataConfig(str(tiny_pairs)))
    assert document["recipe"]["patch"] == 16
    assert (document["steps"], document["seeds"]) == (8, [0, 1])
    assert [(n["name"], n["hash"]) for n in document["networks"]] == [
        (n, s.hash) for n, s in zip(NETWORKS, SPECS, strict=True)
    ]
    assert len(document["records"]) == len(NETWORKS) * 2 * 5


def test_figures_follow_from_the_records_as_scipy_computes_them(made: Path) -> None:
    document = audit_json(made)
    runtimes = [n["runtime_ms"] for n in document["networks"]]
    short, long = ([made_up_psnr(job_of(spec, steps)) for spec in SPECS] for steps in (2, 8))
    (row,) = [row for row in document["rungs"] if (row["steps"], row["top"]) == (2, 4)]
    assert row["psnr_spearman"] == pytest.approx(stats.spearmanr(short, long).statistic)
    assert row["psnr_kendall"] == pytest.approx(stats.kendalltau(short, long).statistic)
    scores = [[final_score(psnr, ms) for psnr, ms in zip(values, runtimes, strict=True)] for values in (short, long)]
    assert row["score_spearman"] == pytest.approx(stats.spearmanr(*scores).statistic)
    assert row["score_kendall"] == pytest.approx(stats.kendalltau(*scores).statistic)
    assert row["seed_std_db"] == 0  # made-up trainings know no luck
    assert row["train_s"] == pytest.approx(2 * 0.5 / 2)  # half a second for each of two stretches of two steps


def job_of(spec: ArchSpec, steps: int) -> Job:
    return Job(spec, steps, Path(), Path(), Recipe(), 0)


def test_json_and_csv_say_the_same_and_the_table_is_no_wider_than_a_terminal(
    made: Path, tiny_pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_json = json.loads(ask(tiny_pairs, made, "--format", "json").stdout)
    assert as_json["rungs"] == audit_json(made)["rungs"]
    lines = ask(tiny_pairs, made, "--format", "csv").stdout.splitlines()
    assert len(lines) == 1 + 5
    assert lines[0].split(",") == list(as_json["rungs"][0])
    monkeypatch.setenv("COLUMNS", "80")
    table = ask(tiny_pairs, made, "--rungs", "900,2700,8100", "--steps", "8100").stdout
    assert "…" not in table
    assert all(len(line.rstrip()) <= 80 for line in table.splitlines() if str(made) not in line)
    for wanted in ("2 of 4", "900 of 8100*", "Ceiling", "Kept in"):
        assert wanted in table


def test_few_networks_are_audited_with_a_plain_note(made: Path, tiny_pairs: Path) -> None:
    assert "4 networks: a rank correlation over fewer than 12 says little" in ask(tiny_pairs, made).stdout


def test_a_picture_is_drawn(made: Path, tiny_pairs: Path, tmp_path: Path) -> None:
    assert ask(tiny_pairs, made, "--plot", tmp_path / "audit.png").returncode == 0
    assert (tmp_path / "audit.png").read_bytes().startswith(b"\x89PNG")


# What continues


def test_what_is_recorded_is_not_trained_again(made: Path, workers: list[InlineWorker], tiny_pairs: Path) -> None:
    before = figures(made)
    workers.clear()
    assert ask(tiny_pairs, made).returncode == 0
    assert workers[0].jobs == []
    assert figures(made) == before


def test_networks_seeds_and_ladders_may_be_added(made: Path, workers: list[InlineWorker], tiny_pairs: Path) -> None:
    workers.clear()
    more = ("--seeds", "3", "--rungs", "3,6")
    assert ask(tiny_pairs, made, *more, targets=(*NETWORKS, "isp-forever")).returncode == 0
    first = [job for job in workers[0].jobs if job.spec in SPECS and job.seed < 2]
    assert {(job.recipe.total_steps, job.steps) for job in first} == {(6, 3), (6, 6)}
    assert len(audit_json(made)["networks"]) == 5
    assert audit_json(made)["seeds"] == [0, 1, 2]


STOPPING = """
import os, signal
import nas.cli.audit
from flow import InlineWorker, made_up
from nas.train.checkpoint import Checkpoint, save
from nas.cli.main import main
left = {left}
def run(job):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.{signal})
    save(Checkpoint(job.steps, job.spec.hash, {{}}, {{}}, {{}}), job.checkpoint)
    return made_up(job)
nas.cli.audit.Worker = lambda: InlineWorker(run)
main()
"""


def stopped(pairs: Path, out: Path, *, left: int, how: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", STOPPING.format(left=left, signal=how)]
    return subprocess.run(
        [*program, "audit", *NETWORKS, "--data", str(pairs), "--out", str(out), *LADDERS],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "helpers")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a signal")
def test_an_audit_that_is_killed_again_and_again_ends_like_an_undisturbed_one(
    made: Path, tiny_pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    for number, left in enumerate((3, 0, 17), start=1):
        assert stopped(tiny_pairs, out, left=left, how="SIGKILL").returncode == -signal.SIGKILL
        assert not (out / "audit.json").exists()
        assert len(list(out.glob("runs/*/*.json"))) == (3, 3, 20)[number - 1]
    assert ask(tiny_pairs, out).returncode == 0
    assert figures(out) == figures(made)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is a signal")
def test_ctrl_c_ends_an_audit_with_a_sentence_and_130(tiny_pairs: Path, tmp_path: Path) -> None:
    done = stopped(tiny_pairs, tmp_path / "a", left=2, how="SIGINT")
    assert done.returncode == 130
    assert "The same command continues" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_checkpoint_beyond_the_first_missing_rung_is_made_again(
    workers: list[InlineWorker], tiny_pairs: Path, tmp_path: Path
) -> None:
    assert ask(tiny_pairs, tmp_path / "a", "--seeds", "1").returncode == 0
    folder = tmp_path / "a" / "runs" / f"{SPECS[0].hash}-seed0-8"
    state = load_or_start(SPECS[0], build_graph(SPECS[0]), folder / "none", seed=0)
    checkpoint.save(replace(state, step=4), folder / audit.CHECKPOINT_FILE)
    (folder / "2.json").unlink()
    assert ask(tiny_pairs, tmp_path / "a", "--seeds", "1").returncode == 0
    assert json.loads((folder / "2.json").read_text("utf-8"))["from_step"] == 0
    assert not (folder / audit.CHECKPOINT_FILE).exists()


# What is refused

WRONG: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
    (("smallnet", "csanet", "cvml"), (), "needs 4 or more"),
    ((*NETWORKS, "smallnet"), (), "named twice"),
    ((*NETWORKS, "smalnet"), (), 'Did you mean "smallnet"?'),
    ((*NETWORKS, "7"), (), "There is no study"),
    (NETWORKS, ("--seeds", "0"), "at least one seed, got 0"),
    (NETWORKS, ("--steps", "0"), "at least one step, got 0"),
    (NETWORKS, ("--steps", "3"), "The rungs 2,4 go beyond the 3 steps"),
    (NETWORKS, ("--rungs", "4,2"), "Rungs are rising numbers of steps"),
    (NETWORKS, ("--rungs", "a"), "Rungs are numbers of steps"),
    (NETWORKS, ("--workers", "0"), "at least one worker, got 0"),
    (NETWORKS, ("--plot", "audit.html"), "A plot is written as .png, .svg, .pdf"),
    (NETWORKS, ("--plot", "no/audit.png"), "The folder no does not exist"),
    (NETWORKS, ("--format", "tabel"), 'Did you mean "table"?'),
    (NETWORKS, ("--device", "dimensity"), "dimensity-1000-plus"),
    (NETWORKS, ("--patch", "128"), "A patch of 128 does not fit into pairs of 64×64"),
    (NETWORKS, ("--patch", "17"), "The patch must be a multiple of 4"),
    (NETWORKS, ("--batch", "9"), "A batch of 9 needs as many training pairs, got 8"),
    (NETWORKS, ("--loss", "l3"), 'Did you mean "l1"?'),
    (NETWORKS, ("--data", "nowhere"), "nowhere"),
    (NETWORKS, ("--study", "x"), 'Unknown study "x"'),
]


@pytest.mark.parametrize(
    ("targets", "options", "wanted"), WRONG, ids=lambda value: " ".join(value) * isinstance(value, tuple)
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    workers: list[InlineWorker],
    tiny_pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    targets: tuple[str, ...],
    options: tuple[str, ...],
    wanted: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = ask(tiny_pairs, tmp_path / "a", *options, targets=targets)
    assert wanted in refusal(done)
    assert list(tmp_path.iterdir()) == []


def test_two_names_of_one_network_are_refused(tiny_pairs: Path, tmp_path: Path) -> None:
    spec = tmp_path / "mine.json"
    spec.write_text(json.dumps({"spec": SPECS[0].to_dict()}))
    sentence = refusal(ask(tiny_pairs, tmp_path / "a", targets=(*NETWORKS, str(spec))))
    assert "named twice" in sentence or "the same network" in sentence


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--patch", "32"), "patch 32, the audit has 16"),
        (("--loss", "mse"), 'loss {"mse": 1.0}, the audit has {"l1": 1.0}'),
        (("--patch", "32", "--batch", "3"), "batch 3, the audit has 2; patch 32, the audit has 16"),
        (("--black", "64"), "data tiny-pairs"),
    ],
    ids=lambda value: " ".join(value) * isinstance(value, tuple),
)
def test_another_setting_in_the_same_folder_is_refused_and_named(
    made: Path, tiny_pairs: Path, options: tuple[str, ...], wanted: str
) -> None:
    before = snapshot(made)
    sentence = refusal(ask(tiny_pairs, made, *options))
    assert wanted in sentence
    assert "--out" in sentence
    assert snapshot(made) == before


def test_an_audit_from_before_a_recipe_had_a_field_continues_with_its_default(made: Path, tiny_pairs: Path) -> None:
    path = made / audit.SETTINGS_FILE
    settings = json.loads(path.read_text("utf-8"))
    rotated = settings.pop("rotate")
    path.write_text(json.dumps(settings))
    assert ask(tiny_pairs, made).returncode == 0
    path.write_text(json.dumps(settings | {"rotate": not rotated}))
    assert "rotate true, the audit has false" in refusal(ask(tiny_pairs, made))


@pytest.mark.parametrize(
    ("name", "value"), [("horizon", None), ("phases", {"a": 1}), ("batch", "2"), ("flip", 3), ("rotat", True)]
)
def test_damaged_settings_are_refused_by_name(made: Path, tiny_pairs: Path, name: str, value: object) -> None:
    path = made / audit.SETTINGS_FILE
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {name: value}))
    assert f"{path} is damaged" in refusal(ask(tiny_pairs, made))


OLD_RECORD = {"hash": "0" * 12, "seed": 0, "horizon": 8, "steps": 4, "from_step": 0, "ssim": 0.5, "loss": 0.1}


@pytest.mark.parametrize(
    "spoil",
    [
        truncate,
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"a": 1}'),
        lambda path: path.write_text(path.read_text().replace('"psnr_db": ', '"psnr_db": 1')),  # a better figure
        lambda path: path.write_text(json.dumps({**OLD_RECORD, "psnr_db": "30"})),
    ],
)
def test_a_damaged_record_is_refused_by_name(made: Path, tiny_pairs: Path, spoil: Callable[[Path], object]) -> None:
    damaged = sorted(made.glob("runs/*/4.json"))[0]
    spoil(damaged)
    assert str(damaged) in refusal(ask(tiny_pairs, made))


def test_a_second_audit_in_the_same_folder_is_refused_while_the_first_one_works(made: Path, tiny_pairs: Path) -> None:
    from search_spaces.system import folder_lock

    with folder_lock.lock(made):
        assert "Another audit is working" in refusal(ask(tiny_pairs, made))


def test_an_audit_into_a_folder_below_a_file_is_refused(
    workers: list[InlineWorker], tiny_pairs: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert "--out" in refusal(ask(tiny_pairs, tmp_path / "file" / "a"))


def test_a_plan_needs_a_ladder() -> None:
    with pytest.raises(UsageError, match="give one with --rungs"):
        AuditPlan(tuple(map(AuditedNetwork, NETWORKS, SPECS)), (0,), default_ladders(100, "cpu"), 100, Recipe())


def test_an_audit_is_read_as_it_was_written(made: Path) -> None:
    document = audit_json(made)
    read = from_dict(document)
    assert [asdict(record) for record in read.records] == document["records"]
    assert_close(document["rungs"], json.loads(json.dumps(rung_rows(read))))
