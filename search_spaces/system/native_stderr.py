"""Keep native libraries from writing to the user's terminal.

TensorFlow's converter and LiteRT print log lines straight to file descriptor 2, whatever Python's logging says.
What they print is kept while they work and shown only when they fail with more than a sentence of ours.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from search_spaces.errors import IspNasError


@contextmanager
def quiet(*, drop: bool = False) -> Iterator[None]:
    """Hold back what native code writes to standard error; show it where an exception is raised that is none of ours.

    With `drop` it is never shown: the exception says it all, as ours do.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException as error:
            os.dup2(original, 2)
            log.seek(0)
            is_told = drop or isinstance(error, IspNasError)
            sys.stderr.write("" if is_told else log.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
