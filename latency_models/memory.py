"""Stand-in until the memory model is merged: how much room do a network's maps need at once?"""

from math import prod

from search_spaces.graph import Graph


def peak_activation_bytes(graph: Graph) -> int:
    """Return the most bytes of float32 maps that are alive at once, each from its making to its last reading."""
    names = list(graph.shapes)
    last = {name: max((names.index(n.name) for n in graph.readers(name)), default=len(names)) for name in names}
    alive = ([other for other in names[: i + 1] if last[other] >= i] for i in range(len(names)))
    return 4 * max(sum(prod(graph.shapes[name]) for name in maps) for maps in alive)
