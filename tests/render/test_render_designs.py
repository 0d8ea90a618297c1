"""Our own networks are known to `render`: operations have rules, tiles make what the whole makes, cards are read."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from flow import in_process
from lowering_cases import LEVELLED, random_weights, tflite
from PIL import Image
from tiled_rendering import ROUNDING, mosaic_of, rendered, renderer

from latency_models.kernels import kernels
from nas.tflite.receptive_field import RULES, read_field
from search_spaces.designs import DESIGNS, Design
from search_spaces.networks import build_graph
from search_spaces.ops import GlobalMean, InstanceNorm
from search_spaces.space import load_space
from search_spaces.tflite_resize import resized

SMALL = (1, 64, 96, 4)
NARROW = 32  # packed pixels of the side that is not cut


def converted(design: Design, rows: int, columns: int) -> bytes:
    """Return a design's file at any size, from the one that other tests convert, too."""
    graph = build_graph(design.spec, LEVELLED)
    return resized(tflite(graph, random_weights(graph)), (1, rows, columns, 4))


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


def psnr_db(made: Path, target: Path) -> float:
    with Image.open(made) as ours, Image.open(target) as theirs:
        difference = np.asarray(ours, np.float64) / 255 - np.asarray(theirs, np.float64) / 255
    return float(-10 * np.log10(np.mean(difference**2)))


def test_what_export_writes_is_rendered_as_well_as_its_card_says(
    tiny_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of packed RAW in another order, or of other levels, the pictures would be several dB worse."""
    monkeypatch.chdir(tmp_path)
    training = ("--data", tiny_pairs, "--steps", 150, "--batch", 2, "--patch", 32, "--packing", "rggb", "--out", "run")
    for arguments in (("train", "smallnet", *training), ("export", "run", "--out", "export")):
        done = in_process(*arguments)
        assert done.returncode == 0, done.stderr
    done = in_process("render", "export/model.tflite", tiny_pairs / "test", "--out", "out")
    assert done.returncode == 0, done.stderr
    pairs = [(path, tiny_pairs / "test" / "fujifilm" / path.name) for path in Path("out").rglob("*.png")]
    assert len(pairs) == 2
    card_db = json.loads(Path("export/card.json").read_text())["test_psnr_db"]
    # Pictures this small are mostly border, and a reflected one is better than the black one of the card's pairs.
    assert -0.1 < np.mean([psnr_db(*pair) for pair in pairs]) - card_db < 1.5
    assert card_db > 15
