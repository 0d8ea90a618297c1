"""Every activation once: what it is in a `.tflite` file, in JAX and in TensorFlow, and what may be done with it.

A new one is an entry here, and a value of the gene in a space's TOML. Frameworks are named and not imported: whoever
computes looks the function up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pkgutil import resolve_name
from typing import Any

# 0.2 is TensorFlow's own default for tf.nn.leaky_relu, so an exported file needs no comment.
LEAKY_SLOPE = 0.2


@dataclass(frozen=True)
class ActivationEntry:
    """One activation."""

    tflite_op: str
    jax: str | None  # "module:function" of one array; None: has parameters, and a rule of its own in lower_flax
    tensorflow: str | None  # likewise; None: lower_tf writes the form that the converter knows
    body: int | None = None  # its place among the values of the genes of a body; None: no value of them
    is_fused: bool = False  # delegates compute it as a part of the operation before it
    is_integer: bool = False  # tests have seen it converted to int8 and int16
    is_homogeneous: bool = False  # f(s·x) = s·f(x) for every s > 0
    jax_options: Mapping[str, Any] = field(default_factory=dict)
    tensorflow_options: Mapping[str, Any] = field(default_factory=dict)


# `body` numbers the genes' values in the order in which they came: what a search learns depends on that order.
ENTRIES: dict[str, ActivationEntry] = {
    "relu": ActivationEntry(
        "RELU", "flax.linen:relu", "tensorflow:nn.relu", body=0, is_fused=True, is_integer=True, is_homogeneous=True
    ),
    "relu6": ActivationEntry(
        "RELU6", "flax.linen:relu6", "tensorflow:nn.relu6", body=3, is_fused=True, is_integer=True
    ),
    "leaky_relu": ActivationEntry(
        "LEAKY_RELU",
        "flax.linen:leaky_relu",
        "tensorflow:nn.leaky_relu",
        body=2,
        is_integer=True,
        is_homogeneous=True,
        jax_options={"negative_slope": LEAKY_SLOPE},
        tensorflow_options={"alpha": LEAKY_SLOPE},
    ),
    "prelu": ActivationEntry("PRELU", None, None, body=1, is_integer=True, is_homogeneous=True),
    "tanh": ActivationEntry("TANH", "jax.numpy:tanh", "tensorflow:nn.tanh", body=4, is_integer=True),
    "sigmoid": ActivationEntry("LOGISTIC", "flax.linen:sigmoid", "tensorflow:nn.sigmoid", is_integer=True),
    "elu": ActivationEntry("ELU", "flax.linen:elu", "tensorflow:nn.elu", body=5, is_integer=True),
    "hard_swish": ActivationEntry("HARD_SWISH", "flax.linen:hard_swish", None, body=6, is_integer=True),
}

ACTIVATIONS = tuple(ENTRIES)
_PLACES = {entry.body: name for name, entry in ENTRIES.items() if entry.body is not None}
BODY_ACTIVATIONS = tuple(_PLACES[place] for place in sorted(_PLACES))
FUSED = tuple(name for name, entry in ENTRIES.items() if entry.is_fused)
TFLITE_OPS = {name: entry.tflite_op for name, entry in ENTRIES.items()}


def function_of(where: str, options: Mapping[str, Any]) -> Any:
    """Return the function that an entry names, with its options; imports the framework."""
    function = resolve_name(where)
    return partial(function, **options) if options else function
