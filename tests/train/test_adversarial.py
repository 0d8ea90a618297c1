"""The discriminator is DPED's, tells pictures apart after a few steps, and passes what it knows to the prediction."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.ndimage
import tensorflow as tf
from jax import Array
from jax.test_util import check_grads

from nas.train.losses import adversarial
from search_spaces.errors import UsageError

PATCH = 32
Parameters = dict[str, Array]


def pictures(seed: int, count: int = 4, patch: int = PATCH) -> np.ndarray:
    return np.random.default_rng(seed).random((count, patch, patch, 3)).astype(np.float32)


def fresh(patch: int = PATCH, seed: int = 0) -> Parameters:
    return {name: jnp.asarray(value) for name, value in adversarial.init_discriminator(seed, patch=patch).items()}


def lively(patch: int = PATCH) -> Parameters:
    """Parameters none of which is at its start, so that each has its say."""
    rng = np.random.default_rng(1)
    start = adversarial.init_discriminator(0, patch=patch)
    return {name: jnp.asarray(v + 0.05 * rng.standard_normal(v.shape, np.float32)) for name, v in start.items()}


# Gradients of convolutions with strides are plain loops on a CPU, seventeen times slower where LLVM does not optimise.
OPTIMISED = {"xla_backend_optimization_level": 1}
logits = jax.jit(adversarial.logits)
generator_loss: Callable[..., Array] = jax.jit(adversarial.generator_loss)
discriminator_loss: Callable[..., Array] = jax.jit(adversarial.discriminator_loss)
# Compiled once: the discriminator's gradient takes longer to compile than all else here.
discriminator_gradient: Callable[..., tuple[Array, Parameters]] = jax.jit(
    jax.value_and_grad(adversarial.discriminator_loss), compiler_options=OPTIMISED
)


# Parameters


def test_the_parameters_are_a_function_of_the_seed() -> None:
    first, again, other = (adversarial.init_discriminator(seed, patch=PATCH) for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first if name.endswith("kernel"))


def test_kernels_start_by_their_fan_and_the_rest_as_in_dped() -> None:
    for name, value in adversarial.init_discriminator(0, patch=PATCH).items():
        kind = name.rpartition("/")[2]
        assert value.dtype == np.float32
        if kind == "kernel":
            fan_in = value.size / value.shape[-1]
            assert value.std() == pytest.approx(np.sqrt(2 / fan_in), rel=0.1)
        else:
            assert set(value) == {np.float32({"bias": 0.01, "gamma": 1.0, "beta": 0.0}[kind])}


@pytest.mark.parametrize(("patch", "flat"), [(32, 128 * 4), (100, 128 * 7 * 7), (128, 128 * 8 * 8)])
def test_the_dense_layer_sees_all_that_is_left_of_the_patch(patch: int, flat: int) -> None:
    """At DPED's 100 pixels that is the 128·7·7 of its code."""
    shapes = {name: value.shape for name, value in adversarial.init_discriminator(0, patch=patch).items()}
    assert shapes["dense/kernel"] == (flat, 1024)
    parameters = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    rgb = jax.ShapeDtypeStruct((3, patch, patch, 3), jnp.float32)
    assert jax.eval_shape(adversarial.logits, parameters, rgb).shape == (3,)


@pytest.mark.parametrize("patch", [0, 16, 31])
def test_a_patch_of_which_too_little_is_left_is_refused(patch: int) -> None:
    with pytest.raises(UsageError, match=f"at least 32 pixels, got {patch}"):
        adversarial.init_discriminator(0, patch=patch)
    with pytest.raises(UsageError, match=f"at least 32 pixels, got {patch}"):
        adversarial.require_patch(patch)


# Agreement with TensorFlow


def tensorflows(parameters: Parameters, rgb: np.ndarray) -> np.ndarray:
    """The layers as DPED writes them."""
    p = {name: tf.constant(np.asarray(value)) for name, value in parameters.items()}
    x = tf.image.rgb_to_grayscale(tf.constant(rgb))
    for i, stride in enumerate((4, 2, 1, 1, 2), 1):
        x = tf.nn.conv2d(x, p[f"conv{i}/kernel"], strides=stride, padding="SAME") + p[f"conv{i}/bias"]
        x = tf.nn.leaky_relu(x, alpha=0.2)
        if i > 1:
            mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
            x = tf.nn.batch_normalization(x, mean, variance, p[f"conv{i}/beta"], p[f"conv{i}/gamma"], 1e-3)
    x = tf.nn.leaky_relu(tf.reshape(x, [len(rgb), -1]) @ p["dense/kernel"] + p["dense/bias"], alpha=0.2)
    return (x @ p["output/kernel"] + p["output/bias"]).numpy()[:, 0]


@pytest.mark.parametrize("patch", [32, 36, 64], ids=["least", "odd after one layer", "usual"])
def test_logits_are_those_of_the_same_layers_in_tensorflow(patch: int) -> None:
    parameters, rgb = lively(patch), pictures(0, patch=patch)
    with jax.default_matmul_precision("highest"):
        ours = np.asarray(jax.jit(adversarial.logits)(parameters, jnp.asarray(rgb)))
    theirs = tensorflows(parameters, rgb)
    assert np.ptp(theirs) > 0.1 * np.abs(theirs).max()
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_losses_are_tensorflows_cross_entropies() -> None:
    parameters, predicted, target = lively(), pictures(0), pictures(1)
    made, real = (np.asarray(logits(parameters, jnp.asarray(rgb))) for rgb in (predicted, target))
    entropy = tf.nn.sigmoid_cross_entropy_with_logits
    entropies = np.concatenate([entropy(tf.zeros(4), made), entropy(tf.ones(4), real)])
    loss = discriminator_loss(parameters, jnp.asarray(predicted), jnp.asarray(target))
    assert float(loss) == pytest.approx(entropies.mean(), rel=1e-5)
    fooled = entropy(tf.ones(4), made).numpy().mean()
    assert float(generator_loss(parameters, jnp.asarray(predicted))) == pytest.approx(fooled, rel=1e-5)


def test_who_cannot_tell_has_a_loss_of_log_two() -> None:
    parameters = fresh() | {"output/kernel": jnp.zeros((1024, 1)), "output/bias": jnp.zeros(1)}
    rgb = jnp.asarray(pictures(0))
    assert float(generator_loss(parameters, rgb)) == pytest.approx(np.log(2))
    assert float(discriminator_loss(parameters, rgb, rgb)) == pytest.approx(np.log(2))


def test_losses_stay_finite_where_the_discriminator_is_certain() -> None:
    parameters = lively() | {"output/kernel": jnp.zeros((1024, 1))}
    rgb = jnp.asarray(pictures(0))
    for certain, fooled in ((-1e4, 1e4), (1e4, 0)):
        sure = parameters | {"output/bias": jnp.full(1, certain)}
        assert float(generator_loss(sure, rgb)) == pytest.approx(fooled)
        assert float(discriminator_loss(sure, rgb, rgb)) == pytest.approx(5e3)  # wrong about one of the two


# What it looks at


def test_the_discriminator_sees_luminance_alone() -> None:
    rgb = jnp.asarray(pictures(0))
    grey = jnp.broadcast_to(rgb @ jnp.asarray([[0.2989], [0.587], [0.114]]), rgb.shape) / 0.9999
    np.testing.assert_allclose(logits(lively(), grey), logits(lively(), rgb), rtol=1e-3, atol=1e-3)


def test_a_picture_is_judged_alike_in_any_company() -> None:
    rgb = jnp.asarray(pictures(0))
    together = np.asarray(logits(lively(), rgb))
    alone = [float(logits(lively(), rgb[i : i + 1])[0]) for i in range(len(rgb))]
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert np.ptp(together) > 1e-2


# Gradients


def test_the_generators_gradient_reaches_the_prediction_and_the_discriminators_does_not() -> None:
    parameters, predicted, target = fresh(), jnp.asarray(pictures(0)), jnp.asarray(pictures(1))
    reaches = jax.jit(jax.grad(adversarial.generator_loss, argnums=1))(parameters, predicted)
    assert float(jnp.abs(reaches).min(axis=(1, 2)).max()) > 0
    stopped = jax.jit(jax.grad(adversarial.discriminator_loss, argnums=1))(parameters, predicted, target)
    assert not bool(stopped.any())


def test_every_parameter_is_taught() -> None:
    _, taught = discriminator_gradient(lively(), jnp.asarray(pictures(0)), jnp.asarray(pictures(1)))
    assert all(bool(jnp.isfinite(value).all()) and bool(value.any()) for value in taught.values())


def test_gradients_are_the_slopes_of_the_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a discriminator with few filters: slopes in double precision take seconds with all of them.
    thin = tuple((8, side, stride) for _, side, stride in adversarial._CONVOLUTIONS)
    monkeypatch.setattr(adversarial, "_CONVOLUTIONS", thin)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        parameters = {name: jnp.asarray(np.asarray(value, np.float64)) for name, value in lively().items()}
        predicted, target = (jnp.asarray(rng.random((2, PATCH, PATCH, 3))) for _ in range(2))
        # Steps so small meet hardly a kink of the leaky rectifiers.
        sure = {"order": 1, "modes": ("rev",), "eps": 1e-9, "rtol": 1e-4}
        check_grads(lambda y: generator_loss(parameters, y), (predicted,), **sure)
        check_grads(lambda p: discriminator_loss(p, predicted, target), (parameters,), **sure)


# Training


def sharp_and_blurred(seed: int) -> tuple[Array, Array]:
    sharp = pictures(seed)
    return jnp.asarray(scipy.ndimage.gaussian_filter(sharp, (0, 1, 1, 0))), jnp.asarray(sharp)


def accuracy(parameters: Parameters) -> float:
    """The share of pictures, none of them seen in training, of which the discriminator knows what they are."""
    blurred, sharp = sharp_and_blurred(1000)
    correct = [*(logits(parameters, blurred) < 0), *(logits(parameters, sharp) > 0)]
    return float(np.mean(correct))


def test_the_discriminator_learns_to_tell_sharp_from_blurred() -> None:
    adam = optax.adam(5e-4)  # DPED's

    @jax.jit
    def updated(parameters: Parameters, state: optax.OptState, gradients: Parameters) -> tuple:
        updates, state = adam.update(gradients, state)
        return optax.apply_updates(parameters, updates), state

    parameters, losses = fresh(), []
    state = jax.jit(adam.init)(parameters)
    assert accuracy(parameters) <= 0.75
    for seed in range(15):
        loss, gradients = discriminator_gradient(parameters, *sharp_and_blurred(seed))
        parameters, state = updated(parameters, state, gradients)
        losses.append(float(loss))
    assert accuracy(parameters) == 1
    assert losses[-1] < 0.5 * losses[0]

    # What it learned is of use to the network: a step against the gradient looks more like the real ones.
    blurred, sharp = sharp_and_blurred(1000)
    loss, gradient = jax.jit(jax.value_and_grad(adversarial.generator_loss, argnums=1))(parameters, blurred)
    assert float(loss) > float(generator_loss(parameters, sharp))
    assert float(generator_loss(parameters, blurred - 0.01 * gradient / jnp.abs(gradient).max())) < float(loss)
