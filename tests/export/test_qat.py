"""Fine-tuning for int8 starts from trained weights, goes on after a stop, and its file is what training saw."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flow import in_process, refusal

from nas.data.pairs import DataConfig, open_prepared, prepare
from nas.export import qat
from nas.search.network_ref import NetworkRef, resolve
from nas.search.network_training import TrainingRequest, run_folder
from nas.tflite.interpreter import TfliteModel
from nas.train import checkpoint, history, long_run
from nas.train.evaluation import network_input
from nas.train.long_run import Callbacks
from nas.train.recipe import Recipe
from nas.train.run_folder import BEST_FILE, CHECKPOINT_FILE, Quantisation, TrainingRun
from search_spaces import lower_flax
from search_spaces.errors import StudyError, UsageError
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec

SPEC = ArchSpec(width=4, depth=0)
RECIPE = Recipe(batch=2, patch=32, total_steps=60)
TUNING = replace(RECIPE, total_steps=20, learning_rate=1e-3)
SIZE = ("--size", "64x96")


@pytest.fixture(scope="module")
def trained(tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> NetworkRef:
    folder = tmp_path_factory.mktemp("float")
    long_run.run(TrainingRun(folder, SPEC, DataConfig(str(tiny_pairs)), RECIPE, seed=0, validate_every=60))
    return resolve(str(folder), folder)


def tuning(trained: NetworkRef, folder: Path) -> TrainingRun:
    quantisation = qat.quantisation(trained, trained.trained.data, folder, calibration=4)
    return TrainingRun(
        folder,
        trained.spec,
        trained.trained.data,
        TUNING,
        seed=0,
        validate_every=10,
        init_from=str(trained.trained.path),
        quantisation=quantisation,
    )


@pytest.fixture(scope="module")
def tuned(trained: NetworkRef, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    run = tuning(trained, tmp_path_factory.mktemp("tuned") / "run")
    long_run.run(run)
    return run


def test_a_run_begins_with_the_targets_weights_and_the_ranges_of_its_int8_file(
    trained: NetworkRef, tmp_path: Path
) -> None:
    run = tuning(trained, tmp_path / "run")

    class Stopped(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    first: list[checkpoint.Checkpoint] = []
    original = long_run.train

    def spy(*given: object, **options: object) -> object:
        first.append(given[1])  # type: ignore[arg-type]
        return original(*given, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_run, "train", spy)
        with pytest.raises(Stopped):
            long_run.run(run, watcher=Callbacks(tick=stop))
    parameters, given = first[0].parameters, trained.trained.load().parameters
    assert run.quantised is not None
    assert parameters.keys() == given.keys() | run.quantised.first_logarithms.keys()
    assert run.quantisation is not None
    factors = run.quantisation.scales["stem1"]
    assert max(factors) > 1
    np.testing.assert_allclose(parameters["stem1/kernel"], given["stem1/kernel"] * np.array(factors), rtol=1e-6)
    x = network_input(open_prepared(prepare(run.data, tmp_path / "pairs"), "val"), np.arange(2))
    own = {name: parameters[name] for name in given}
    exact, equal = (np.asarray(lower_flax.jit_apply(build_graph(SPEC))(each, x)) for each in (given, own))  # type: ignore[arg-type]
    np.testing.assert_allclose(equal, exact, atol=1e-5)  # the same network


def test_a_run_from_before_channels_were_made_equal_goes_on_as_it_began(tuned: TrainingRun) -> None:
    assert tuned.quantisation is not None
    stored = {name: value for name, value in tuned.quantisation.to_dict().items() if name != "scales"}
    begun = Quantisation.from_dict(stored)
    assert begun.scales == {}
    assert begun.to_dict() == stored


def test_fine_tuning_moves_weights_and_ranges(trained: NetworkRef, tuned: TrainingRun) -> None:
    state = checkpoint.load(tuned.folder / CHECKPOINT_FILE)
    assert tuned.quantised is not None
    first = trained.trained.load().parameters | tuned.quantised.first_logarithms
    moved = [name for name in first if not np.array_equal(first[name], state.parameters[name])]
    assert {"stem1/kernel", "input/high"} <= set(moved)


def test_a_stopped_run_goes_on_bit_for_bit(trained: NetworkRef, tuned: TrainingRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    class Stopped(Exception):
        pass

    def stop(step: int, _: object) -> None:
        if step > 10:
            raise Stopped

    with pytest.raises(Stopped):
        long_run.run(tuning(trained, folder), watcher=Callbacks(tick=stop))
    assert checkpoint.load(folder / CHECKPOINT_FILE).step == 10
    long_run.run(tuning(trained, folder))  # what is rounded is read back, not converted anew
    mine, theirs = (checkpoint.load(each / CHECKPOINT_FILE) for each in (folder, tuned.folder))
    np.testing.assert_equal(mine.parameters, theirs.parameters)
    np.testing.assert_equal(mine.first_moment, theirs.first_moment)


def test_a_run_does_not_go_on_from_other_weights(trained: NetworkRef, tuned: TrainingRun) -> None:
    assert tuned.quantisation is not None
    other = replace(tuned, quantisation=replace(tuned.quantisation, start="0" * 64))
    with pytest.raises(StudyError, match="other weights to start from, or their ranges"):
        long_run.run(other)


def test_half_precision_and_roundings_do_not_go_together(tuned: TrainingRun) -> None:
    with pytest.raises(UsageError, match="float32"):
        replace(tuned, recipe=replace(TUNING, precision="bfloat16"))


def test_every_start_has_a_folder_of_its_own(trained: NetworkRef, tmp_path: Path) -> None:
    def folder(start: NetworkRef, calibration: int) -> Path:
        options = TrainingRequest({}, steps=60, qat=True, calibration=calibration)
        return run_folder(start, options, TUNING, tmp_path)

    assert trained.state is not None
    last = trained.trained.path.parent / CHECKPOINT_FILE
    other = tmp_path / "other.safetensors"
    checkpoint.save(replace(checkpoint.load(last), step=1), other)
    again = replace(trained, state=replace(trained.state, path=other))
    assert folder(trained, 100) == folder(trained, 100)
    assert len({folder(trained, 100), folder(trained, 50), folder(again, 100)}) == 3
    assert folder(trained, 100).name.startswith(trained.trained.path.parent.name)


def test_what_was_fine_tuned_is_not_taken_for_the_network_itself(
    trained: NetworkRef, tiny_pairs: Path, tmp_path: Path
) -> None:
    plain = TrainingRun(
        tmp_path / "trained" / "plain", SPEC, DataConfig(str(tiny_pairs)), replace(RECIPE, total_steps=4), 0
    )
    long_run.run(plain)
    longer = replace(tuning(trained, tmp_path / "trained" / "longer"), recipe=replace(TUNING, total_steps=8))
    long_run.run(longer)
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SPEC.to_dict()))
    assert resolve(str(spec), tmp_path).trained.steps == 4


def test_the_file_is_as_good_as_training_said(
    trained: NetworkRef, tuned: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(trained.trained.path.parent)
    done = in_process(
        "export", folder, "--precision", "int8", "--qat", str(tuned.folder), "--max-drop", "9", "--out", "out", *SIZE,
        "--format", "json",
    )  # fmt: skip
    plain, int8 = json.loads(done.stdout)["precisions"]
    best = history.best(history.read(tuned.folder, until=100))
    assert best is not None
    # The twin's kernels round their sums once more than JAX does.
    assert int8["val_psnr_db"] == pytest.approx(best.psnr_db, abs=0.15)
    assert int8["fine_tuned"] == {"steps": best.step, "folder": str(tuned.folder)}
    assert plain["fine_tuned"] is None
    assert int8["drop_db"] == pytest.approx(plain["val_psnr_db"] - int8["val_psnr_db"], abs=1e-3)
    assert "quantisation-aware training" in Path("out/card.md").read_text("utf-8")
    state = checkpoint.load(tuned.folder / BEST_FILE)
    assert tuned.quantised is not None
    low, high = tuned.quantised.trained_ranges(state.weights)["input"]
    assert TfliteModel(Path("out/model_int8.tflite").read_bytes()).input.scale == pytest.approx(
        (high - low) / 255, rel=1e-5
    )


def test_an_export_fine_tunes_by_itself_and_does_not_do_it_twice(
    trained: NetworkRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(trained.trained.path.parent)
    command = ["export", folder, "--precision", "int8", "--qat", "4", "--max-drop", "9", *SIZE, "--format", "json"]
    first = json.loads(in_process(*command, "--out", "a").stdout)["precisions"][1]
    (run,) = Path("results/trained").iterdir()
    stamp = (run / CHECKPOINT_FILE).stat().st_mtime_ns
    second = json.loads(in_process(*command, "--out", "b").stdout)["precisions"][1]
    assert first["fine_tuned"] == second["fine_tuned"] == {"steps": 4, "folder": str(run)}
    assert first["val_psnr_db"] == second["val_psnr_db"]
    assert (run / CHECKPOINT_FILE).stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--qat", "4"), "add --precision int8"),
        (("--precision", "int8", "--qat", "nowhere"), "holds no run"),
        (("--precision", "int8", "--qat", "{float}"), "plain float32"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused(
    trained: NetworkRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(trained.trained.path.parent)
    arguments = [option.replace("{float}", folder) for option in options]
    assert sentence in refusal(in_process("export", folder, "--out", "out", *SIZE, *arguments))
    assert not Path("out").exists()


def test_a_fine_tuning_is_not_exported_in_place_of_its_network(tuned: TrainingRun, tmp_path: Path) -> None:
    sentence = refusal(in_process("export", str(tuned.folder), "--out", str(tmp_path / "out"), *SIZE))
    assert f"--qat {tuned.folder}" in sentence


def test_a_run_from_other_weights_is_not_exported(trained: NetworkRef, tuned: TrainingRun, tmp_path: Path) -> None:
    other = tmp_path / "other"
    long_run.run(TrainingRun(other, SPEC, trained.trained.data, replace(RECIPE, total_steps=2), seed=1))
    with pytest.raises(UsageError, match="other weights"):
        qat.fine_tuned(tuned.folder, resolve(str(other), tmp_path))


def test_what_has_no_trained_weights_cannot_be_fine_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no trained weights" in refusal(in_process("train", "smallnet", "--qat", "--steps", "4"))
    assert "leave out --init-from" in refusal(
        in_process("train", "smallnet", "--qat", "--steps", "4", "--init-from", "cvml")
    )
