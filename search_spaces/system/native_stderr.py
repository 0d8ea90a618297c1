"""Keep native libraries from writing to the user's terminal.

TensorFlow's converter and LiteRT print log lines straight to file descriptor 2, whatever Python's logging says.
What they print is kept while they work and shown only when they fail.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(*, drop: bool = False) -> Iterator[None]:
    """Hold back what native code writes to standard error; show it where an exception is raised.

    With `drop` it is never shown: the exception says it all.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(original, 2)
            log.seek(0)
            sys.stderr.write("" if drop else log.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
