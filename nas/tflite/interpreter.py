"""Run a .tflite file on this machine's CPU with LiteRT, as a phone would run it."""

import os
import time
from statistics import median
from typing import Any

import numpy as np

from nas.tflite.tensor_encoding import TensorEncoding
from search_spaces.system.native_stderr import quiet

Array = np.ndarray[Any, Any]


class TfliteModel:
    """A .tflite file of one input and one output, ready to run; it takes and gives float32 whatever it computes in.

    A file for any size is set to `input_shape`. With `keep_maps` every map can be read after a run: no delegate works
    on the file then, whose maps would be its own.
    """

    def __init__(self, content: bytes, *, input_shape: tuple[int, ...] | None = None, keep_maps: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if keep_maps else OpResolverType.AUTO
        with quiet():
            self._interpreter = Interpreter(
                model_content=content,
                num_threads=threads(),
                experimental_op_resolver_type=kernels,
                experimental_preserve_all_tensors=keep_maps,
            )
            if input_shape is not None:
                self._interpreter.resize_tensor_input(self._interpreter.get_input_details()[0]["index"], input_shape)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self.input, self.output = TensorEncoding.of(self._input), TensorEncoding.of(self._output)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape that the file takes, [n, h, w, 4]."""
        return tuple(int(size) for size in self._input["shape"])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape that the file gives, [n, 2h, 2w, 3]."""
        return tuple(int(size) for size in self._output["shape"])

    def __call__(self, x: Array) -> Array:
        """Return the output for one input of `input_shape`, float32."""
        self._interpreter.set_tensor(self._input["index"], self.input.encode(x))
        self._interpreter.invoke()
        return self.output.decode(np.array(self._interpreter.get_tensor(self._output["index"])))

    def maps(self, x: Array) -> dict[str, Array]:
        """Return every map of one run by its name in the file, float32; needs `keep_maps`."""
        self(x)
        details = self._interpreter.get_tensor_details()
        return {
            detail["name"]: TensorEncoding.of(detail).decode(self._interpreter.get_tensor(detail["index"]))
            for detail in details
            if len(detail["shape"]) == 4 and len(detail["quantization_parameters"]["scales"]) <= 1
        }

    def runtime_ms(self, *, runs: int, budget_s: float) -> float:
        """Return the median milliseconds of so many runs on the last input, fewer where they would take too long."""
        taken: list[float] = []
        while len(taken) < runs and (not taken or sum(taken) + taken[-1] < budget_s):
            begun = time.perf_counter()
            self._interpreter.invoke()
            taken.append(time.perf_counter() - begun)
        return 1e3 * median(taken)


def threads() -> int:
    """Return how many threads a file runs on here."""
    return os.cpu_count() or 1
