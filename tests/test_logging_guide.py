"""The examples for MLflow and Weights & Biases run as they are printed, with the real arguments and results of ours."""

import inspect
import re
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

import nas
from nas import api
from nas.train.history import Validation

ROOT = Path(__file__).parents[1]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/logging.md").read_text("utf-8"), re.S)


def train(*arguments: Any, **options: Any) -> api.Trained:
    """Stand in for a training: take what the real one takes, and call back as it does."""
    inspect.signature(TRAIN).bind(*arguments, **options)
    options["on_step"](100, {"loss": 0.5, "l1": 0.5})
    options["on_validation"](Validation(100, 30.0, 0.9, {"loss": 0.5}, 0.01, 1.0, 0.1))
    return api.Trained(ROOT, "abc", 100, 30.0, 0.9, 100, 30.0)


def search(*arguments: Any, **options: Any) -> api.Study:
    inspect.signature(SEARCH).bind(*arguments, **options)
    options["on_progress"](api.SearchProgress(1.0, 0.1, 0, (0,), None))
    options["on_progress"](api.SearchProgress(2.0, 0.2, 1, (1,), 33.0))
    return nas.load_study(ROOT / "results/reference/demo-5m")


TRAIN, SEARCH = api.train, api.search


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs_and_logs(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = {"mlflow": MagicMock(), "wandb": MagicMock()}
    for name, logger in loggers.items():
        monkeypatch.setitem(sys.modules, name, logger)
    monkeypatch.setattr(api, "train", train)
    monkeypatch.setattr(api, "search", search)
    exec(compile(EXAMPLES[number], "logging.md", "exec"), {"__name__": "__main__"})
    mlflow, wandb = loggers["mlflow"], loggers["wandb"].init.return_value.__enter__.return_value
    logged = [*mlflow.log_metrics.call_args_list, *wandb.log.call_args_list]
    values = {name: value for call in logged for name, value in call.args[0].items()}
    wanted = {"loss": 0.5, "psnr_db": 30.0} if "nas.train" in EXAMPLES[number] else {"best_score": 33.0, "trained": 1}
    assert wanted.items() <= values.items()


def test_there_is_an_example_of_each() -> None:
    used = [(logger, kind) for logger in ("mlflow", "wandb") for kind in ("nas.train", "nas.search")]
    for logger, kind in used:
        assert any(f"import {logger}\n" in each and f"{kind}(" in each for each in EXAMPLES)
