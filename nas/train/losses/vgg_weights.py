"""Find and read the weights of VGG-19 from the file that Keras publishes, as far as a layer needs.

Its 80 MB are not shipped with this package: `find_weights` says where they are, `read_weights` reads them. They go into
a jitted step as an argument like the network's own parameters; as constants they would be compiled into every
executable.

Source of the network: Simonyan and Zisserman 2015, arXiv 1409.1556, table 1, column E.
"""

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from nas.train.recipe import VGG_LAYERS, Recipe
from search_spaces.errors import UnknownNameError, UsageError
from search_spaces.system.file_errors import acting_on
from search_spaces.system.named_files import expanded
from search_spaces.system.stored import require_file

# Convolutions and channels of each block; between blocks a pool halves the map.
_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
# The layer of SRGAN (Ledig et al. 2017, arXiv 1609.04802 §2.2.1, "VGG54"), of DPED and of MediaTek's own network
# for the challenge; the report names no team's layer.
CONTENT_LAYER = "relu5_4"

# The names under which Keras keeps its files, without and with the layers that classify.
_FILES = (
    "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
)
_HOW_TO_GET = (
    '`python -c "import keras; keras.applications.VGG19(include_top=False)"` fetches them (80 MB) to where they are '
    "found, or name such a file with --vgg-weights FILE."
)


def needed(recipe: Recipe, given: Path | None) -> dict[str, Float[np.ndarray, "..."]]:
    """Return what a recipe's losses need of VGG-19, from the given file or Keras's own; nothing where they need none.

    Raises UsageError where there is no file or it is not VGG-19's, and for a file that nothing would read.
    """
    if given is not None and not recipe.uses("vgg"):
        raise UsageError(
            f"--vgg-weights {given} is for the loss vgg, which takes no part; add it with --loss or leave out."
        )
    return _read_once(find_weights(given), recipe.vgg_layer) if recipe.uses("vgg") else {}


def used(recipe: Recipe, given: Path | None) -> str | None:
    """Return which weights take part in a recipe, as the file's digest; None where none do."""
    return weights_digest(find_weights(given)) if recipe.uses("vgg") else None


@cache  # every candidate of a process reads the same file
def _read_once(path: Path, layer: str) -> dict[str, Float[np.ndarray, "..."]]:
    return read_weights(path, layer=layer)


def find_weights(given: Path | None) -> Path:
    """Return the file of weights: the given one, else the one in Keras's own cache.

    Raises UsageError, which says how to get it, where there is none.
    """
    folder = expanded(os.environ.get("KERAS_HOME", "~/.keras")) / "models"  # a user without a home has none there
    places = [given] if given else [folder / name for name in _FILES]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise UsageError(f"The vgg loss needs the weights of VGG-19, and there are none at {places[0]}; {_HOW_TO_GET}")
    with acting_on(path, "read"):
        require_file(path)  # HDF5 says of what cannot be read that it is damaged
    return path


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

    names = convolutions(layer)
    if not h5py.is_hdf5(path):
        raise UsageError(f"{path} is no HDF5 file, so it holds no weights of VGG-19 from Keras; {_HOW_TO_GET}")
    try:
        with h5py.File(path, "r") as file:
            stored = _stored(file, h5py.Group)
            _check_shapes(stored, path)
            return {
                f"{name}/{kind}": np.asarray(array, np.float32)
                for name in names
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
    arrays: dict[str, Any] = {}

    def visit(_: str, item: Any) -> None:
        kind = {4: "kernel", 1: "bias"}.get(getattr(item, "ndim", 0))
        if kind:
            arrays[kind] = item

    group.visititems(visit)
    return arrays


def weight_shapes(layer: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what `read_weights` returns."""
    wanted = _shapes()
    return {f"{name}/{kind}": shape for name in convolutions(layer) for kind, shape in wanted[name].items()}


def _shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    made = _channels()
    before = [3, *list(made.values())[:-1]]
    return {
        name: {"kernel": (3, 3, read, channels), "bias": (channels,)}
        for read, (name, channels) in zip(before, made.items(), strict=True)
    }


def _check_shapes(stored: dict[str, dict[str, Any]], path: Path) -> None:
    for name, wanted in _shapes().items():
        shapes = {kind: tuple(array.shape) for kind, array in stored[name].items()}
        if shapes != wanted:
            raise UsageError(
                f"{path} does not hold VGG-19 as Keras writes it: its layer {name} is {_layer_text(shapes)} instead of "
                f"{_layer_text(wanted)}; {_HOW_TO_GET}"
            )


def _layer_text(shapes: Mapping[str, tuple[int, ...]]) -> str:
    parts = (f"a {kind} of {'×'.join(map(str, shape))}" for kind, shape in sorted(shapes.items(), reverse=True))
    return " and ".join(parts) or "missing"


def _channels() -> dict[str, int]:
    """Return what every convolution makes, in their order."""
    return {
        f"block{block}_conv{i}": made for block, (count, made) in enumerate(_BLOCKS, 1) for i in range(1, count + 1)
    }


def convolutions(layer: str) -> list[str]:
    """Return the names of the convolutions up to a layer, as Keras calls them; UnknownNameError for no layer of it."""
    if layer not in VGG_LAYERS:
        raise UnknownNameError("layer of VGG-19", layer, VGG_LAYERS)
    return list(_channels())[: VGG_LAYERS.index(layer) + 1]
