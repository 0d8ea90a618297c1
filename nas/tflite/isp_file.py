"""Run any .tflite file that turns packed RAW into RGB, after checking its interface.

    [n, h, w, 4] packed RAW → [n, 2h, 2w, 3] RGB, both float32, float16, uint8, int8 or int16

n, h and w are numbers or left open. Quantised values are read and written by the file's own scales and zero points, so
that outside of this module RAW and RGB are float32.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from latency_models.measure.litert_trial import require_runs
from nas.tflite.receptive_field import read_field
from nas.tflite.tensor_encoding import FLOATS, INTEGERS, TensorEncoding
from search_spaces.errors import IspNasError, UsageError
from search_spaces.system import stored
from search_spaces.system.native_stderr import quiet

Array = np.ndarray[Any, Any]
Side = int | None  # None: left open

_PACKED, _RGB = 4, 3


class IspFile:
    """A .tflite file ready to run; see the module for its contract."""

    def __init__(self, path: Path, *, is_ours: bool = True) -> None:
        """Load a file; raise UsageError where there is none, it is damaged or keeps another contract.

        One that is not ours is run once in a process of its own before, for LiteRT may not survive it.
        """
        self.path = path
        content = _read(path)
        try:
            self.field = read_field(content)
        except IspNasError as error:
            raise UsageError(f"LiteRT cannot run {path}: {error}") from None
        if not is_ours:
            require_runs(content, str(path))
        self._interpreter = _interpreter(path, content)
        self._input, self._output = _single(path, self._interpreter)
        self.batch, self.height, self.width = _open_sides(path, self._input, self._output)
        self.input, self.output = (_port(path, detail) for detail in (self._input, self._output))
        self._allocated: tuple[int, ...] | None = None

    @property
    def size(self) -> tuple[Side, Side]:
        """Rows and columns of the input; None where the file leaves them open."""
        return self.height, self.width

    def allocate(self, rows: int, columns: int) -> int:
        """Make ready for inputs of that size; return how many the file takes at once.

        Raises UsageError where a file that leaves its size open cannot run at this one.
        """
        shape = (self.batch or 1, rows, columns, _PACKED)
        if shape != self._allocated:
            try:
                with quiet(drop=True):
                    if shape != tuple(self._input["shape"]):
                        self._interpreter.resize_tensor_input(self._input["index"], shape)
                    self._interpreter.allocate_tensors()
            except (RuntimeError, ValueError) as error:
                raise UsageError(
                    f"{self.path} does not run on {rows}×{columns} packed pixels: {_first_line(error)}; give a "
                    "file of a fixed size."
                ) from None
            self._input = self._interpreter.get_input_details()[0]
            self._allocated = shape
        return shape[0]

    def run(self, x: Array, use: Callable[[Array], None]) -> None:
        """Run on float32 [n, rows, columns, 4] as allocated, and hand RGB [n, 2·rows, 2·columns, 3] to `use`.

        What `use` is handed may be the interpreter's own memory and must not be kept.
        """
        self.run_stored(self.input.encode(x), lambda y: use(self.output.decode(y)))

    def run_stored(self, x: Array, use: Callable[[Array], None]) -> None:
        """As `run`, on numbers as `input` encodes them, and handing on numbers that `output` decodes."""
        self._interpreter.set_tensor(self._input["index"], x)
        try:
            self.invoke()
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"LiteRT cannot run {self.path}: {_first_line(error)}; make or fetch it again.") from None
        n, rows, columns, _ = x.shape
        y = self._interpreter.tensor(self._output["index"])()
        wanted = (n, 2 * rows, 2 * columns, _RGB)
        if y.shape != wanted:
            raise UsageError(f"{self.path} makes {list(y.shape)} of {list(x.shape)}, not {list(wanted)}.")
        use(y)

    def invoke(self) -> None:
        """Run again on the last input and use nothing of it: the time that no way of rendering can go below."""
        self._interpreter.invoke()


def _read(path: Path) -> bytes:
    try:
        return stored.read_bytes(path)
    except OSError as error:
        raise UsageError(f'Cannot read "{path}": {error.strerror}; give a .tflite file.') from None


def _interpreter(path: Path, content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quiet(drop=True):
            return Interpreter(model_content=content, num_threads=os.cpu_count())
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"LiteRT cannot run {path}: {_first_line(error)}; make or fetch the file again.") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _single(path: Path, interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if (len(inputs), len(outputs)) != (1, 1):
        raise UsageError(
            f"{path} has {len(inputs)} inputs and {len(outputs)} outputs, not one each; give a file that "
            "turns packed RAW into RGB."
        )
    return inputs[0], outputs[0]


def _open_sides(path: Path, given: dict[str, Any], made: dict[str, Any]) -> tuple[Side, Side, Side]:
    """Return batch, rows and columns of the input; raise UsageError where the shapes are not those of an ISP."""
    taken, shape = _sides(given), _sides(made)
    fixed = len(taken) == 4 and taken[3] == _PACKED and len(shape) == 4 and shape[3] == _RGB
    if not fixed or not all(_agree(a, b, by) for a, b, by in zip(taken[:3], shape[:3], (1, 2, 2), strict=True)):
        raise UsageError(
            f"{path} turns {_shown(taken)} into {_shown(shape)}, not packed RAW [n, h, w, 4] into RGB [n, 2h, 2w, 3]; "
            "give an exported ISP."
        )
    batch, height, width, _ = taken
    return batch, height, width


def _sides(detail: dict[str, Any]) -> tuple[Side, ...]:
    signature = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    return tuple(int(side) if side >= 0 else None for side in signature)


def _agree(taken: Side, made: Side, by: int) -> bool:
    """Compare where both are told; an output may be left open where the input is not."""
    return made is None or (taken is not None and made == by * taken)


def _shown(sides: tuple[Side, ...]) -> str:
    return f"[{', '.join('open' if side is None else str(side) for side in sides)}]"


def _port(path: Path, detail: dict[str, Any]) -> TensorEncoding:
    dtype = np.dtype(detail["dtype"]).name
    if dtype in FLOATS:
        return TensorEncoding(dtype, 0.0, 0)
    quantisation = detail["quantization_parameters"]
    if dtype not in INTEGERS or len(quantisation["scales"]) != 1 or not quantisation["scales"][0] > 0:
        raise UsageError(
            f"{path} holds {dtype} {'without one scale' if dtype in INTEGERS else 'values'}, not float32, float16 or "
            "quantised uint8, int8 or int16; export it with another type."
        )
    return TensorEncoding(dtype, float(quantisation["scales"][0]), int(quantisation["zero_points"][0]))
