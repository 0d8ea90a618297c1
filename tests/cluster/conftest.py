"""A hub that listens on loopback, with the tiny pairs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hub_machines import Listens

from nas import provenance
from nas.cluster.address import Address
from nas.cluster.hub import Hub
from nas.cluster.messages import Terms
from nas.data.content import content_of, files_of


@pytest.fixture
def terms(prepared_tiny: Path) -> Terms:
    return Terms(
        "s", provenance.code_digest(), provenance.training_versions(), "cpu", 10**6, content_of(prepared_tiny),
        str(prepared_tiny), files_of(prepared_tiny), sends_pairs=True,
    )  # fmt: skip


@pytest.fixture
def listens(prepared_tiny: Path, terms: Terms) -> Iterator[Listens]:
    made: list[Hub] = []

    def listen(**changes: Any) -> Hub:
        keys, port = changes.pop("keys", None), changes.pop("port", 0)
        changed = replace(terms, **changes)
        said: list[str] = []
        hub = Hub(Address("127.0.0.1", port), changed, pairs=prepared_tiny, keys=keys, on_message=said.append)
        hub.said = said  # type: ignore[attr-defined]
        hub.start()
        made.append(hub)
        return hub

    yield listen
    for hub in made:
        hub.close(over=True)
