"""The features are those of Keras's VGG-19, whichever of its files they come from; a wrong file is one sentence."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from jax import Array
from jax.test_util import check_grads
from keras.src.applications import vgg19 as keras_vgg19

from nas.train.losses import perceptual, vgg_weights
from nas.train.recipe import VGG_LAYERS
from search_spaces.errors import UnknownNameError, UsageError

# Keras 3 turns TensorFlow's variables into arrays in a way that NumPy 2 is about to end.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

COMPARED = ("relu1_1", "relu2_2", "relu3_4", "relu4_1", "relu5_4")
SIDES = (50, 37)  # odd after one pool and at once
every_layer = pytest.mark.parametrize("layer", VGG_LAYERS)


def keras_name(layer: str) -> str:
    return layer.replace("relu", "block").replace("_", "_conv")


def random_pictures(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """VGG-19 with weights drawn by chance, biases too, which Keras starts at zero."""
    model = keras.applications.VGG19(weights=None, include_top=False, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        fan_in = np.prod(weight.shape[:-1])
        scale = np.sqrt(2 / fan_in) if len(weight.shape) > 1 else 10.0
        weight.assign((scale * rng.standard_normal(weight.shape)).astype(np.float32))
    return model


def write_published(path: Path, model: keras.Model) -> Path:
    """Write what Keras published: a group per layer, names as they were in 2016."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}_{kind}_1:0".encode() for kind in ("W", "b")][: len(layer.weights)]
            group.attrs["weight_names"] = names
            for name, weight in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=weight)
    return path


WAYS = ("published", "saved weights", "saved model")


@pytest.fixture(scope="module")
def files(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("vgg")
    written = {
        "published": write_published(folder / "published.h5", network),
        "saved weights": folder / "saved.weights.h5",
        "saved model": folder / "model.h5",
    }
    network.save_weights(written["saved weights"])
    network.save(written["saved model"])
    yield written
    shutil.rmtree(folder)  # a quarter of a gigabyte


@pytest.fixture(scope="module")
def weights(files: dict[str, Path]) -> dict[str, Array]:
    return {name: jnp.asarray(value) for name, value in vgg_weights.read_weights(files["published"]).items()}


# Agreement with Keras


@pytest.fixture(scope="module")
def theirs(network: keras.Model) -> dict[str, np.ndarray]:
    outputs = [network.get_layer(keras_name(layer)).output for layer in COMPARED]
    rgb = random_pictures(0, 2, *SIDES, 3)
    prepared = keras.applications.vgg19.preprocess_input(255 * rgb)
    answers = keras.Model(network.inputs[0], outputs)(prepared)
    return {layer: np.asarray(value) for layer, value in zip(COMPARED, answers, strict=True)}


@cache
def features_of(layer: str) -> Callable[[dict[str, Array], Array], Array]:
    """Return the features of a layer, compiled once for all files."""
    return jax.jit(lambda weights, rgb: perceptual.features(weights, rgb, layer=layer))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layer", COMPARED)
def test_features_are_those_of_keras(
    files: dict[str, Path], theirs: dict[str, np.ndarray], way: str, layer: str
) -> None:
    read = {name: jnp.asarray(value) for name, value in vgg_weights.read_weights(files[way], layer=layer).items()}
    rgb = jnp.asarray(random_pictures(0, 2, *SIDES, 3))
    with jax.default_matmul_precision("highest"):
        ours = np.asarray(features_of(layer)(read, rgb))
    assert ours.shape == theirs[layer].shape
    assert np.ptp(theirs[layer]) > 1
    assert np.abs(ours - theirs[layer]).max() < 1e-4 * np.abs(theirs[layer]).max()


def test_the_file_we_write_as_published_is_one_that_keras_reads(files: dict[str, Path], network: keras.Model) -> None:
    other = keras.applications.VGG19(weights=None, include_top=False, input_shape=(None, None, 3))
    other.load_weights(files["published"])
    np.testing.assert_array_equal(other.get_layer("block5_conv4").bias, network.get_layer("block5_conv4").bias)


def test_the_files_we_look_for_are_those_that_keras_stores() -> None:
    published = (keras_vgg19.WEIGHTS_PATH_NO_TOP, keras_vgg19.WEIGHTS_PATH)
    assert tuple(address.rpartition("/")[2] for address in published) == vgg_weights._FILES


def test_the_layers_are_all_of_keras(network: keras.Model) -> None:
    convolutions = [layer.name for layer in network.layers if "conv" in layer.name]
    assert [keras_name(layer) for layer in VGG_LAYERS] == convolutions


@pytest.mark.parametrize("layer", COMPARED)
def test_no_more_is_read_than_the_layer_needs(files: dict[str, Path], layer: str) -> None:
    read = vgg_weights.read_weights(files["published"], layer=layer)
    needed = [keras_name(name) for name in VGG_LAYERS[: VGG_LAYERS.index(layer) + 1]]
    assert set(read) == {f"{name}/{kind}" for name in needed for kind in ("kernel", "bias")}
    assert all(value.dtype == np.float32 for value in read.values())


# The loss


def test_the_loss_is_the_mean_squared_difference_of_features(weights: dict[str, Array]) -> None:
    predicted, target = (jnp.asarray(random_pictures(seed, 2, 32, 32, 3)) for seed in (1, 2))
    features = jax.jit(perceptual.features)
    wanted = np.mean(np.square(features(weights, predicted) - features(weights, target)))
    loss = jax.jit(lambda p, t, w: perceptual.perceptual(p, t, weights=w))
    assert float(loss(predicted, target, weights)) == pytest.approx(float(wanted), rel=1e-4)
    assert float(loss(target, target, weights)) == 0
    assert float(loss(0.9 * target + 0.1 * predicted, target, weights)) < float(wanted)


def test_a_step_against_the_gradient_helps(weights: dict[str, Array]) -> None:
    predicted, target = (jnp.asarray(random_pictures(seed, 2, 32, 32, 3)) for seed in (1, 2))
    loss = jax.jit(jax.value_and_grad(lambda p, w: perceptual.perceptual(p, target, weights=w)))
    before, gradient = loss(predicted, weights)
    assert bool(jnp.isfinite(gradient).all())
    assert float(loss(predicted - 0.01 * gradient / jnp.abs(gradient).max(), weights)[0]) < float(before)


@pytest.mark.parametrize("layer", ["relu1_2", "relu3_1"])
def test_the_gradient_is_the_slope_of_the_loss(weights: dict[str, Array], layer: str) -> None:
    predicted, target = (random_pictures(seed, 1, 12, 10, 3).astype(np.float64) for seed in (1, 2))
    with jax.enable_x64(True):
        needed = {name: jnp.asarray(np.asarray(value, np.float64)) for name, value in weights.items()}
        true = jnp.asarray(target)
        loss = jax.jit(lambda p: perceptual.perceptual(p, true, weights=needed, layer=layer))
        check_grads(loss, (jnp.asarray(predicted),), order=1, modes=("rev",), eps=1e-7, rtol=1e-4)


# Patches


BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))


def shape_at(layer: str, side: int) -> tuple[int, ...]:
    """The shape of the features of one square picture, found without computing them."""
    arrays, before = {}, 3
    for block, (count, made) in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            arrays[f"block{block}_conv{i}/kernel"] = jax.ShapeDtypeStruct((3, 3, before, made), jnp.float32)
            arrays[f"block{block}_conv{i}/bias"] = jax.ShapeDtypeStruct((made,), jnp.float32)
            before = made
    rgb = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(lambda w, x: perceptual.features(w, x, layer=layer), arrays, rgb).shape


@every_layer
def test_the_least_patch_leaves_one_pixel_and_a_smaller_one_is_refused(layer: str) -> None:
    least = perceptual.least_patch(layer)
    perceptual.require_patch(least, layer=layer)
    assert shape_at(layer, least)[1:3] == (1, 1)
    with pytest.raises(
        UsageError, match=f"{layer} of VGG-19 needs patches of at least {least} pixels, got {least - 1}"
    ):
        shape_at(layer, least - 1)


def test_the_deepest_layers_need_sixteen_pixels() -> None:
    assert [perceptual.least_patch(f"relu{block}_1") for block in range(1, 6)] == [1, 2, 4, 8, 16]
    assert perceptual.least_patch() == 16


def test_an_unknown_layer_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r'layer of VGG-19 "relu5_5".*Did you mean "relu5_4"'):
        perceptual.least_patch("relu5_5")


# Where the file is


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    return path


def test_the_file_given_comes_before_those_of_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    full = put(tmp_path / "keras/models/vgg19_weights_tf_dim_ordering_tf_kernels.h5")
    assert vgg_weights.find_weights(None) == full
    short = put(tmp_path / "keras/models/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5")
    assert vgg_weights.find_weights(None) == short
    mine = put(tmp_path / "mine.h5")
    assert vgg_weights.find_weights(mine) == mine


def test_without_a_variable_the_files_are_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = put(tmp_path / ".keras/models/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5")
    assert vgg_weights.find_weights(None) == path


@pytest.mark.parametrize("given", [None, "gone.h5"])
def test_a_missing_file_is_a_sentence_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"none at .*\.h5; `python -c .*VGG19.*--vgg-weights FILE") as raised:
        vgg_weights.find_weights(None if given is None else tmp_path / given)
    assert (given or str(tmp_path / "models")) in str(raised.value)


def test_a_user_without_a_home_folder_has_no_weights_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that is run as a number without a name."""
    monkeypatch.setenv("KERAS_HOME", "~nobody-of-this-name/.keras")
    with pytest.raises(UsageError, match="none at ~nobody-of-this-name"):
        vgg_weights.find_weights(None)


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    assert vgg_weights.weights_digest(put(tmp_path / "some.h5")) == hashlib.sha256(b"weights").hexdigest()


# Bad files


def write_shapes(path: Path, counts: tuple[int, ...], *, channels: tuple[int, ...] = (64, 128, 256, 512, 512)) -> Path:
    """Write a network of blocks of convolutions, without values."""
    before = 3
    with h5py.File(path, "w") as file:
        for block, (count, made) in enumerate(zip(counts, channels, strict=True), 1):
            for i in range(1, count + 1):
                group = file.create_group(f"block{block}_conv{i}")
                group.create_dataset("kernel:0", (3, 3, before, made), "f4")
                group.create_dataset("bias:0", (made,), "f4")
                before = made
    return path


def refused(path: Path, *, layer: str = "relu5_4") -> str:
    with pytest.raises(UsageError) as raised:
        vgg_weights.read_weights(path, layer=layer)
    sentence = str(raised.value)
    assert str(path) in sentence
    assert "--vgg-weights FILE" in sentence
    assert "\n" not in sentence
    return sentence


VGG19 = (2, 2, 4, 4, 4)


def test_a_file_of_vgg16_is_refused_even_where_both_begin_alike(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "vgg16.h5", (2, 2, 3, 3, 3))
    for layer in ("relu1_1", "relu5_4"):
        sentence = refused(path, layer=layer)
        assert "its layer block3_conv4 is missing instead of a kernel of 3×3×256×256 and a bias of 256" in sentence


def test_another_shape_is_refused_with_both(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "narrow.h5", VGG19, channels=(64, 96, 256, 512, 512))
    sentence = refused(path)
    assert "its layer block2_conv1 is a kernel of 3×3×64×96 and a bias of 96" in sentence
    assert "instead of a kernel of 3×3×64×128 and a bias of 128" in sentence


def test_a_layer_without_its_bias_is_refused(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "bare.h5", VGG19)
    with h5py.File(path, "a") as file:
        del file["block4_conv2/bias:0"]
    assert "its layer block4_conv2 is a kernel of 3×3×512×512 instead of" in refused(path)


def test_an_empty_file_in_hdf5_is_refused(tmp_path: Path) -> None:
    assert "its layer block1_conv1 is missing instead of" in refused(write_shapes(tmp_path / "empty.h5", (0,) * 5))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip of PyTorch", b"<html>404</html>"])
def test_a_file_that_is_not_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vgg19.pth"
    path.write_bytes(content)
    assert "is no HDF5 file" in refused(path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = write_shapes(tmp_path / "whole.h5", VGG19)
    assert len(vgg_weights.read_weights(path)) == 32
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "is cut short or damaged (" in refused(path)


def test_a_file_with_garbled_groups_is_refused(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "whole.h5", VGG19)
    content = path.read_bytes()
    assert b"TREE" in content
    path.write_bytes(content.replace(b"TREE", b"EERT"))
    assert "is cut short or damaged (" in refused(path)
