"""A search whose agents, training processes and driver are killed and stopped has what an undisturbed one has."""

import sys
from pathlib import Path

import pytest

from benchmarks.cluster_chaos import BLOWS, Chaos, new_study, require_nothing_lost, undisturbed

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals, and /proc")

CANDIDATES = 8


def test_blows_to_agents_trainings_and_the_driver_lose_nothing_and_repeat_nothing(
    prepared_tiny: Path, tmp_path: Path
) -> None:
    new_study(tmp_path / "study").close()
    chaos = Chaos(
        tmp_path, prepared_tiny, CANDIDATES, agents=2, seconds=0.3, every_trainings=2, most_blows=len(BLOWS),
        blows=("training", "agent", "driver", "stop", "leave"), limit_s=150,
    )  # fmt: skip
    chaos.run()
    calm = undisturbed(tmp_path / "calm", CANDIDATES)
    summary = require_nothing_lost(tmp_path / "study", calm, CANDIDATES)
    assert set(chaos.dealt) == set(BLOWS)
    assert summary["sessions"] == 2
