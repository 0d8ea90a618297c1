"""A first run of a .tflite file in a process of its own, so that a file that ends LiteRT ends nothing else.

LiteRT trusts what it runs: a damaged file that passes every check here can still end the process by a signal. Files
that this tool did not make are therefore run once apart; what comes of it is a sentence.
"""

import subprocess
import sys
from signal import Signals

import numpy as np

from search_spaces.errors import IspNasError, UsageError

LONGEST_S = 600
# At which size a file is tried that leaves its size open: halved five times.
PROBED_SIDE = 64
_REFUSED = 3


def require_runs(content: bytes, name: str, kind: type[IspNasError] = UsageError) -> None:
    """Raise an error of `kind` unless LiteRT loads a file and runs it once on zeros, apart from this process."""
    command = [sys.executable, "-m", __spec__.name]
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        raise kind(f"LiteRT did not end running {name} within {LONGEST_S} s; give a smaller or fixed size.") from None
    if done.returncode == 0:
        return
    if done.returncode == _REFUSED:
        raise kind(f"LiteRT cannot run {name}: {done.stdout.decode(errors='replace').strip()}; make or fetch it again.")
    how = f"by the signal {_signal(-done.returncode)}" if done.returncode < 0 else f"with exit code {done.returncode}"
    raise kind(
        f"LiteRT ended {how} while it ran {name}: the file is damaged, or made for another runtime; make or fetch it "
        "again."
    )


def _signal(number: int) -> str:
    return Signals(number).name if number in set(Signals) else str(number)


def main() -> int:
    """Load the file on standard input and run it once; print LiteRT's first line where it refuses."""
    from ai_edge_litert.interpreter import Interpreter

    content = sys.stdin.buffer.read()
    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
        for detail in interpreter.get_input_details():
            signature = detail["shape_signature"]
            if len(signature) and min(signature) < 0:
                shape = [
                    1 if not axis else PROBED_SIDE if size < 0 else int(size) for axis, size in enumerate(signature)
                ]
                interpreter.resize_tensor_input(detail["index"], shape)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError, MemoryError) as error:
        sys.stdout.write((str(error).strip().splitlines() or [type(error).__name__])[0])
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
