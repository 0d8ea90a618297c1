"""Families by structure: sizes of one network are one, different networks are not, whatever they are called."""

from latency_models.families import families
from latency_models.kernels import Network, network
from search_spaces.designs import DESIGNS
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec


def seen(spec: ArchSpec, h: int = 272, w: int = 480) -> Network:
    return network(build_graph(spec, (1, h, w, 4)))


def test_sizes_of_one_network_are_one_family_under_any_names() -> None:
    spec = DESIGNS["csanet"].spec
    networks = {"a": seen(spec), "B-large": seen(spec, 544, 960), "x9": seen(spec.with_genes(width=32))}
    assert set(families(networks, {}).values()) == {"B-large"}


def test_different_networks_of_one_name_are_different_families() -> None:
    networks = {"net_1": seen(DESIGNS["csanet"].spec), "net_2": seen(DESIGNS["smallnet"].spec)}
    assert len(set(families(networks, {}).values())) == 2


def test_a_network_joins_the_known_family_that_it_is_like() -> None:
    spec = DESIGNS["csanet"].spec
    by_name = families({"csanet": seen(spec), "theirs": seen(spec, 136, 240)}, {"csanet": "ours"})
    assert by_name == {"csanet": "ours", "theirs": "ours"}
