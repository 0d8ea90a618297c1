"""How far apart are two pictures to a network that recognises things? The perceptual loss on features of VGG-19.

The weights are those that Keras publishes for ImageNet, 80 MB which are not shipped with this package: `find_weights`
says where they are, `read_weights` reads them as far as a layer needs, `perceptual` is the loss. They go into a jitted
step as an argument like the network's own parameters; as constants they would be compiled into every executable.

Source of the network: Simonyan and Zisserman 2015, arXiv 1409.1556, table 1, column E.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax, nn
from jaxtyping import Array, Float

from search_spaces import kernels
from search_spaces.errors import UnknownNameError, UsageError

Weights = Mapping[str, Float[Array, "..."]]

# Convolutions and channels of each block; between blocks a pool halves the map.
_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
# The layers whose output may be compared, each behind the rectifier of its convolution, the shallowest first.
LAYERS = tuple(f"relu{block}_{i}" for block, (count, _) in enumerate(_BLOCKS, 1) for i in range(1, count + 1))
# The layer of SRGAN (Ledig et al. 2017, arXiv 1609.04802 §2.2.1, "VGG54"), of DPED and of MediaTek's own network
# for the challenge; the report names no team's layer.
CONTENT_LAYER = "relu5_4"

# Means of ImageNet's blue, green and red, which `keras.applications.vgg19.preprocess_input` subtracts from 0 … 255.
_MEAN_BGR = (103.939, 116.779, 123.68)

# The names under which Keras keeps its files, without and with the layers that classify.
_FILES = (
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
)
_HOW_TO_GET = (
    '`python -c "import keras; keras.applications.VGG19(include_top=False)"` fetches them (80 MB) to where they are '
    "found, or name such a file with --vgg-weights FILE."
)


# The file of weights


def find_weights(given: Path | None) -> Path:
    """Return the file of weights: the given one, else the one in Keras's own cache.

    Raises UsageError, which says how to get it, where there is none.
    """
    folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    places = [given] if given else [folder / name for name in _FILES]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UsageError(f"The vgg loss needs the weights of VGG-19, and there are none at {places[0]}; {_HOW_TO_GET}")
    return found


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of a file of weights, for the records of a result that depends on it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path, *, layer: str = CONTENT_LAYER) -> dict[str, Float[np.ndarray, "..."]]:
    """Read the kernels (HWIO) and biases that `layer` needs, "block1_conv1/kernel" and so on, as float32.

    Reads what Keras publishes, what its `save` and `save_weights` write. Raises UsageError for a file that is damaged,
    not HDF5, or of another network, of whose layers the first that differs is named; UnknownNameError for a layer that
    VGG-19 does not have.
    """
    import h5py

    needed = _convolutions(layer)
    if not h5py.is_hdf5(path):
        raise UsageError(f"{path} is no HDF5 file, so it holds no weights of VGG-19 from Keras; {_HOW_TO_GET}")
    try:
        with h5py.File(path, "r") as file:
            stored = _stored(file, h5py.Group)
            _check_shapes(stored, path)
            return {
                f"{name}/{kind}": np.asarray(array, np.float32)
                for name in needed
                for kind, array in stored[name].items()
            }
    except (OSError, RuntimeError) as error:  # whichever of HDF5's calls met the damage
        raise UsageError(f"{path} is cut short or damaged ({error}); delete it. {_HOW_TO_GET}") from error


def _stored(file: Any, group_type: type[Any]) -> dict[str, dict[str, Any]]:
    """Return the arrays of every convolution of VGG-19, still in the file; none where it has no such layer.

    A layer is a group that carries Keras's name for it: as its own name in what `save` and all older versions write,
    deeper down where the file holds the model, too; as an attribute in what Keras 3's `save_weights` writes.
    """
    groups: dict[str, Any] = {}

    def visit(path: str, item: Any) -> None:
        if isinstance(item, group_type):
            groups.setdefault(str(item.attrs.get("name", path.rpartition("/")[2])), item)

    file.visititems(visit)
    return {name: _arrays(groups[name]) if name in groups else {} for name in _channels()}


def _arrays(group: Any) -> dict[str, Any]:
    """Return the kernel and the bias in a layer's group, told by their axes: what they are called changed often."""
    found: dict[str, Any] = {}

    def visit(_: str, item: Any) -> None:
        kind = {4: "kernel", 1: "bias"}.get(getattr(item, "ndim", 0))
        if kind:
            found[kind] = item

    group.visititems(visit)
    return found


def _check_shapes(stored: dict[str, dict[str, Any]], path: Path) -> None:
    channels = 3
    for name, made in _channels().items():
        wanted = {"kernel": (3, 3, channels, made), "bias": (made,)}
        shapes = {kind: tuple(array.shape) for kind, array in stored[name].items()}
        if shapes != wanted:
            raise UsageError(
                f"{path} does not hold VGG-19 as Keras writes it: wanted {_told(wanted)} in its layer {name}, got "
                f"{_told(shapes)}; {_HOW_TO_GET}"
            )
        channels = made


def _told(shapes: Mapping[str, tuple[int, ...]]) -> str:
    told = (f"a {kind} of {'×'.join(map(str, shape))}" for kind, shape in sorted(shapes.items(), reverse=True))
    return " and ".join(told) or "no such layer"


def _channels() -> dict[str, int]:
    """Return what every convolution makes, in their order."""
    return {
        f"block{block}_conv{i}": made for block, (count, made) in enumerate(_BLOCKS, 1) for i in range(1, count + 1)
    }


def _convolutions(layer: str) -> list[str]:
    """Return the names of the convolutions up to a layer, as Keras calls them."""
    if layer not in LAYERS:
        raise UnknownNameError("layer of VGG-19", layer, LAYERS)
    return list(_channels())[: LAYERS.index(layer) + 1]


# The loss


def least_patch(layer: str = CONTENT_LAYER) -> int:
    """Return the smallest side of a picture, in pixels, of which a layer has anything to say: 16 behind four pools.

    Raises UnknownNameError for a layer that VGG-19 does not have.
    """
    pools = sum(_starts_block(name) for name in _convolutions(layer))
    return int(2**pools)


def require_patch(patch: int, *, layer: str = CONTENT_LAYER) -> None:
    """Raise UsageError where nothing of a patch of that side, in pixels, is left at a layer."""
    if patch < least_patch(layer):
        raise UsageError(
            f"The layer {layer} of VGG-19 needs patches of at least {least_patch(layer)} pixels, got {patch}; "
            "choose larger patches or a shallower layer."
        )


def features(
    weights: Weights, rgb: Float[Array, "n h w 3"], *, layer: str = CONTENT_LAYER
) -> Float[Array, "n _ _ features"]:
    """Return what a layer makes of RGB in [0, 1], which is not clipped.

    Pictures become BGR of 0 … 255 less ImageNet's means first, as in `keras.applications.vgg19.preprocess_input`. An
    odd row or column is left out by the next pool, as in Keras. Raises UsageError for pictures that are too small.
    """
    require_patch(min(rgb.shape[1:3]), layer=layer)
    x = 255 * rgb[..., ::-1] - jnp.asarray(_MEAN_BGR, rgb.dtype)
    for name in _convolutions(layer):
        if _starts_block(name):
            x = _halve(x)
        kernel, bias = (weights[f"{name}/{kind}"].astype(x.dtype) for kind in ("kernel", "bias"))
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = nn.relu(x + bias)
    return x


def perceptual(
    predicted: Float[Array, "n h w 3"],
    target: Float[Array, "n h w 3"],
    *,
    weights: Weights,
    layer: str = CONTENT_LAYER,
) -> Float[Array, ""]:
    """Mean squared difference of features, at the scale at which Keras's weights make them.

    That is DPED's content loss, so the weights of its recipe hold. SRGAN divides features by 12.75: a weight on its
    loss is 1/162.6 of that here. Raises UsageError for pictures too small for the layer.
    Source: Johnson et al. 2016, arXiv 1603.08155, equation 2; Ignatov et al. 2017, arXiv 1704.02470 §3.1.3.
    """
    difference = features(weights, predicted, layer=layer) - features(weights, target, layer=layer)
    return jnp.mean(difference**2)


def _starts_block(name: str) -> bool:
    return name.endswith("conv1") and name != "block1_conv1"


def _halve(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    _, h, w, _ = x.shape
    return kernels.pool(x[:, : h // 2 * 2, : w // 2 * 2], function="max")
