"""Judge a checkpoint on the test pairs: done once, when a result is reported."""

from pathlib import Path

from nas import backend
from nas.data.pairs import DataConfig, find_pairs, load_split
from search_spaces.networks import build_graph
from search_spaces.spec import ArchSpec


def judge_on_test(spec: ArchSpec, checkpoint: Path, data: DataConfig) -> dict[str, float | None]:
    """Return `test_psnr_db` and `test_ssim` of a trained network; None where the data has no test pairs."""
    backend.prepare()
    from nas.checkpoint import load
    from nas.evaluate import judge

    if not find_pairs(data)["test"]:
        return {"test_psnr_db": None, "test_ssim": None}
    quality = judge(build_graph(spec), load(checkpoint).weights, load_split(data, "test"))
    return {"test_psnr_db": quality.psnr_db, "test_ssim": quality.ssim}
