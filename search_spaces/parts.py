"""Topologies, blocks and attentions by name: where each is built, and which genes it reads besides those of all.

A new one is an entry here and the function that it names: the genes' values and conditions, the checks of spaces and
the builders follow. Functions are named and not imported, for they read the genes that are declared from these tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pkgutil import resolve_name
from typing import Any


@dataclass(frozen=True)
class Part:
    """One of a kind."""

    builder: str  # "module:function"
    genes: tuple[str, ...] = ()  # those that have an effect on it and not on every other of its kind

    @cached_property
    def build(self) -> Any:
        """The function that adds it to a graph."""
        return resolve_name(self.builder)


# What a search learns depends on the order: new ones come last.
# (builder, spec) → the map at R/2 of which the head makes RGB
TOPOLOGIES = {
    "flat": Part("search_spaces.networks:flat", ("scale",)),
    "unet": Part("search_spaces.networks:unet", ("levels",)),
    "two_path": Part("search_spaces.networks:two_path", ("levels",)),
}
# (builder, spec, name, input, channels of the body) → output
BLOCKS = {
    "plain": Part("search_spaces.blocks:plain"),
    "residual": Part("search_spaces.blocks:residual", ("block_layers", "block_end")),
    "expanded": Part("search_spaces.blocks:expanded"),
    "dense": Part("search_spaces.blocks:dense", ("growth",)),
    "residual_dense": Part("search_spaces.blocks:residual_dense", ("block_layers", "growth")),
    "adaptive_residual": Part("search_spaces.blocks:residual", ("block_layers", "block_end")),
}
# (builder, spec, name, input) → output, of any number of channels
ATTENTIONS = {
    "channel": Part("search_spaces.blocks:channel_attention", ("attention_reduction",)),
    "spatial": Part("search_spaces.blocks:spatial_attention"),
    "dual": Part("search_spaces.blocks:dual_attention", ("attention_reduction",)),
}


def reading(parts: Mapping[str, Part], gene: str) -> tuple[str, ...]:
    """Return the names of those that read a gene."""
    return tuple(name for name, part in parts.items() if gene in part.genes)
