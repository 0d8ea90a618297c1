"""Run a .tflite file on this machine's CPU with LiteRT, as it would be run on a phone."""

import os
from typing import Any

import numpy as np

from search_spaces.quiet import quiet

Array = np.ndarray[Any, Any]


class TfliteModel:
    """A .tflite file of one input and one output, ready to run."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with quiet():
            self._interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]

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
        self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(x, np.float32))
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._output["index"]))
