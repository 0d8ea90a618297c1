"""Size and operations of the .tflite file of each published design.

Converting takes TensorFlow and its time, so the answers are kept as package data and read from there; a test holds
every one of them against a fresh conversion. To make them anew, after a design or a lowering rule has changed:

    python -m search_spaces.design_files > search_spaces/design_files.json
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.designs import DESIGNS, Design
from search_spaces.graph import FULL_HD, Graph
from search_spaces.networks import build_graph
from search_spaces.tflite_file import op_counts

if TYPE_CHECKING:
    import numpy as np

STORED = Path(__file__).with_suffix(".json")
COMMAND = "python -m search_spaces.design_files > search_spaces/design_files.json"


@dataclass(frozen=True)
class DesignFile:
    """What is known of a design's float32 .tflite file for a packed Full-HD mosaic."""

    tflite_bytes: int
    ops: dict[str, int]


@cache
def stored_files() -> dict[str, DesignFile]:
    """Return the kept facts by the design's name; a design added since is missing until they are made anew."""
    designs = json.loads(STORED.read_text("utf-8"))["designs"]
    return {name: DesignFile(**facts) for name, facts in designs.items()}


def stored_tensorflow() -> str:
    """Return the version of TensorFlow that made the kept facts; another one may pad its files differently."""
    return str(json.loads(STORED.read_text("utf-8"))["tensorflow"])


def convert(design: Design) -> bytes:
    """Return the design's .tflite file with made-up weights, which decide neither its size nor its operations."""
    from search_spaces import lower_tf

    graph = build_graph(design.spec, FULL_HD)
    return lower_tf.to_tflite(graph, made_up_weights(graph))


def made_up_weights(graph: Graph) -> "dict[str, np.ndarray[Any, Any]]":
    """Return weights of which no two arrays are alike: equal ones would share one buffer and shrink the file."""
    import numpy as np

    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.1, 1, shape).astype(np.float32) for name, shape in graph.parameter_shapes.items()}


def file_facts(content: bytes) -> DesignFile:
    """Return the size and the operations of a .tflite file."""
    return DesignFile(len(content), op_counts(content))


def tensorflow_version() -> str:
    """Return the version of the installed TensorFlow, whose distribution has another name on Linux PCs."""
    try:
        return version("tensorflow-cpu")
    except PackageNotFoundError:
        return version("tensorflow")


def to_json(designs: Iterable[Design]) -> str:
    """Convert every design and return the text of the package data."""
    facts = {design.name: asdict(file_facts(convert(design))) for design in designs}
    return json.dumps({"command": COMMAND, "tensorflow": tensorflow_version(), "designs": facts}, indent=1)


if __name__ == "__main__":
    sys.stdout.write(to_json(DESIGNS.values()) + "\n")
