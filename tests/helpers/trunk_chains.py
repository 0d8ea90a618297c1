"""Networks whose receptive field was counted by hand."""

from fractions import Fraction

from hypothesis import strategies as st
from isp_builder import LAYERS

FINEST, COARSEST = Fraction(1, 2), Fraction(4)
HALVING = ("conv 3 stride 2", "conv 4 stride 2", "conv 2 stride 2 valid", "average pool", "max pool", "space to depth")
DOUBLING = ("transposed 2", "transposed 3", "transposed 4", "bilinear", "bilinear, half pixels", "nearest")


def fitting(layers: list[str]) -> list[str]:
    """Leave out what would make maps finer or coarser than is looked at."""
    scale, chain = Fraction(1), []
    for layer in layers:
        after = scale * 2 if layer in HALVING else scale / 2 if layer in DOUBLING else scale
        if FINEST <= after <= COARSEST:
            scale, chain = after, [*chain, layer]
    return chain


CHAINS = st.lists(st.sampled_from([name for name in LAYERS if name != "tanh"]), max_size=5).map(fitting)
