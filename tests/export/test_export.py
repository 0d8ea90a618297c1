"""An export is written when the files do what the network does, and otherwise not at all."""

import hashlib
import json
import math
import re
import resource
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latency_models.device import Device, load_device
from latency_models.file_check import check_file
from nas.data.pairs import DataConfig, PairSet, open_prepared
from nas.data.raw_format import pack
from nas.export import exporter, verify
from nas.export import folder as export_folder
from nas.export.card import Card, FileCard
from nas.export.card_markdown import to_markdown
from nas.export.options import ExportOptions
from nas.export.verify import Difference
from nas.search.network_ref import NetworkRef, TrainedState
from nas.tflite.input_contract import read_contract
from nas.tflite.interpreter import TfliteModel
from nas.train import checkpoint, loop
from nas.train.evaluation import network_input
from nas.train.recipe import Recipe
from search_spaces.errors import ExportError, SpecError
from search_spaces.input_levels import InputLevels
from search_spaces.networks import build_graph
from search_spaces.precision import PRECISIONS
from search_spaces.spec import ArchSpec
from search_spaces.system import checksums

SPEC = ArchSpec(width=4, depth=1)
SIZE, PACKED = (64, 96), (1, 32, 48, 4)  # of the deploy file; pairs are 64×64
EVERYTHING = ExportOptions(
    precisions=tuple(PRECISIONS), size=SIZE, dynamic=True, max_drop_db={"fp16": 0.1, "int8": 5.0, "int16": 1.0}
)


def target_of(
    folder: Path,
    pairs: Path,
    spec: ArchSpec = SPEC,
    *,
    trained: PairSet | None = None,
    change: Callable[[dict[str, np.ndarray]], None] = lambda _: None,
) -> NetworkRef:
    """Return a network with fresh weights, or a hundred steps of training, changed as asked."""
    folder.mkdir(parents=True, exist_ok=True)
    state = loop.start(build_graph(spec), seed=0, spec_hash=spec.hash)
    if trained is not None:
        recipe = Recipe(total_steps=100, batch=2, patch=32)
        state = loop.train(build_graph(spec), state, trained, recipe=recipe, steps=100, seed=0).checkpoint
    parameters = {name: np.array(value) for name, value in state.parameters.items()}
    change(parameters)
    checkpoint.save(replace(state, parameters=parameters), folder / "state.safetensors")
    state_on_disk = TrainedState(folder / "state.safetensors", 0, 0, DataConfig(str(pairs)), None, "a test")
    return NetworkRef("a test", spec, None, None, state_on_disk)


def a_huge_channel(parameters: dict[str, np.ndarray]) -> None:
    """Give one channel of the body a constant of 1000, which the head needs: 8 bits then lose the others."""
    parameters["block1.conv/bias"][2] = 1000.0
    parameters["head/kernel"][:, :, 2] = 0.0
    parameters["head/kernel"][1, 1, 2] = 0.01
    parameters["head/bias"] -= 10.0


@pytest.fixture
def target(tmp_path: Path, tiny_pairs: Path) -> NetworkRef:
    return target_of(tmp_path, tiny_pairs)


@pytest.fixture(scope="module")
def device() -> Device:
    return load_device("dimensity-1000-plus")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_pairs: Path, device: Device) -> tuple[Path, Card]:
    """One export of everything."""
    root = tmp_path_factory.mktemp("everything")
    return root / "out", exporter.export(target_of(root, tiny_pairs), root / "out", device, EVERYTHING)


@pytest.fixture
def val(prepared_tiny: Path) -> PairSet:
    return open_prepared(prepared_tiny, "val")


def distorted(by: float, *, at: tuple[int, ...]) -> type[TfliteModel]:
    """Return an interpreter whose outputs are off by a constant, at one input shape."""

    class Distorted(TfliteModel):
        def __call__(self, x: np.ndarray) -> np.ndarray:
            return super().__call__(x) + (by if self.input_shape == at else 0.0)

    return Distorted


SIZES = {"twin": (1, 32, 32, 4), "deploy": PACKED, "dynamic": (1, 32, 64, 4)}


@pytest.mark.parametrize("by", [0.02, math.nan])
@pytest.mark.parametrize("at", SIZES.values(), ids=SIZES)
def test_a_file_that_disagrees_is_not_written(
    target: NetworkRef, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch, by: float, at: tuple[int, ...]
) -> None:
    monkeypatch.setattr(verify, "TfliteModel", distorted(by, at=at))
    with pytest.raises(ExportError, match="nothing was written"):
        exporter.export(target, tmp_path / "out", device, ExportOptions(size=SIZE, dynamic=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("at", [PACKED, SIZES["dynamic"]], ids=["deploy", "dynamic"])
def test_a_rounded_file_that_is_not_its_twin_at_another_size_is_not_written(
    target: NetworkRef, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch, at: tuple[int, ...]
) -> None:
    class Distorted(TfliteModel):
        def __call__(self, x: np.ndarray) -> np.ndarray:
            return super().__call__(x) + (0.2 if self.input_shape == at and self.input.scale else 0.0)

    monkeypatch.setattr(verify, "TfliteModel", Distorted)
    options = replace(EVERYTHING, precisions=("int8",))
    with pytest.raises(ExportError, match="int8 differs by"):
        exporter.export(target, tmp_path / "out", device, options)
    assert not (tmp_path / "out").exists()


# What is written


def test_an_export_holds_the_files_the_card_and_the_picture(exported: tuple[Path, Card]) -> None:
    out, card = exported
    models = [f"model{p}{none}.tflite" for p in ("", "_fp16", "_int8", "_int16") for none in ("", "_none")]
    assert {path.name for path in out.iterdir()} == {*models, "card.json", "card.md", "patches.png"}
    assert [(file.file, file.dynamic_file) for file in card.precisions] == list(
        zip(models[::2], models[1::2], strict=True)
    )
    assert [file.size_bytes for file in card.precisions] == [(out / name).stat().st_size for name in models[::2]]


def test_a_file_is_known_by_its_hash_and_says_what_it_reads_without_its_card(
    exported: tuple[Path, Card], tmp_path: Path
) -> None:
    out, card = exported
    for file in card.precisions:
        for name, known_by in ((file.file, file.sha256), (file.dynamic_file, file.dynamic_sha256)):
            assert name
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() == known_by
            alone = tmp_path / name
            alone.write_bytes((out / name).read_bytes())
            assert read_contract(alone, {}, input_kind=None) == read_contract(out / name, {}, input_kind=None)
            assert read_contract(alone, {}, input_kind=None).contract.format.bits == 10


def test_an_export_is_not_overwritten(
    exported: tuple[Path, Card], tmp_path: Path, tiny_pairs: Path, device: Device
) -> None:
    out, _ = exported
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ExportError, match="exists and is not overwritten"):
        exporter.export(target_of(tmp_path, tiny_pairs), out, device)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == written


def test_the_card_on_disk_is_the_card(exported: tuple[Path, Card]) -> None:
    out, card = exported
    document = checksums.without_sum(json.loads((out / "card.json").read_text("utf-8")))
    assert list(document) == [field.name for field in fields(Card)]
    assert [list(file) for file in document["precisions"]] == [[field.name for field in fields(FileCard)]] * 4
    assert document == json.loads(json.dumps(card.to_dict()))
    assert (out / "card.md").read_text("utf-8") == to_markdown(card)


@pytest.mark.parametrize("number", range(4), ids=PRECISIONS)
def test_a_file_on_disk_is_worth_what_its_card_says(exported: tuple[Path, Card], val: PairSet, number: int) -> None:
    out, card = exported
    file_card = card.precisions[number]
    assert file_card.file
    assert file_card.dynamic_file
    deploy = TfliteModel((out / file_card.file).read_bytes())
    assert (deploy.input_shape, deploy.output_shape) == (tuple(card.input_shape), tuple(card.output_shape))
    assert vars(deploy.input) == file_card.input
    assert vars(deploy.output) == file_card.output
    # The file for any size, at the pairs' size, is what was judged, but for the order of sums.
    none = TfliteModel((out / file_card.dynamic_file).read_bytes(), input_shape=(1, 32, 32, 4))
    inputs = network_input(val, np.arange(len(val)))
    psnr = [
        -10 * np.log10(np.mean((np.clip(none(x[None])[0], 0, 1) - rgb / 255) ** 2))
        for x, rgb in zip(inputs, val.rgb, strict=True)
    ]
    assert np.mean(psnr) == pytest.approx(file_card.val_psnr_db, abs=0.05)
    assert file_card.drop_db == pytest.approx(card.trained_val_psnr_db - file_card.val_psnr_db)
    assert file_card.local_runtime_ms > 0


def test_fields_beside_the_precisions_are_those_of_the_float32_file(exported: tuple[Path, Card]) -> None:
    _, card = exported
    plain = card.precisions[0]
    for name in ("size_bytes", "ops", "val_psnr_db", "val_ssim", "test_psnr_db", "twin_difference", "input_contract"):
        assert getattr(card, name) == getattr(plain, name)
    assert card.val_psnr_db == pytest.approx(card.trained_val_psnr_db, abs=1e-3)
    assert max(card.twin_difference, card.deploy_difference) < 1e-4


def test_the_card_tells_how_the_mosaics_are_to_be_read(exported: tuple[Path, Card]) -> None:
    _, card = exported
    assert card.raw == {"bits": 10, "black": 0, "white": 1023, "pattern": "RGGB", "packing": "challenge"}
    assert card.input_levels == {"black": 0.0, "white": 1.0}


def test_integer_files_are_calibrated_with_training_pairs(exported: tuple[Path, Card], prepared_tiny: Path) -> None:
    _, card = exported
    brightest = {split: open_prepared(prepared_tiny, split).raw.max() / 1023 for split in ("train", "val")}
    assert brightest["train"] != pytest.approx(brightest["val"], rel=0.01)
    int8 = card.precisions[2]
    assert int8.input["scale"] * 255 == pytest.approx(brightest["train"], rel=1e-3)
    assert [file.calibration_pairs for file in card.precisions] == [None, None, 8, 8]


def test_a_runtime_is_predicted_for_the_numbers_that_the_device_was_measured_in(
    exported: tuple[Path, Card], device: Device
) -> None:
    _, card = exported
    predicted = device.predict(build_graph(SPEC, PACKED)).runtime_ms
    assert [file.runtime_ms for file in card.precisions] == [predicted, predicted, None, None]
    assert [file.runtime_unknown for file in card.precisions][:2] == [None, None]
    assert card.precisions[2].runtime_unknown == (
        "dimensity-1000-plus was calibrated in floating point, and the file computes in int8"
    )


def test_every_file_is_checked_for_the_device_as_the_command_checks_it(
    exported: tuple[Path, Card], device: Device
) -> None:
    out, card = exported
    for file in card.precisions:
        assert file.file
        assert file.device_check == check_file((out / file.file).read_bytes(), device).to_dict()
    assert "model_int8.tflite has no predicted ms: " in to_markdown(card)


# What is not


def test_a_precision_that_loses_too_much_is_left_out_with_its_layer_and_the_others_are_written(
    tmp_path: Path, tiny_pairs: Path, prepared_tiny: Path, device: Device
) -> None:
    train = open_prepared(prepared_tiny, "train")
    spoilt = target_of(tmp_path, tiny_pairs, trained=train, change=a_huge_channel)
    options = ExportOptions(precisions=("fp16", "int8"), size=SIZE, dynamic=True, max_drop_db={"int8": 0.01})
    card = exporter.export(spoilt, tmp_path / "out", device, options)
    written = {path.name for path in (tmp_path / "out").glob("*.tflite")}
    assert written == {"model.tflite", "model_none.tflite", "model_fp16.tflite", "model_fp16_none.tflite"}
    (reason,) = exporter.refusals(card)
    assert re.match(
        r"int8 loses \S+ dB (on the|at full) .* against the trained network, allowed are 0.01: the er", reason
    )
    assert "fine-tune for it with --qat STEPS, or allow more with --max-drop" in reason
    assert '"block1.conv.relu" (relu)' in reason
    refused = card.precisions[2]
    assert (refused.file, refused.dynamic_file, refused.refused) == (None, None, reason)
    assert f"- {reason}" in (tmp_path / "out" / "card.md").read_text("utf-8")


def test_where_the_8_bits_of_the_input_lose_too_much_16_are_advised(
    tmp_path: Path, tiny_pairs: Path, prepared_tiny: Path, device: Device
) -> None:
    train = open_prepared(prepared_tiny, "train")

    def amplify(parameters: dict[str, np.ndarray]) -> None:  # the picture is what 8 bits round off
        for name in ("stem1/kernel", "head/kernel"):
            parameters[name] *= 20.0

    options = ExportOptions(precisions=("int8",), size=SIZE, max_drop_db={"int8": 1e-4})
    card = exporter.export(
        target_of(tmp_path, tiny_pairs, trained=train, change=amplify), tmp_path / "out", device, options
    )
    (reason,) = exporter.refusals(card)
    assert re.search(r"the 8 bits of its input alone lose \S+ dB; take int16, which has 16, or allow more", reason)


def test_a_precision_that_cannot_run_here_is_told_and_the_others_are_written(
    target: NetworkRef, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(TfliteModel):
        def __init__(self, content: bytes, **options: Any) -> None:
            super().__init__(content, **options)
            if self.input_shape == PACKED and self.input.dtype == "int16":
                raise RuntimeError("im2col")

    monkeypatch.setattr(verify, "TfliteModel", Small)
    options = replace(EVERYTHING, precisions=("int8", "int16"), dynamic=False, io="int16")
    card = exporter.export(target, tmp_path / "out", device, options)
    assert {path.name for path in (tmp_path / "out").glob("*.tflite")} == {"model.tflite", "model_int8.tflite"}
    (reason,) = exporter.refusals(card)
    assert "LiteRT cannot run the int16 file at this size on this machine's CPU (im2col)" in reason
    assert f"- {reason}" in (tmp_path / "out" / "card.md").read_text("utf-8")


def test_a_file_made_meanwhile_is_not_overwritten(
    target: NetworkRef, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = exporter._fill

    def beside_somebody_else(*arguments: Any) -> None:
        (tmp_path / "out" / "card.md").write_text("mine")
        fill(*arguments)

    monkeypatch.setattr(exporter, "_fill", beside_somebody_else)
    with pytest.raises(ExportError, match=r"card\.md exists and is not overwritten"):
        exporter.export(target, tmp_path / "out", device, ExportOptions(size=SIZE))
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [("card.md", "mine")]


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_converted(
    target: NetworkRef, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "Converter", None)
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="is a file, wanted a folder"):
        exporter.export(target, tmp_path / "file" / "out", device, ExportOptions(size=SIZE))
    monkeypatch.setattr(export_folder.os, "access", lambda *_: False)
    with pytest.raises(ExportError, match="Nothing can be written into"):
        exporter.export(target, tmp_path / "new" / "out", device, ExportOptions(size=SIZE))


def test_a_size_beyond_this_machines_memory_is_refused_before_anything_is_converted(
    target: NetworkRef, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "Converter", None)
    monkeypatch.setattr(exporter, "host_bytes", lambda: 2_000_000_000)
    with pytest.raises(ExportError, match=r"20000×20000 would take about \d+\.\d GB of memory.*2\.0 GB"):
        exporter.export(target, tmp_path / "out", device, ExportOptions(size=(20_000, 20_000)))


def test_half_precision_of_counts_is_part_of_what_is_lost(target: NetworkRef, val: PairSet) -> None:
    judge = verify.FileVerifier(
        build_graph(SPEC, (1, 32, 32, 4)), PACKED, target.trained.load().parameters, val, target.trained.data
    )
    exact, rounded = (judge._half_drop_db(InputLevels(0.0, white)) for white in (1.0, 16383.0))
    assert rounded != exact


def test_a_size_that_the_network_cannot_take_says_what_it_needs(
    tmp_path: Path, tiny_pairs: Path, device: Device
) -> None:
    deep = target_of(tmp_path, tiny_pairs, spec=ArchSpec(topology="unet", levels=3, width=4))
    with pytest.raises(SpecError, match="multiples of 16, got 1080×1920"):
        exporter.export(deep, tmp_path / "out", device, ExportOptions(size=(1080, 1920)))
    assert not (tmp_path / "out").exists()


def test_a_network_without_a_form_in_a_precision_is_refused_before_anything_is_converted(
    target: NetworkRef, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "unconvertible", lambda _, name: ("median",) if name == "int16" else ())
    monkeypatch.setattr(exporter, "Converter", None)
    with pytest.raises(ExportError, match="median; leave out int16"):
        exporter.export(target, tmp_path / "out", device, EVERYTHING)


@pytest.mark.usefixtures("drawn_patches")
@pytest.mark.parametrize("exists", [False, True])
def test_a_disk_that_fills_half_way_leaves_no_file(
    target: NetworkRef, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    fill = exporter._fill

    def on_a_small_disk(*arguments: Any) -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # enough for the model, not for the picture
        try:
            fill(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(exporter, "_fill", on_a_small_disk)
    out = tmp_path / "out"
    if exists:
        out.mkdir()
        (out / "mine.txt").write_text("kept")
    with pytest.raises(ExportError, match=r"cannot be written \(File too large\)"):
        exporter.export(target, out, device, ExportOptions(size=SIZE))
    assert out.exists() == exists
    assert not exists or [path.name for path in out.iterdir()] == ["mine.txt"]


# Counts


@pytest.mark.parametrize("name", ["fp32", "fp16", "int16"])
def test_a_file_for_counts_is_fed_with_the_mosaic_as_it_is(
    target: NetworkRef, tmp_path: Path, device: Device, val: PairSet, name: str
) -> None:
    options = replace(EVERYTHING, precisions=(name,), input="raw10", size=(64, 64))
    card = exporter.export(target, tmp_path / "out", device, options)
    file_card = card.precisions[-1]
    assert "raw counts, black 0 and white 1023; output" in file_card.input_contract
    assert card.input_levels == {"black": 0.0, "white": 1023.0}
    assert file_card.file
    model = TfliteModel((tmp_path / "out" / file_card.file).read_bytes())
    counts = pack(val.raw[:1], val.format)
    np.testing.assert_array_equal(model.input.encode(counts.astype(np.float32)), counts)
    plain = TfliteModel((tmp_path / "out" / "model.tflite").read_bytes())
    assert np.abs(model(counts) - plain(counts)).mean() < 0.01


# Differences and pages


def test_a_difference_is_relative_to_a_range_of_at_least_one() -> None:
    flat, wide = np.full((1, 2, 2, 3), 0.5), np.linspace(0, 10, 12).reshape(1, 2, 2, 3)
    assert Difference.between(flat, flat + 0.01).largest == pytest.approx(0.01)
    assert Difference.between(wide, wide + 0.01).largest == pytest.approx(0.001)
    assert Difference.between(flat, flat + np.eye(2)[None, :, :, None]) == Difference(1.0, 0.5)


def test_the_page_tells_a_person_what_is_there_how_it_is_fed_and_how_it_is_run(exported: tuple[Path, Card]) -> None:
    _, card = exported
    page = to_markdown(card)
    for text in (
        "![RAW, output, target](patches.png)",
        "| model_int8.tflite |",
        f"{card.runtime_ms:.1f} ms predicted",
        "`model_int16.tflite`: int16 packed RAW",
        "PRO mode",
        "adb push model.tflite /sdcard/Download/model.tflite",
        "benchmark_model --graph=",
        "## Licence and origin",
        card.data_identity,
        "no licence lies beside them",
        "pattern RGGB, 10 bits, black 0, white\n1023",
        "model_int8_none.tflite",
    ):
        assert text in page
    assert "nan" not in page.lower().split()
    assert "Not written" not in page


def test_the_page_names_the_licences_that_lie_beside_the_pairs(exported: tuple[Path, Card]) -> None:
    _, card = exported
    page = to_markdown(replace(card, data_licences=["LICENSE.txt", "COPYING"]))
    assert "beside them lies `LICENSE.txt`, `COPYING`" in page
