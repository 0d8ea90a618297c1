"""What every test stands on: folders of its own, JAX set up as the product sets it up, shapes checked at run time."""

import gc
import io
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import array_types
import jaxtyping
import numpy as np
import pytest
from PIL import Image
from tiny_pairs import write_tiny_pairs

# Array shapes in these modules' signatures are checked whenever a test calls them; the hook must come before
# their first import.
SHAPE_CHECKED = (
    "nas.train.losses.pixel",
    "nas.train.metrics",
    "nas.train.muon",
    "nas.render.image_file",
    "nas.data.camera_raw",
    "nas.data.make.development",
    "nas.data.make.dense_alignment",
    "nas.data.make.photograph",
    "nas.render.pack_input",
    "nas.train.losses.adversarial",
    "nas.render.tiling",
    "nas.train.step",
    "nas.train.loop",
    "nas.train.losses.perceptual",
    "search_spaces.jax_ops",
    "search_spaces.lower_flax",
)
jaxtyping.install_import_hook(SHAPE_CHECKED, f"{array_types.__name__}.check_types")

from nas import backend, launch, plots  # noqa: E402 (after the hook)
from nas.data.pairs import DataConfig, PairSet, prepare  # noqa: E402
from search_spaces.system.atomic_write import write_durably  # noqa: E402

# Collecting tests and tracing programs make many objects and few cycles, so cycles are searched for seldom.
gc.set_threshold(50_000, 20, 100)

# Neither the user's cache nor the user's own spaces and devices may decide a test. The workers of pytest-xdist and the
# commands that tests start inherit the folders, and with them the compile cache.
_MAKES_FOLDERS = "PYTEST_XDIST_WORKER" not in os.environ
if _MAKES_FOLDERS:
    _SESSION = Path(tempfile.mkdtemp(prefix="isp-nas-tests-"))
    os.environ["ISP_NAS_CACHE"] = str(_SESSION / "cache")
    os.environ["ISP_NAS_HOME"] = str(_SESSION / "home")
    # What tests compute is small, and most of their time is LLVM's: it takes a third as long at its lowest level, and
    # half of that again where it is given a program as a whole and not in parts for cores that are busy. Flags of the
    # user's own win, so XLA_FLAGS=--xla_backend_optimization_level=1 tests with the code that users run.
    if backend.expected() == "cpu":
        os.environ.setdefault(
            "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
        )
    os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # an operation's place in Python is read by nobody
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", "-1")  # or every entry has JAX look through all of them
    # Several processes of one test session may share a graphics card.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    backend.prepare()

launch.loaded()  # `python -m pytest` is no start of the command: Ctrl-C is for pytest and for tests
# A shell lets what it starts in the background ignore Ctrl-C, and so would every command that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave out modules and tests where cycles of objects are searched for."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    if _MAKES_FOLDERS:
        shutil.rmtree(_SESSION, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No power fails during a test, and what was written is there for every process before the disk has it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


DRAW_PATCHES = plots.save_patches


def _save_grey(path: Path, pairs: PairSet, index: np.ndarray, outputs: np.ndarray) -> None:
    """Stand in for `nas.plots.save_patches`: the file of a picture of one pixel."""
    assert outputs.shape == pairs.rgb[index].shape
    content = io.BytesIO()
    Image.new("L", (1, 1), 128).save(content, "png")
    write_durably(path, content.getvalue())


@pytest.fixture(scope="session", autouse=True)
def _no_drawing_of_patches() -> Iterator[None]:
    """Each stretch of a training shows patches: a second of matplotlib's, where the stretch takes a tenth of one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "save_patches", _save_grey)
        yield


@pytest.fixture
def drawn_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw patches as users see them."""
    monkeypatch.setattr(plots, "save_patches", DRAW_PATCHES)


@pytest.fixture(scope="session")
def tiny_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the challenge's layout whose RAW and RGB belong together, small enough to train on in seconds."""
    root = tmp_path_factory.mktemp("tiny-pairs")
    write_tiny_pairs(root)
    return root


@pytest.fixture(scope="session")
def prepared_tiny(tiny_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pairs, decoded as a search reads them."""
    return prepare(DataConfig(str(tiny_pairs)), tmp_path_factory.mktemp("tiny-prepared"))


@pytest.fixture
def one_core_of_opencv() -> Iterator[None]:
    """Tests share the cores, and OpenCV takes all of them unless it is told."""
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)
