"""Delegates as tables, and how far they take networks."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from stopwatch import cpu_seconds
from tflite_builder import FileBuilder
from tflite_samples import CONV, MAP, POOL, SAMPLES, sample

from latency_models.delegate import BUILTIN, CONDITIONS, TRAITS, DelegateTable, delegate_names, load_delegate
from latency_models.kernels import Kernel, Network, network
from latency_models.support import UNCHECKED, Refusal, partitions, support
from latency_models.tflite_network import read_network
from latency_models.tflite_rules import RULES
from search_spaces.designs import DESIGNS
from search_spaces.errors import DeviceError, IspNasError, UnknownNameError, UsageError
from search_spaces.graph import INPUT
from search_spaces.networks import build_graph
from search_spaces.space import load_space
from search_spaces.spec import ArchSpec

NEURON, XNNPACK, GPU, NNAPI = (
    load_delegate(str(BUILTIN / f"{name}.json")) for name in ("mediatek-neuron", "xnnpack", "tflite-gpu", "nnapi")
)
COREML = load_delegate(str(BUILTIN / "coreml.json"))
MORE = tuple(load_delegate(str(BUILTIN / f"{name}.json")) for name in ("qualcomm-qnn", "unchecked"))
TABLES = {table.name: table for table in (NEURON, XNNPACK, GPU, NNAPI, COREML, *MORE)}
SPACE = load_space("mai21")
specs = st.builds(lambda data: SPACE.sample(lambda _, values, __: data.draw(st.sampled_from(values))), st.data())
# What a delegate does not know, or knows only as an extension.
NORMED = {"eds", "eds-shuffle"}

every_table = pytest.mark.parametrize("name", TABLES)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a user's folder with nothing in them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISP_NAS_HOME", str(tmp_path / "home"))
    return tmp_path


def of_design(name: str) -> Network:
    return network(build_graph(DESIGNS[name].spec))


def made(op: str = "CONV_2D", **fields: Any) -> Kernel:
    """A convolution as our files have it, some of it changed."""
    plain = Kernel("k", ("k",), "conv", op, 10, 4, 4, 4, 1, 1, 3, 1, 2, 2, (INPUT,), "k", biased=True)
    return plain._replace(**fields)


def table(**ops: dict[str, Any]) -> DelegateTable:
    """A delegate that takes these operations under these conditions, read as from a file."""
    return replace(NEURON, ops=ops, instead={}, max_partitions=None, _verdicts={})


# What the built-in tables say


@every_table
def test_every_built_in_table_loads_and_states_its_source_and_limits(name: str, elsewhere: Path) -> None:
    assert load_delegate(name) == TABLES[name]
    assert delegate_names()[name].parent == BUILTIN
    assert TABLES[name].source
    assert TABLES[name].limits


def test_every_table_that_is_shipped_is_tested_here(elsewhere: Path) -> None:
    assert set(delegate_names()) == set(TABLES)


@every_table
def test_a_table_speaks_of_operations_that_tflite_has(name: str) -> None:
    operators = vars(schema_py_generated.BuiltinOperator)
    assert [op for op in (*TABLES[name].ops, *TABLES[name].instead) if op not in operators] == []


def test_every_condition_and_every_oddity_is_asked_by_some_table() -> None:
    all_conditions = [conditions for known in TABLES.values() for conditions in known.ops.values()]
    assert {key for conditions in all_conditions for key in conditions} == set(CONDITIONS)
    oddities = {trait for conditions in all_conditions for trait in conditions.get("without", ())}
    # What no delegate here refuses is told for tables of the user's own.
    assert TRAITS.keys() - oddities == {"align_corners", "half_pixel_centers", "hybrid", "keep_num_dims"}


# Source: neuron_delegate_validation.cc of tflite-neuron-delegate, 2022-07.
NEURON_REFUSES: dict[str, tuple[Kernel, str]] = {
    "a convolution without bias": (made(biased=False), "it has no bias"),
    "a convolution of version 4": (made(version=4), "it is of version 4, and 3 is the highest taken"),
    "a transposed convolution with a fused activation": (made("TRANSPOSE_CONV", version=4), "of version 4, and 3"),
    "a transposed convolution of unknown size": (
        made("TRANSPOSE_CONV", traits=("dynamic_shape",)),
        "a shape, size or axis is computed while it runs",
    ),
    "a concatenation of five dimensions": (made("CONCATENATION", rank=5), "its maps have 5 dimensions, not 4"),
    "a concatenation with relu": (made("CONCATENATION", fused="relu"), "relu is fused into it"),
    "a resize of three dimensions": (made("RESIZE_BILINEAR", rank=3), "its maps have 3 dimensions, not 4"),
    "a mean of 16 bits": (made("MEAN", dtype="int16"), "its maps are int16, not float32, uint8, int8"),
    "a mean of version 3": (made("MEAN", version=3), "it is of version 3, and 2 is the highest taken"),
    "a leaky relu of version 2": (made("LEAKY_RELU", version=2), "it is of version 2, and 1 is the highest"),
    "a prelu of half precision": (made("PRELU", dtype="float16"), "its maps are float16"),
    "depth to space of half precision": (made("DEPTH_TO_SPACE", dtype="float16"), "its maps are float16"),
    "cropping": (made("BATCH_TO_SPACE_ND", traits=("crops",)), "it crops"),
    "packing along channels": (made("PACK", traits=("last_axis",)), "it works along the last axis"),
    "gathering floats": (made("GATHER"), "its maps are float32, not float16"),
    "quantising to 32 bits": (made("QUANTIZE", makes_dtype="int32"), "it makes int32, not int16, uint8, int8"),
    "squared difference": (made("SQUARED_DIFFERENCE"), "vendor's extension operation, whose speed is unknown"),
    "reciprocal root": (made("RSQRT"), "vendor's extension operation, whose speed is unknown"),
    "an unknown operation": (made("GELU"), "the delegate does not know the operation"),
}


@pytest.mark.parametrize("name", NEURON_REFUSES)
def test_mediateks_delegate_refuses(name: str) -> None:
    kernel, condition = NEURON_REFUSES[name]
    verdict = support(Network((kernel,), 1, 1), NEURON)
    (refusal,) = verdict.refused
    assert verdict.status == "unsupported"
    assert (refusal.op, refusal.kernel) == (kernel.tflite_op, "k")
    assert condition in refusal.condition
    assert refusal.remedy


@pytest.mark.parametrize("design", [name for name in DESIGNS if name not in NORMED])
@pytest.mark.parametrize("name", sorted(TABLES.keys() - {"coreml"}))
def test_the_designs_without_instance_norm_run_whole_on_every_delegate(name: str, design: str) -> None:
    verdict = support(of_design(design), TABLES[name])
    assert (verdict.is_whole, verdict.refused, verdict.partitions, verdict.fallback) == (True, (), 1, ())
    assert verdict.status == (UNCHECKED if name == UNCHECKED else "supported")
    assert verdict.delegated == verdict.kernels == len(of_design(design).kernels)


@pytest.mark.parametrize(("design", "norms"), [("eds", 9), ("eds-shuffle", 8)])
def test_eds_runs_in_part_because_of_its_instance_norms(design: str, norms: int) -> None:
    verdict = support(of_design(design), NEURON)
    assert verdict.status == "partial"
    assert [refusal.op for refusal in verdict.refused] == ["RSQRT"] * norms
    assert len(verdict.fallback) == norms
    assert verdict.partitions == norms + 1
    assert verdict.refused[0].sentence.startswith(
        'RSQRT "down1.norm.rsqrt": it is handed on as the vendor\'s extension operation, whose speed is unknown; '
    )


@settings(deadline=None, max_examples=60)
@given(specs)
def test_a_member_of_the_space_runs_whole_unless_it_norms(spec: ArchSpec) -> None:
    graph = build_graph(spec)
    norms = any(node.op.kind == "instance_norm" for node in graph.nodes)
    verdict = support(network(graph), NEURON)
    assert verdict.status == ("partial" if norms else "supported")
    assert {refusal.op for refusal in verdict.refused} <= {"RSQRT"}


# What LiteRT's XNNPACK really does


def delegated(content: bytes) -> int | None:
    """How many stretches LiteRT gives to XNNPACK; None where it runs the file not at all."""
    try:
        runtime = Interpreter(model_content=content)
        runtime.allocate_tensors()
    except (RuntimeError, ValueError):  # no kernel for these types, or none of this version
        return None
    return sum(op["op_name"] == "DELEGATE" for op in runtime._get_ops_details())


@pytest.mark.parametrize("op", SAMPLES)
def test_xnnpacks_table_says_of_every_operation_and_type_what_litert_does(op: str) -> None:
    for dtype in ("float32", "float16", "int8", "uint8", "int16", "int32"):
        content = sample(op, dtype)
        took = delegated(content)
        if took is not None:
            assert support(read_network(content), XNNPACK).partitions == took, dtype


def conv(b: FileBuilder, **options: Any) -> int:
    return b.op(
        "CONV_2D", [b.input(*MAP), b.weights(5, 3, 3, 8), b.weights(5)], (1, 4, 6, 5), options={**CONV, **options}
    )


def joined(b: FileBuilder, maps: int) -> int:
    return b.op("CONCATENATION", [b.input(*MAP) for _ in range(maps)], (1, 4, 6, 8 * maps), options={"axis": 3})


def sliced(b: FileBuilder, shape: tuple[int, ...], *strides: int, **options: int) -> int:
    inputs = [b.input(*MAP), b.numbers(0, 0, 0, 0), b.numbers(*MAP), b.numbers(*strides)]
    return b.op("STRIDED_SLICE", inputs, shape, options=options)


VARIANTS: dict[str, Callable[[FileBuilder], int]] = {
    "conv, relu": lambda b: conv(b, fusedActivationFunction=1),
    "conv, tanh": lambda b: conv(b, fusedActivationFunction=4),
    "conv, groups": lambda b: b.op(
        "CONV_2D", [b.input(*MAP), b.weights(6, 3, 3, 4), b.weights(6)], (1, 4, 6, 6), options=CONV
    ),
    "conv, weights at run time": lambda b: b.op(
        "CONV_2D", [b.input(*MAP), b.input(5, 3, 3, 8), b.weights(5)], (1, 4, 6, 5), options=CONV
    ),
    "conv, weights of 8 bits": lambda b: b.op(
        "CONV_2D",
        [b.input(*MAP), b.weights(5, 3, 3, 8, dtype="int8"), b.weights(5)],
        (1, 4, 6, 5),
        version=2,
        options=CONV,
    ),
    "transposed without bias": lambda b: b.op(
        "TRANSPOSE_CONV",
        [b.numbers(1, 8, 12, 5), b.weights(5, 3, 3, 8), b.input(*MAP)],
        (1, 8, 12, 5),
        options={"strideH": 2, "strideW": 2},
    ),
    "fully connected without bias": lambda b: b.op("FULLY_CONNECTED", [b.input(3, 8), b.weights(5, 8), -1], (3, 5)),
    "concat of five": lambda b: joined(b, 5),
    "concat of six": lambda b: joined(b, 6),
    "add of six dimensions": lambda b: b.op("ADD", [b.input(1, 1, *MAP), b.input(1, 1, *MAP)], (1, 1, *MAP)),
    "add of seven dimensions": lambda b: b.op("ADD", [b.input(1, 1, 1, *MAP), b.input(1, 1, 1, *MAP)], (1, 1, 1, *MAP)),
    "slice of every other row": lambda b: sliced(b, (1, 2, 6, 8), 1, 2, 1, 1),
    "slice that drops a dimension": lambda b: sliced(b, (4, 6, 8), 1, 1, 1, 1, shrinkAxisMask=1),
    "softmax with a beta": lambda b: b.op("SOFTMAX", [b.input(*MAP)], MAP, options={"beta": 2.0}),
    "pool of one pixel by two": lambda b: b.op(
        "MAX_POOL_2D", [b.input(*MAP)], (1, 2, 3, 8), options={**POOL, "filterHeight": 1, "filterWidth": 1}
    ),
    "split into four": lambda b: b.op(
        "SPLIT", [b.constant(3, "int32"), b.input(1, 4, 6, 32)], MAP, options={"numSplits": 4}, outputs=4
    ),
    "split into five": lambda b: b.op(
        "SPLIT", [b.constant(3, "int32"), b.input(1, 4, 6, 40)], MAP, options={"numSplits": 5}, outputs=5
    ),
    "mean over rows": lambda b: b.op("MEAN", [b.input(*MAP), b.numbers(1)], (1, 1, 6, 8), options={"keepDims": True}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_xnnpacks_table_says_of_odd_operations_what_litert_does(name: str) -> None:
    builder = FileBuilder()
    VARIANTS[name](builder)
    content = builder.file()
    took = delegated(content)
    assert took is not None
    assert support(read_network(content), XNNPACK).partitions == took


def drawn_network(data: st.DataObject) -> bytes:
    """A network of operations that XNNPACK takes and others, each reading one or two maps before it."""
    b = FileBuilder()
    maps = [b.input(*MAP)]
    for _ in range(data.draw(st.integers(1, 9))):
        read = data.draw(st.lists(st.sampled_from(maps), min_size=1, max_size=2, unique=True))
        taken = data.draw(st.booleans())
        name = ("TANH" if taken else "SIGN") if len(read) == 1 else ("ADD" if taken else "ATAN2")
        maps.append(b.op(name, read, MAP))
    used = {index for op in b.graph.operators for index in op.inputs}
    return b.file(*(index for index in maps[1:] if index not in used))


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_litert_makes_as_many_partitions_as_are_foreseen(data: st.DataObject) -> None:
    content = drawn_network(data)
    assert support(read_network(content), XNNPACK).partitions == delegated(content)


def test_what_xnnpack_leaves_to_litert_is_no_refusal() -> None:
    b = FileBuilder()
    b.op("TANH", [b.op("SIGN", [b.op("TANH", [b.input(*MAP)], MAP)], MAP)], MAP)
    verdict = support(read_network(b.file()), XNNPACK)
    assert (verdict.status, verdict.partitions, verdict.delegated, verdict.fallback) == ("supported", 2, 2, (1,))


# How kernels are grouped

shapes = st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 8), max_size=3)), min_size=1, max_size=9)


def wired(shape: list[tuple[bool, list[int]]]) -> tuple[list[Kernel], list[bool]]:
    """Kernels, each reading some before it, and which of them are accepted."""
    kernels = []
    for index, (_, reads) in enumerate(shape):
        names = tuple(f"k{read % index}" for read in reads) if index else ()
        kernels.append(made(name=f"k{index}", makes=f"k{index}", reads=names or (INPUT,)))
    return kernels, [accepted for accepted, _ in shape]


def stretches(shape: list[tuple[bool, list[int]]]) -> list[list[int]]:
    return partitions(*wired(shape))


def test_kernels_in_a_row_are_grouped_as_they_stand() -> None:
    assert stretches([(True, []), (True, [0]), (False, [1]), (False, [2]), (True, [3])]) == [[0, 1], [4]]


def test_a_group_reaches_past_a_refused_kernel_on_another_branch() -> None:
    # 1 is refused and 2 waits for nothing but 0; 3 needs both.
    assert stretches([(True, []), (False, [0]), (True, [0]), (True, [1, 2])]) == [[0, 2], [3]]


@given(shapes)
def test_groups_hold_every_accepted_kernel_once(shape: list[tuple[bool, list[int]]]) -> None:
    taken = sorted(index for group in stretches(shape) for index in group)
    assert taken == [index for index, (accepted, _) in enumerate(shape) if accepted]


@given(shapes)
def test_kernels_that_are_all_accepted_are_one_group(shape: list[tuple[bool, list[int]]]) -> None:
    assert stretches([(True, reads) for _, reads in shape]) == [list(range(len(shape)))]


@given(shapes)
def test_groups_can_run_one_after_another(shape: list[tuple[bool, list[int]]]) -> None:
    kernels, accepted = wired(shape)
    groups = [*partitions(kernels, accepted), *([index] for index, taken in enumerate(accepted) if not taken)]
    there, waiting = {INPUT}, list(groups)
    while waiting:
        ready = [group for group in waiting if _outer_reads(kernels, group) <= there]
        assert ready, "two groups wait for each other"
        for group in ready:
            there |= {kernels[index].makes for index in group}
            waiting.remove(group)


def _outer_reads(kernels: list[Kernel], group: list[int]) -> set[str]:
    inside = {kernels[index].makes for index in group}
    return {name for index in group for name in kernels[index].reads} - inside


@given(shapes, st.randoms(use_true_random=False))
def test_another_order_that_starts_alike_has_the_same_groups(
    shape: list[tuple[bool, list[int]]], rng: random.Random
) -> None:
    kernels, accepted = wired(shape)
    order = [0]
    while len(order) < len(kernels):
        there = {INPUT} | {kernels[index].makes for index in order}
        ready = [i for i in range(len(kernels)) if i not in order and there.issuperset(kernels[i].reads)]
        order.append(rng.choice(ready))
    groups = partitions([kernels[index] for index in order], [accepted[index] for index in order])
    renamed = [sorted(order[index] for index in group) for group in groups]
    assert renamed == partitions(kernels, accepted)


# From verdicts to support


def row(*ops: str) -> Network:
    """Kernels in a row; convolutions compute."""
    kernels = [
        made(op, name=f"k{i}", makes=f"k{i}", reads=(f"k{i - 1}" if i else INPUT,), macs=10 if op == "CONV_2D" else 0)
        for i, op in enumerate(ops)
    ]
    return Network(tuple(kernels), 1, 1)


def test_what_falls_back_is_told_by_position() -> None:
    verdict = support(row("CONV_2D", "TANH", "GELU", "CONV_2D", "GELU"), table(CONV_2D={}, TANH={}))
    assert (verdict.status, verdict.partitions, verdict.delegated, verdict.kernels) == ("partial", 2, 3, 5)
    assert verdict.fallback == (2, 4)
    assert [refusal.kernel for refusal in verdict.refused] == ["k2", "k4"]


def test_core_ml_leaves_depth_to_space_to_the_cpu() -> None:
    verdict = support(of_design("smallnet"), COREML)
    assert verdict.status == "partial"
    assert {refusal.op for refusal in verdict.refused} == {"DEPTH_TO_SPACE"}
    assert "transposed convolution" in verdict.refused[0].remedy


def test_a_delegate_of_one_partition_takes_the_longest_stretch() -> None:
    one = replace(table(CONV_2D={}), max_partitions=1)
    verdict = support(row("CONV_2D", "GELU", "CONV_2D", "CONV_2D", "GELU", "CONV_2D"), one)
    assert (verdict.partitions, verdict.delegated, verdict.fallback) == (1, 2, (0, 1, 4, 5))
    assert len(verdict.refused) == 2


def test_the_gpu_delegate_takes_one_partition_and_nnapi_three() -> None:
    ops = ("CONV_2D", "UNIQUE") * 5
    assert [support(row(*ops), known).partitions for known in (GPU, NNAPI, NEURON)] == [1, 3, 5]


def test_a_network_none_of_whose_arithmetic_is_taken_is_unsupported() -> None:
    verdict = support(row("CONV_2D", "TANH", "CONV_2D"), table(TANH={}))
    assert (verdict.status, verdict.delegated) == ("unsupported", 1)
    assert support(row("CONV_2D"), table()).status == "unsupported"


def test_a_network_without_arithmetic_is_partial_where_anything_is_taken() -> None:
    assert support(row("TANH", "GELU"), table(TANH={})).status == "partial"
    assert support(row("TANH", "GELU"), table()).status == "unsupported"


def test_a_refusal_is_a_sentence_that_says_what_to_change() -> None:
    refusal = support(row("CONV_2D"), table(CONV_2D={"max_rank": 3})).refused[0]
    assert refusal == Refusal("CONV_2D", "k0", "its maps have 4 dimensions, not 3", "reshape to 3 dimensions")
    assert refusal.sentence == 'CONV_2D "k0": its maps have 4 dimensions, not 3; reshape to 3 dimensions'


def test_a_table_may_say_what_to_use_instead() -> None:
    known = replace(table(), instead={"GELU": "use RELU"})
    assert support(row("GELU"), known).refused[0].remedy == "use RELU"


@pytest.mark.parametrize("op", RULES)
@every_table
def test_every_operation_that_can_be_read_gets_a_verdict(name: str, op: str) -> None:
    verdict = support(read_network(sample(op)), TABLES[name])
    assert (verdict.status == "unsupported") == bool(verdict.refused) or TABLES[name].loses_nothing
    assert all(refusal.condition and refusal.remedy for refusal in verdict.refused)


def test_a_verdict_costs_less_than_its_graph() -> None:
    # Ten thousand take 1.5 s of a quiet core; half of what building their graphs takes, measured beside it.
    rng = random.Random(0)
    members = [SPACE.sample(lambda _, values, __: rng.choice(values)) for _ in range(100)]
    networks = [network(build_graph(spec)) for spec in members]
    built = cpu_seconds(lambda: [build_graph.__wrapped__(spec) for spec in members])  # each anew
    assert cpu_seconds(lambda: [support(each, NEURON) for each in networks]) < 1.5 * built


# Files


def write_table(folder: Path, edit: Callable[[dict[str, Any]], object], name: str = "mine") -> Path:
    data = json.loads((BUILTIN / "mediatek-neuron.json").read_text("utf-8")) | {"name": name}
    edit(data)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(data), "utf-8")
    return path


def test_a_users_table_hides_the_built_in_one_of_its_name(elsewhere: Path) -> None:
    write_table(elsewhere / "delegates", lambda data: data.update(title="mine"), "xnnpack")
    assert load_delegate("xnnpack").title == "mine"
    assert delegate_names()["xnnpack"].parent == Path("delegates")


def test_an_unknown_table_suggests_the_nearest(elsewhere: Path) -> None:
    with pytest.raises(UnknownNameError, match=r'Unknown delegate "mediatek"; .* Did you mean "mediatek-neuron"\?'):
        load_delegate("mediatek")
    with pytest.raises(UsageError, match=r"No delegate file at gone\.json"):
        load_delegate("gone.json")


def test_the_digest_tells_that_a_table_was_edited(elsewhere: Path) -> None:
    as_shipped = load_delegate(str(write_table(elsewhere, lambda _: None))).digest
    assert load_delegate(str(write_table(elsewhere, lambda data: data["ops"].pop("ADD")))).digest != as_shipped


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda data: data.pop("source"), r"mine\.json: source is missing"),
        (lambda data: data.update(sauce="x"), r'mine\.json: sauce is not a known key.* Did you mean "source"'),
        (lambda data: data.update(schema=2), r"mine\.json: schema must be 1, got 2"),
        (lambda data: data.update(name="other"), r'name must be "mine", as the file is called'),
        (
            lambda data: data.update(rest="nowhere"),
            r"rest must be 'on the CPU', 'on the same processor', got 'nowhere'",
        ),
        (lambda data: data.update(max_partitions=0), r"max_partitions must be a whole number ≥ 1, got 0"),
        (lambda data: data.update(ops=["ADD"]), r"mine\.json: ops must be an object"),
        (lambda data: data["ops"].update(ADD=None), r"ops\.ADD must be an object, got None"),
        (lambda data: data["ops"]["ADD"].update(max_versions=2), r'ADD\.max_versions is not .* mean "max_version"'),
        (lambda data: data["ops"]["ADD"].update(max_version="2"), r"ADD\.max_version must be a whole number ≥ 1"),
        (lambda data: data["ops"]["ADD"].update(needs_bias=False), r"ADD\.needs_bias must be True, got False"),
        (lambda data: data["ops"]["ADD"].update(dtypes=["float"]), r"ADD\.dtypes\[0\] must be 'float32', 'float16', "),
        (lambda data: data["ops"]["ADD"].update(without=["odd"]), r"ADD\.without\[0\] must be 'align_corners', "),
        (lambda data: data["ops"]["ADD"].update(fused=[]), r"ADD\.fused must be a list with one element or more"),
        (lambda data: data["instead"].update(ADD=""), r"instead\.ADD must be a string"),
        (lambda data: data.update(limits=[]), r"limits must be a list with one element or more"),
    ],
)
def test_a_wrong_table_is_refused_with_file_and_key(
    elsewhere: Path, edit: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    with pytest.raises(DeviceError, match=sentence):
        load_delegate(str(write_table(elsewhere, edit)))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema": 1, "schema": 1}', b"\xff"])
def test_a_torn_table_is_refused(elsewhere: Path, content: bytes) -> None:
    (elsewhere / "mine.json").write_bytes(content)
    with pytest.raises(IspNasError, match=r"mine\.json"):
        load_delegate("mine.json")
