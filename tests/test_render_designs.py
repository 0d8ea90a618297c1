"""Our own networks are known to `render`: every operation has a rule, and tiles of them make what the whole makes."""

import random
from pathlib import Path

import numpy as np
import pytest
from test_tiling import ROUNDING, mosaic_of, rendered, renderer

from latency_models.features import kernels
from nas.receptive_field import RULES, read_field
from search_spaces.designs import DESIGNS, Design
from search_spaces.graph import Graph
from search_spaces.networks import build_graph
from search_spaces.ops import GlobalMean, InstanceNorm
from search_spaces.space import load_space

SMALL = (1, 64, 96, 4)
NARROW = 32  # packed pixels of the side that is not cut


def weights(graph: Graph) -> dict[str, np.ndarray]:
    """Weights with which maps keep their size from layer to layer."""
    rng = np.random.default_rng(0)
    shapes = graph.parameter_shapes.items()
    return {name: rng.normal(0, (1.5 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32) for name, shape in shapes}


def converted(design: Design, rows: int, columns: int) -> bytes:
    from search_spaces import lower_tf

    graph = build_graph(design.spec, (1, rows, columns, 4))
    return lower_tf.to_tflite(graph, weights(graph))


def test_every_operation_that_the_space_becomes_has_a_rule() -> None:
    space, rng = load_space("mai21"), random.Random(0)
    specs = [space.sample(lambda _, values, __: rng.choice(values)) for _ in range(100)]
    specs += [design.spec for design in DESIGNS.values()]
    made = {kernel.tflite_op for spec in specs for kernel in kernels(build_graph(spec, SMALL))}
    assert made <= RULES.keys()
    assert len(made) > 10


@pytest.mark.parametrize("design", DESIGNS.values(), ids=lambda design: design.name)
def test_tiles_of_a_design_make_what_the_whole_makes_unless_it_sees_the_whole_map(
    design: Design, tmp_path: Path
) -> None:
    field = read_field(converted(design, *SMALL[1:3]))
    assert field.reach is not None
    graph = build_graph(design.spec, SMALL)
    assert bool(field.global_ops) == any(isinstance(node.op, GlobalMean | InstanceNorm) for node in graph.nodes)
    if field.global_ops:
        return
    tile = -(-(3 * field.reach + 64) // field.period) * field.period
    tiling = renderer(tmp_path / "tile.tflite", converted(design, tile, NARROW))
    mosaic = mosaic_of(tile + 3 * field.period - 1, NARROW)
    layout, made = rendered(tiling, mosaic)
    assert (layout.tiles, layout.note) == (2, None)
    whole = renderer(tmp_path / "whole.tflite", converted(design, layout.rows.size, NARROW))
    np.testing.assert_allclose(made, rendered(whole, mosaic)[1], atol=ROUNDING * max(1.0, np.ptp(made)))
