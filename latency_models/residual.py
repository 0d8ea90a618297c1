"""Learn what a roofline cannot know of a kernel, such as the implementation the device chose, from enough data.

Boosted trees on log(measured / roofline) of single kernels. Trees do not extrapolate, so the correction fades to
nothing outside the box of what was measured: it counts in full inside, by 1 / distance beyond, where distance is how
many times larger or smaller a size is than the nearest side of the box. Fitted by scikit-learn, kept as plain
numbers, evaluated here with NumPy alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple
from zlib import crc32

from latency_models.kernels import COMPUTING_CLASSES, Kernel

# Below this many single kernels trees learn noise.
FEWEST_KERNELS = 250
TREES, DEPTH, LEARNING_RATE = 300, 4, 0.05
_BOOSTING: dict[str, Any] = {
    "n_estimators": TREES,
    "max_depth": DEPTH,
    "learning_rate": LEARNING_RATE,
    "min_samples_leaf": 4,
    "subsample": 0.7,
    "random_state": 0,
}
# A correction beyond this factor has never been seen to be right for an unseen network.
LARGEST_LOG = log(3.0)
FEATURES = ("log_macs", "log_input", "log_output", "log_weights", "log_pixels", "log_cin", "log_cout",
            "log_cout_per_cin", "kernel", "stride", "log_groups", "dilation", "cin_mod_4", "cout_mod_4", "cout_mod_16",
            "log_work_per_byte", "operation")  # fmt: skip
# Sizes by which the box is drawn; the other features are small whole numbers that the space holds itself.
_BOXED = slice(0, 7)


class Tree(NamedTuple):
    """A regression tree as parallel lists; a leaf has feature −1."""

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]


@dataclass(frozen=True)
class Residual:
    """The learned correction."""

    start: float
    trees: tuple[Tree, ...]
    low: tuple[float, ...]  # the box of what was measured, by feature
    high: tuple[float, ...]


def features(kernel: Kernel) -> list[float]:
    """Return what the trees see of a kernel, in the order of FEATURES."""
    macs, cin, cout = kernel.macs, kernel.cin, kernel.cout
    moved = kernel.input_elements + kernel.output_elements + kernel.weight_elements
    # What reads constants alone reads no map.
    read, made = max(kernel.input_elements, 1), max(kernel.output_elements, 1)
    return [
        log(macs + 1), log(read), log(made), log(kernel.weight_elements + 1),
        log(kernel.height * kernel.width), log(cin), log(cout), log(cout / cin), kernel.kernel, kernel.stride,
        log(kernel.groups), kernel.dilation, cin % 4, cout % 4, cout % 16, log((macs + 1) / moved),
        _number(kernel),
    ]  # fmt: skip


def _number(kernel: Kernel) -> float:
    """Return a number by which trees tell operations apart: that of the class, or of the TFLite operation."""
    if kernel.cls in COMPUTING_CLASSES:
        return COMPUTING_CLASSES.index(kernel.cls)
    return 100 + crc32(kernel.tflite_op.encode()) % 1000


def fit_residual(kernels: Sequence[Kernel], log_ratios: Sequence[float], weights: Sequence[float]) -> Residual:
    """Learn log(measured / roofline) of single kernels; a kernel counts by its weight. Deterministic."""
    import numpy as np
    from sklearn.ensemble import GradientBoostingRegressor

    x = np.array([features(kernel) for kernel in kernels], np.float32)
    y = np.clip(log_ratios, -LARGEST_LOG, LARGEST_LOG)
    model = GradientBoostingRegressor(**_BOOSTING).fit(x, y, sample_weight=weights)
    (start,) = model.init_.constant_.ravel()
    trees = tuple(_tree(estimator.tree_) for estimator in model.estimators_.ravel())
    return Residual(float(start), trees, tuple(map(float, x.min(axis=0))), tuple(map(float, x.max(axis=0))))


def _tree(tree: Any) -> Tree:
    feature = [int(f) if left >= 0 else -1 for f, left in zip(tree.feature, tree.children_left, strict=True)]
    values = [float(f"{LEARNING_RATE * v:.6g}") for v in tree.value.ravel()]
    left, right = (tuple(map(int, side)) for side in (tree.children_left, tree.children_right))
    return Tree(tuple(feature), tuple(map(float, tree.threshold)), left, right, tuple(values))


class Corrector:
    """A residual ready to be asked, all trees at once."""

    def __init__(self, residual: Residual) -> None:
        import numpy as np

        size = max(len(tree.feature) for tree in residual.trees)

        def table(field: str, fill: float, dtype: Any) -> Any:
            rows = [[*getattr(tree, field), *[fill] * (size - len(tree.feature))] for tree in residual.trees]
            return np.array(rows, dtype)

        self._residual = residual
        self._feature = table("feature", -1, np.int64)
        self._threshold = table("threshold", 0.0, np.float64)
        self._left, self._right = table("left", 0, np.int64), table("right", 0, np.int64)
        self._value = table("value", 0.0, np.float64)
        self._low, self._high = np.array(residual.low), np.array(residual.high)

    def factors(self, kernels: Sequence[Kernel]) -> list[float]:
        """Return by what each kernel's roofline is to be multiplied."""
        import numpy as np

        x = np.array([features(kernel) for kernel in kernels], np.float32)
        logs = self._residual.start + self._sum_of_leaves(x)
        factors: list[float] = np.exp(np.clip(logs * self._trust(x), -LARGEST_LOG, LARGEST_LOG)).tolist()
        return factors

    def _sum_of_leaves(self, x: Any) -> Any:
        """Walk all trees for all kernels at once: [kernels] from [kernels, features]."""
        import numpy as np

        trees = np.arange(len(self._feature))[None, :]
        node = np.zeros((len(x), len(self._feature)), np.int64)
        rows = np.arange(len(x))[:, None]
        for _ in range(DEPTH):
            feature = self._feature[trees, node]
            goes_left = x[rows, feature] <= self._threshold[trees, node]
            below = np.where(goes_left, self._left[trees, node], self._right[trees, node])
            node = np.where(feature < 0, node, below)
        return self._value[trees, node].sum(axis=1)

    def _trust(self, x: Any) -> Any:
        """Return 1 inside the box of what was measured, falling as exp(−log distance) outside."""
        import numpy as np

        beyond = np.maximum(np.maximum(self._low - x, x - self._high), 0)[:, _BOXED]
        return np.exp(-beyond.max(axis=1))
