"""Delegate tables: the TFLite operations a delegate accepts, each with the conditions a kernel must meet.

A delegate hands to an NPU or GPU what it accepts and leaves the rest to the CPU. Its table is one JSON file with its
source; the user's own, in ./delegates or the user's data folder, hide built-in ones of the same name. `support` asks
it about whole networks.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from latency_models.json_readers import (
    Reader,
    count,
    list_of,
    named,
    one_of,
    optional,
    read_json,
    record,
    refuse,
    some_of,
    text,
)
from latency_models.kernels import Kernel
from search_spaces.system import named_files

BUILTIN = Path(__file__).parent / "delegates"
SCHEMA = 1
# Where what the delegate leaves over runs. On the same processor nothing is carried over and nothing is lost but speed.
REST = ("on the CPU", "on the same processor")
DTYPES = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")
FUSED = ("relu", "relu6", "relu_n1_to_1", "tanh", "sign_bit")

# What is out of the ordinary in a kernel: how to say it, and what to change.
TRAITS = {
    "align_corners": ("it aligns corners", "resize with half_pixel_centers"),
    "beta": ("its beta is not 1", "multiply its input instead"),
    "crops": ("it crops", "crop by a slice of its own"),
    "depth_multiplier": ("it makes several channels of one", "use a depth multiplier of 1"),
    "dynamic_shape": ("a shape, size or axis is computed while it runs", "convert the network with fixed shapes"),
    "dynamic_weights": ("its weights are computed while it runs", "make them constants"),
    "half_pixel_centers": ("it samples at half-pixel centres", "enlarge by depth-to-space or a transposed convolution"),
    "hybrid": ("its weights have 8 bits and its maps are float", "quantise the maps too, or keep float weights"),
    "keep_num_dims": ("it keeps more than two dimensions", "reshape to two dimensions before it"),
    "last_axis": ("it works along the last axis", "choose another axis and transpose"),
    "many_parts": ("it splits into more than four parts", "split in two steps"),
    "masks": ("it adds, drops or skips dimensions", "slice every dimension and reshape afterwards"),
    "rescales": ("its output has another scale than its input", "quantise both with one range"),
    "scalar": ("it makes a scalar", "keep the dimensions"),
    "scale_product": (
        "the scales of input and weights multiply to no less than the output's",
        "quantise to int8, or the output over a wider range",
    ),
    "single_pixel_pool": ("its window is one pixel and its stride is not", "take every other pixel by a strided slice"),
    "strided": ("its strides are not all 1", "slice with strides of 1"),
    "symmetric": ("it mirrors the border pixel too", "pad in mode REFLECT"),
}


class Objection(NamedTuple):
    """Why a delegate does not take a kernel, in one phrase, and what to change."""

    condition: str
    remedy: str


class Condition(NamedTuple):
    """One kind of condition: how its value is read, and what it objects to a kernel."""

    read: Reader
    objection: Callable[[Kernel, Any], Objection | None]


def _version(kernel: Kernel, highest: int) -> Objection | None:
    if kernel.version <= highest:
        return None
    return Objection(
        f"it is of version {kernel.version}, and {highest} is the highest taken",
        "convert without the feature that raised the version, or with an older converter",
    )


def _bias(kernel: Kernel, needed: bool) -> Objection | None:
    return Objection("it has no bias", "give it a bias; zeros will do") if needed and not kernel.biased else None


def _fused(kernel: Kernel, taken: tuple[str, ...]) -> Objection | None:
    if kernel.fused in ("none", *taken):
        return None
    return Objection(f"{kernel.fused} is fused into it", "keep the activation an operation of its own")


def _nothing_fused(kernel: Kernel, _: bool) -> Objection | None:
    return _fused(kernel, ())


def _rank(kernel: Kernel, wanted: int) -> Objection | None:
    if kernel.rank == wanted:
        return None
    return Objection(f"its maps have {kernel.rank} dimensions, not {wanted}", f"reshape to {wanted} dimensions")


def _max_rank(kernel: Kernel, highest: int) -> Objection | None:
    return _rank(kernel, highest) if kernel.rank > highest else None


def _max_inputs(kernel: Kernel, most: int) -> Objection | None:
    if len(kernel.reads) <= most:
        return None
    return Objection(f"it reads {len(kernel.reads)} maps, and {most} is the most", "join them in several steps")


def _dtypes(kernel: Kernel, taken: tuple[str, ...]) -> Objection | None:
    return None if kernel.dtype in taken else _of_other_type(f"its maps are {kernel.dtype}", taken)


def _makes(kernel: Kernel, taken: tuple[str, ...]) -> Objection | None:
    return None if kernel.makes_dtype in taken else _of_other_type(f"it makes {kernel.makes_dtype}", taken)


def _of_other_type(type_name: str, taken: tuple[str, ...]) -> Objection:
    listed = ", ".join(taken)
    return Objection(f"{type_name}, not {listed}", f"convert to {listed}")


def _without(kernel: Kernel, refused: tuple[str, ...]) -> Objection | None:
    for trait in kernel.traits:
        if trait in refused:
            return Objection(*TRAITS[trait])
    return None


def _extension(_: Kernel, is_extension: bool) -> Objection | None:
    if not is_extension:
        return None
    return Objection("it is handed on as the vendor's extension operation, whose speed is unknown", "replace it")


CONDITIONS: dict[str, Condition] = {
    "max_version": Condition(count, _version),
    "needs_bias": Condition(one_of(True), _bias),
    "no_fused_activation": Condition(one_of(True), _nothing_fused),
    "fused": Condition(list_of(one_of(*FUSED)), _fused),
    "rank": Condition(count, _rank),
    "max_rank": Condition(count, _max_rank),
    "max_inputs": Condition(count, _max_inputs),
    "dtypes": Condition(list_of(one_of(*DTYPES)), _dtypes),
    "makes": Condition(list_of(one_of(*DTYPES)), _makes),
    "without": Condition(list_of(one_of(*TRAITS)), _without),
    "extension": Condition(one_of(True), _extension),
}
_UNLISTED = Objection("the delegate does not know the operation", "replace it by operations that it takes")


@dataclass(frozen=True)
class DelegateTable:
    """A delegate as its file describes it."""

    name: str
    title: str
    source: str
    rest: str  # one of REST
    max_partitions: int | None  # None: it takes as many as there are
    ops: Mapping[str, Mapping[str, Any]]  # TFLite name → conditions by their key in CONDITIONS
    instead: Mapping[str, str]  # TFLite name → what to use instead where it is refused
    limits: tuple[str, ...]  # what the table cannot promise
    digest: str  # tells that the file was edited
    # A network has tens of kernels and few kinds of them, and a search asks about thousands of networks.
    _verdicts: dict[tuple[Any, ...], Objection | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def loses_nothing(self) -> bool:
        """Whether what the delegate leaves over runs where it runs itself."""
        return self.rest == REST[1]

    def objection(self, kernel: Kernel) -> Objection | None:
        """Return why the delegate does not take `kernel`; None where it does."""
        kind = (kernel.tflite_op, len(kernel.reads), *kernel[_CONDITIONED:])
        try:
            return self._verdicts[kind]
        except KeyError:
            return self._verdicts.setdefault(kind, self._judge(kernel))

    def _judge(self, kernel: Kernel) -> Objection | None:
        conditions = self.ops.get(kernel.tflite_op)
        objection = _UNLISTED if conditions is None else _first_objection(kernel, conditions)
        instead = self.instead.get(kernel.tflite_op)
        return objection._replace(remedy=instead) if objection and instead else objection


_CONDITIONED = Kernel._fields.index("version")  # from here on a kernel says what conditions ask about


def _first_objection(kernel: Kernel, conditions: Mapping[str, Any]) -> Objection | None:
    objections = (CONDITIONS[key].objection(kernel, value) for key, value in conditions.items())
    return next((objection for objection in objections if objection), None)


def delegate_names() -> dict[str, Path]:
    """Return every delegate's name with its file; the user's own hide built-in ones of the same name."""
    return named_files.names("delegates", BUILTIN, ".json")


def load_delegate(name: str) -> DelegateTable:
    """Return the table called `name`, or that of the .json file at that path.

    Raises UnknownNameError for a name nobody has, DeviceError with file and key for a file that is no table.
    """
    path = named_files.find("delegates", name, BUILTIN, ".json")
    data = read_json(path)
    values = _read_table(str(path), data)
    if values["name"] != path.stem:
        refuse(f"{path}: name", f'"{path.stem}", as the file is called', values["name"])
    del values["schema"]
    text = json.dumps(data, sort_keys=True, ensure_ascii=False)
    return DelegateTable(**values, digest=hashlib.sha256(text.encode()).hexdigest()[:12])


_read_conditions = some_of({key: condition.read for key, condition in CONDITIONS.items()})
# What a delegate's file holds, key by key.
_read_table = record(
    {
        "schema": one_of(SCHEMA),
        "name": text,
        "title": text,
        "source": text,
        "rest": one_of(*REST),
        "max_partitions": optional(count),
        "ops": named(_read_conditions),
        "instead": named(text),
        "limits": list_of(text),
    }
)
