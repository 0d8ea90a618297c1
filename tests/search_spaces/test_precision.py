"""Which networks can be converted to which numbers is known before anything is converted."""

from dataclasses import dataclass

import pytest

from search_spaces.activations import ACTIVATIONS
from search_spaces.designs import DESIGNS
from search_spaces.errors import UnknownNameError
from search_spaces.graph import INPUT, GraphBuilder
from search_spaces.networks import build_graph
from search_spaces.ops import OPS, Activation, Conv, Op, Shape, single
from search_spaces.precision import CONVERTED, PRECISIONS, find_precision, unconvertible


@dataclass(frozen=True)
class Median(Op):
    """An operation that somebody has just added."""

    kind = "median"

    def output_shape(self, *inputs: Shape) -> Shape:
        return single(self, inputs)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_design_has_a_form_in_every_precision(precision: str) -> None:
    # That the converter agrees is held by tests/search_spaces/test_lower_tf_precisions.py.
    floats = {*OPS, *ACTIVATIONS} - {Activation.kind}
    assert CONVERTED[precision] >= floats or PRECISIONS[precision].is_calibrated
    assert [name for name, d in DESIGNS.items() if unconvertible(build_graph(d.spec), precision)] == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_operation_without_a_known_form_is_named_with_its_first_node(precision: str) -> None:
    g = GraphBuilder((1, 4, 4, 4))
    g.add("second", Median(), g.add("first", Median(), g.add("conv", Conv(3), INPUT)))
    (sentence,) = unconvertible(g.build(), precision)
    assert sentence == f'median (node "first") has no known form in {precision}'


def test_an_unknown_precision_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match='Did you mean "int8"'):
        find_precision("int88")
    with pytest.raises(UnknownNameError, match="fp32"):
        unconvertible(build_graph(DESIGNS["smallnet"].spec), "fp4")


def test_only_integers_are_calibrated() -> None:
    assert [name for name, precision in PRECISIONS.items() if precision.is_calibrated] == ["int8", "int16"]
