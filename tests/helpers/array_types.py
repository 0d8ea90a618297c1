"""The check of arrays' shapes and types at run time, in a module of its own: jaxtyping imports it by name."""

from typing import Any

import beartype
import numpy as np

# beartype refuses an array of any type and any shape unless it is told that a plain array is meant.
_ANY_ARRAY = beartype.FrozenDict({np.ndarray[Any, Any]: np.ndarray})
check_types = beartype.beartype(conf=beartype.BeartypeConf(hint_overrides=_ANY_ARRAY))
