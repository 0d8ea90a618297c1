"""A long training validates, keeps its best, shows itself, and goes on bit for bit after being killed at any moment."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flow import in_process, refusal
from PIL import Image

from nas.data.pairs import DataConfig
from nas.search.network_ref import resolve
from nas.train import checkpoint, evaluation, history, loop
from nas.train import long_run as long_training
from nas.train.checkpoint import Checkpoint
from nas.train.history import Validation
from nas.train.long_run import Callbacks, Finished
from nas.train.recipe import Recipe
from nas.train.run_folder import BEST_FILE, CHECKPOINT_FILE, SuperNetwork, TrainingRun
from search_spaces.designs import DESIGNS
from search_spaces.errors import StudyError, TrainingError, UsageError
from search_spaces.spec import ArchSpec
from search_spaces.system import folder_lock

SPEC = ArchSpec(width=4, depth=0)
# A rate at which the validation PSNR goes up and down.
RECIPE = Recipe(batch=2, patch=16, total_steps=40, learning_rate=0.05, ema=0.5, schedule="constant")


def long_run(folder: Path, pairs: Path, **changes: Any) -> TrainingRun:
    return replace(TrainingRun(folder, SPEC, DataConfig(str(pairs)), RECIPE, seed=0, validate_every=5), **changes)


@pytest.fixture(scope="module")
def straight(tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingRun, Finished]:
    """A run that nobody stopped."""
    run = long_run(tmp_path_factory.mktemp("straight"), tiny_pairs)
    return run, long_training.run(run)


def validations(run: TrainingRun) -> list[tuple[int, float, float, dict[str, float], float]]:
    """What was seen, without the seconds."""
    seen = history.read(run.folder, until=10**9)
    return [(each.step, each.psnr_db, each.ssim, each.losses, each.learning_rate) for each in seen]


def differing(a: Path, b: Path) -> list[str]:
    """Return what differs between two checkpoints; their files may order it differently."""
    mine, theirs = asdict(checkpoint.load(a)), asdict(checkpoint.load(b))
    return [name for name in mine if not equal(mine[name], theirs[name])]


def equal(a: Any, b: Any) -> bool:
    if not isinstance(a, dict):
        return bool(np.array_equal(a, b, equal_nan=isinstance(a, float)))
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_every_stretch_is_validated(straight: tuple[TrainingRun, Finished]) -> None:
    run, finished = straight
    seen = validations(run)
    assert [step for step, *_ in seen] == list(range(5, 41, 5))
    assert seen[-1][1:3] == (finished.quality.psnr_db, finished.quality.ssim)
    assert all(losses.keys() == {"loss", "l1"} and rate == pytest.approx(0.05) for *_, losses, rate in seen)


def test_the_best_state_is_kept_and_is_what_is_exported(straight: tuple[TrainingRun, Finished], tmp_path: Path) -> None:
    run, finished = straight
    step, psnr_db, *_ = max(validations(run), key=lambda each: each[1])
    assert finished.best is not None
    assert (finished.best.step, finished.best.psnr_db) == (step, psnr_db)
    assert step < 40, "choose settings whose best is not the last"
    best = checkpoint.load(run.folder / BEST_FILE)
    assert best.step == step
    state = resolve(str(run.folder), tmp_path).trained
    assert (state.path.name, state.steps) == (BEST_FILE, step)
    assert state.origin.endswith("at its best validation of 40 steps")
    np.testing.assert_equal(state.load().parameters, best.average)  # the average is what was validated


def test_pictures_and_scalars_are_written_at_every_validation(straight: tuple[TrainingRun, Finished]) -> None:
    folder = straight[0].folder
    pictures = sorted(path.name for path in (folder / "pictures").iterdir())
    assert pictures == [f"{step:08d}.png" for step in range(5, 41, 5)]
    scalars = events(folder / "tensorboard")
    assert [step for step, _ in scalars["validation/psnr_db"]] == list(range(5, 41, 5))
    assert scalars["validation/psnr_db"] == [
        (step, pytest.approx(psnr_db, rel=1e-6)) for step, psnr_db, *_ in validations(straight[0])
    ]
    assert {"train/loss", "train/l1", "train/learning_rate", "validation/ssim", "validation/patches"} <= scalars.keys()


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read event files as TensorBoard does: by tag, (step, value)."""
    from tensorboardX.event_file_writer import EventFileWriter  # noqa: F401 (the writer that made them)
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c

    series: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            record = content[at + 12 : at + 12 + length]
            assert int.from_bytes(content[at + 12 + length : at + 16 + length], "little") == masked_crc32c(record)
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                series.setdefault(value.tag, []).append((event.step, value.simple_value))
            at += 16 + length
    return series


# Killed and continued


class Killed(Exception):
    pass


@pytest.mark.parametrize("stretch", [1, 3, 8])
@pytest.mark.parametrize("moment", ["best", "history", "last", "done"])
def test_a_run_killed_between_any_two_files_ends_as_one_that_was_not(
    straight: tuple[TrainingRun, Finished],
    tiny_pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stretch: int,
    moment: str,
) -> None:
    run = long_run(tmp_path / "run", tiny_pairs)
    with monkeypatch.context() as patched:
        kill_before(patched, moment, stretch)
        with pytest.raises(Killed):
            long_training.run(run)
    finished = long_training.run(run)
    whole, wanted = straight
    for name in (BEST_FILE, CHECKPOINT_FILE):
        assert differing(run.folder / name, whole.folder / name) == []
    assert validations(run) == validations(whole)
    assert (finished.quality.psnr_db, finished.steps) == (wanted.quality.psnr_db, 40)


def kill_before(patched: pytest.MonkeyPatch, moment: str, stretch: int) -> None:
    """Raise in the given stretch before the file of that moment is written."""
    count = {"stretch": 0}
    validated = long_training._Run._validated

    def counted(self: Any, trained: Any) -> Validation:
        count["stretch"] += 1
        return validated(self, trained)

    patched.setattr(long_training._Run, "_validated", counted)

    def dying(do: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if count["stretch"] == stretch and not after:
                raise Killed
            done = do(*arguments, **named)
            if count["stretch"] == stretch:
                raise Killed
            return done

        return call

    place, name = {
        "best": (long_training.history, "best"),
        "history": (long_training.history, "write"),
        "last": (long_training, "_save"),
        "done": (long_training, "_save"),
    }[moment]
    patched.setattr(place, name, dying(getattr(place, name), after=moment == "done"))


# Where to begin and when to end


def test_training_ends_where_nothing_better_comes(
    straight: tuple[TrainingRun, Finished], tiny_pairs: Path, tmp_path: Path
) -> None:
    seen = [psnr_db for _, psnr_db, *_ in validations(straight[0])]
    wanted = next(n for n in range(2, 9) if max(seen[: n - 1]) >= seen[n - 1])
    run = long_run(tmp_path / "run", tiny_pairs)
    finished = long_training.run(run, patience=1)
    assert finished.steps == 5 * wanted
    assert long_training.run(run, patience=1).steps == 5 * wanted  # the same command does not go on
    assert long_training.run(run).steps == 40  # without patience it does
    assert validations(run) == validations(straight[0])


def test_standing_still_is_told_from_the_validations() -> None:
    def at(*psnr_db: float) -> list[Validation]:
        return [Validation(step, psnr, 0.5, {}, 1e-3, 1.0, 0.0) for step, psnr in enumerate(psnr_db, 1)]

    assert not history.stands_still(at(), 1)
    assert not history.stands_still(at(20.0), 1)
    assert not history.stands_still(at(20.0, 19.0, 21.0), 2)
    assert history.stands_still(at(20.0, 19.0, 20.0), 2)  # as good as before is no better
    assert not history.stands_still(at(20.0, 19.0), 2)
    assert not history.stands_still(at(*range(40, 0, -1)), None)


def test_first_weights_come_from_another_checkpoint(
    straight: tuple[TrainingRun, Finished], tiny_pairs: Path, tmp_path: Path
) -> None:
    given = straight[0].folder / BEST_FILE
    still = replace(RECIPE, learning_rate=1e-12, ema=0.0, total_steps=1)
    finished = long_training.run(long_run(tmp_path / "run", tiny_pairs, recipe=still, init_from=str(given)))
    assert straight[1].best is not None
    assert finished.quality.psnr_db == pytest.approx(straight[1].best.psnr_db, abs=1e-4)
    state = checkpoint.load(tmp_path / "run" / CHECKPOINT_FILE)
    assert state.step == 1


def test_first_weights_of_another_network_are_refused_and_leave_nothing(tiny_pairs: Path, tmp_path: Path) -> None:
    other = ArchSpec(width=8, depth=0)
    long_training.run(long_run(tmp_path / "other", tiny_pairs, spec=other, recipe=replace(RECIPE, total_steps=1)))
    run = long_run(tmp_path / "run", tiny_pairs, init_from=str(tmp_path / "other" / CHECKPOINT_FILE))
    with pytest.raises(UsageError, match=f"belongs to network {other.hash}, not to {SPEC.hash}; --init-from takes"):
        long_training.run(run)
    assert not run.folder.exists()


def test_a_run_does_not_go_on_with_other_first_weights(
    straight: tuple[TrainingRun, Finished], tiny_pairs: Path, tmp_path: Path
) -> None:
    run = long_run(tmp_path / "run", tiny_pairs, recipe=replace(RECIPE, total_steps=1))
    long_training.run(run)
    with pytest.raises(StudyError, match="holds a training run with other init-from; name another folder"):
        long_training.run(replace(run, init_from=str(straight[0].folder / BEST_FILE)))


def test_the_watcher_is_told_of_losses_and_validations(tiny_pairs: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    seen: list[Validation] = []
    watcher = Callbacks(tick=lambda step, _: steps.append(step), validated=seen.append)
    long_training.run(long_run(tmp_path / "run", tiny_pairs), watcher=watcher)
    assert steps == list(range(5, 41, 5))
    assert [asdict(each) for each in seen] == [asdict(each) for each in history.read(tmp_path / "run", until=40)]


def test_a_run_from_other_weights_goes_on_without_them(
    straight: tuple[TrainingRun, Finished], tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a name stands for may change, and a file may be gone; the run has its own state by then."""
    given = tmp_path / "given.safetensors"
    given.write_bytes((straight[0].folder / BEST_FILE).read_bytes())
    run = long_run(tmp_path / "run", tiny_pairs, init_from="best")
    with monkeypatch.context() as patched:
        kill_before(patched, "done", 2)
        with pytest.raises(Killed):
            long_training.run(run, find=lambda _: given)
    given.unlink()
    assert long_training.run(run, find=lambda _: given).steps == 40


def test_files_that_no_run_explains_are_not_overwritten(
    straight: tuple[TrainingRun, Finished], tiny_pairs: Path, tmp_path: Path
) -> None:
    for name in (BEST_FILE, CHECKPOINT_FILE, "history.jsonl"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"mine")
        with pytest.raises(StudyError, match=rf"holds {name} but no training\.toml to tell what of; name another"):
            long_training.run(long_run(folder, tiny_pairs))
        assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [(name, b"mine")]


def test_a_state_of_another_network_is_not_continued(tiny_pairs: Path, tmp_path: Path) -> None:
    run = long_run(tmp_path / "run", tiny_pairs, recipe=replace(RECIPE, total_steps=1))
    long_training.run(run)
    other = long_run(tmp_path / "other", tiny_pairs, spec=ArchSpec(width=8, depth=0), recipe=run.recipe)
    long_training.run(other)
    (other.folder / CHECKPOINT_FILE).replace(run.folder / CHECKPOINT_FILE)
    with pytest.raises(StudyError, match=f"belongs to network {other.spec.hash}, not to {SPEC.hash}"):
        long_training.run(run)


def test_one_folder_is_trained_into_by_one_process(tiny_pairs: Path, tmp_path: Path) -> None:
    run = long_run(tmp_path / "run", tiny_pairs)
    run.folder.mkdir()
    with folder_lock.lock(run.folder).acquire(), pytest.raises(StudyError, match="Another training works on"):
        long_training.run(run)


def test_a_run_does_not_go_on_with_other_pairs(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = tmp_path / "pairs"
    shutil.copytree(tiny_pairs, pairs)
    run = long_run(tmp_path / "run", pairs)
    with monkeypatch.context() as patched:
        kill_before(patched, "done", 2)
        with pytest.raises(Killed):
            long_training.run(run)
    for kind in ("mediatek_raw", "fujifilm"):
        (pairs / "train" / kind / "0.png").unlink()
    with pytest.raises(StudyError, match="with other pairs in the same place; name another folder"):
        long_training.run(run)


def test_the_best_is_not_lost_with_the_history(
    straight: tuple[TrainingRun, Finished], tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = long_run(tmp_path / "run", tiny_pairs)
    best = straight[1].best
    assert best is not None
    with monkeypatch.context() as patched:
        kill_before(patched, "done", best.step // 5 + 1)
        with pytest.raises(Killed):
            long_training.run(run)
    (run.folder / "history.jsonl").unlink()
    finished = long_training.run(run)
    assert finished.best is not None
    assert (finished.best.step, finished.best.psnr_db) == (best.step, best.psnr_db)
    assert checkpoint.load(run.folder / BEST_FILE).step == best.step


def test_patience_waits_for_the_super_network_to_be_taken_off(tiny_pairs: Path, tmp_path: Path) -> None:
    joined = SuperNetwork(detach_at_db=99.0, blocks=1, layers=1)
    run = long_run(tmp_path / "run", tiny_pairs, super_network=joined)
    finished = long_training.run(run, patience=1)
    assert finished.detached_step == 20
    assert finished.steps > 20


@pytest.mark.usefixtures("drawn_patches")
def test_large_pairs_are_shown_however_few_are_judged_at_once(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "EVALUATION_PIXELS", 1)
    run = long_run(tmp_path / "run", tiny_pairs, recipe=replace(RECIPE, total_steps=1))
    long_training.run(run)
    (drawn,) = (run.folder / "pictures").iterdir()
    assert drawn.name == "00000001.png"
    with Image.open(drawn) as picture:
        assert np.ptp(np.asarray(picture)) > 100


def test_running_out_of_memory_is_told_with_the_estimate(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")

    monkeypatch.setattr(loop, "compiled_step", full)
    with pytest.raises(
        TrainingError, match=r"ran out of memory; with batch 2 and patch 16 about 0\.\d+ GB were expected"
    ):
        long_training.run(long_run(tmp_path / "run", tiny_pairs))


def test_a_damaged_history_is_one_sentence(tiny_pairs: Path, tmp_path: Path) -> None:
    run = long_run(tmp_path / "run", tiny_pairs)
    long_training.run(run)
    (run.folder / "history.jsonl").write_text('{"step": 5')
    with pytest.raises(StudyError, match=r"history\.jsonl cannot be read .*; remove it, and the training goes on"):
        long_training.run(run)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--validate-every", 0), "A validation comes after one step or more, got 0"),
        (("--patience", 0), "The patience is one validation or more, got 0"),
        (
            ("--init-from", "nowhere.safetensors"),
            "takes a checkpoint that training wrote. The checkpoint nowhere.safetensors is not there",
        ),
        (("--init-from", "nothing"), 'Unknown network "nothing"'),
        (("--dtype", "float16"), 'Unknown dtype "float16"'),
        (("--loss", "texture", "--patch", 16), "judges patches of 32 pixels or more, got 16"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tiny_pairs: Path, tmp_path: Path, options: tuple[object, ...], complaint: str
) -> None:
    command = ("train", "smallnet", "--steps", 2, "--data", tiny_pairs, "--batch", 2, "--patch", 32)
    sentence = refusal(in_process(*command, "--out", tmp_path / "run", *options))
    assert complaint in sentence
    assert not (tmp_path / "run").exists()


def test_first_weights_may_be_named_like_any_target(tiny_pairs: Path, tmp_path: Path) -> None:
    options = ("--data", tiny_pairs, "--batch", 2, "--patch", 16, "--results", tmp_path, "--format", "json")
    first = in_process("train", "smallnet", "--steps", 2, *options)
    assert first.returncode == 0, first.stderr
    again = in_process(
        "train", "smallnet", "--steps", 3, "--init-from", "smallnet", *options, "--out", tmp_path / "again"
    )
    assert again.returncode == 0, again.stderr
    assert checkpoint.load(tmp_path / "again" / CHECKPOINT_FILE).spec_hash == DESIGNS["smallnet"].spec.hash


def test_a_checkpoint_without_an_average_is_worth_its_parameters() -> None:
    arrays = {"a": np.ones(2, np.float32)}
    plain = Checkpoint(1, "", arrays, arrays, arrays)
    assert plain.weights["a"] is plain.parameters["a"]
    averaged = replace(plain, average={"a": np.zeros(2, np.float32)})
    assert averaged.weights["a"] is averaged.average["a"]


def test_a_stretch_that_breaks_the_network_is_trained_again_at_a_lower_rate(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    calls: list[Any] = []
    monkeypatch.setattr(long_training, "is_broken", lambda *seen: calls.append(seen) or len(calls) == 1)
    run = long_run(tmp_path / "run", tiny_pairs, recipe=replace(RECIPE, total_steps=10))
    long_training.run(run, watcher=Callbacks(on_message=said.append))
    assert said == ["Training diverged after step 0; it goes on from there at 0.33 of the learning rate."]
    assert [rate for *_, rate in validations(run)] == [pytest.approx(0.05 * loop.CALMER)] * 2


def test_a_run_that_breaks_the_network_is_no_success(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_training, "is_broken", lambda *_: True)
    run = long_run(tmp_path / "run", tiny_pairs, recipe=replace(RECIPE, total_steps=5))
    with pytest.raises(TrainingError, match="after 5 steps it makes pictures that are worth less than one colour"):
        long_training.run(run)


def test_a_fine_tuning_that_never_comes_up_to_the_given_weights_says_so(
    straight: tuple[TrainingRun, Finished], tmp_path: Path
) -> None:
    said: list[str] = []
    given = str(straight[0].folder / BEST_FILE)
    run = replace(straight[0], folder=tmp_path / "run", recipe=replace(RECIPE, total_steps=5), init_from=given)
    finished = long_training.run(run, watcher=Callbacks(on_message=said.append))
    best = straight[1].best
    assert best is not None
    assert finished.best is not None
    assert any("No validation came up to the given weights" in line for line in said) is (
        finished.best.psnr_db < best.psnr_db
    )
    assert finished.best.psnr_db < best.psnr_db, "this rate makes it worse at first"
