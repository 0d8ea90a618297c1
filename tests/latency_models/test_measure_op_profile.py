"""Profiles of benchmark_model, operation by operation: tables on the terminal and both forms of CSV."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.measure.op_profile import OpTime, TypeTime, is_op_profile, parse_op_profile, parse_type_summary
from search_spaces.errors import MeasurementError

RUN_ORDER = "============================== Run Order =============================="
BY_TIME = "============================== Top by Computation Time =============================="
BY_TYPE = "============================== Summary by node type =============================="
OLD = ("node type", "start", "first", "avg ms", "%", "cdf%", "mem KB", "times called", "Name")
NEW = ("node type", "first", "avg ms", "%", "cdf%", "mem KB", "times called", "Name")
TYPES = ("Node type", "count", "avg ms", "avg %", "cdf %", "mem KB", "times called")
REGULAR = "Operator-wise Profiling Info for Regular Benchmark Runs:"
INITIALIZATION = "Profiling Info for Benchmark Initialization:"

CONV = OpTime("CONV_2D", "[stem/conv, stem/relu]:0", 3.5, 1)
NNAPI = OpTime("TfLiteNnapiDelegate", "[body/a, body/b]:231", 79.01, 1)
TWICE = OpTime("DEPTH_TO_SPACE", "[tail]:7", 0.125, 2)
INSIDE = OpTime("Convolution (NHWC, F32) IGEMM", "Delegate/Convolution (NHWC, F32) IGEMM:0", 78.25, 1, internal=True)


def header(columns: Sequence[str], width: int = 24) -> str:
    return "\t" + "\t".join(f"{f'[{name}]':>{width}}" for name in columns)


def row(op: OpTime, columns: Sequence[str], width: int = 24) -> str:
    figures = {
        "avg ms": f"{op.avg_ms:9.3f}",
        "times called": f"{op.times_called:9}",
        "%": "  1.335%",
        "cdf%": " 50.100%",
    }
    cells = [figures.get(name, "    0.021") for name in columns[1:-1]]
    return "\t" + "\t".join([f"{op.node_type:>{width}}", *cells, op.name])


def table(ops: Sequence[OpTime], columns: Sequence[str] = NEW, title: str = RUN_ORDER, width: int = 24) -> str:
    return "\n".join([title, header(columns, width), *(row(op, columns, width) for op in ops), "", ""])


def csv_table(ops: Sequence[OpTime], columns: Sequence[str], separator: str = ", ") -> str:
    """Newer builds put tabs for the commas of names, and leave those of types."""
    rows = [separator.join(name.replace("avg ms", "avg_ms").replace("Name", "name") for name in columns)]
    for op in ops:
        figures = {"avg ms": f"{op.avg_ms:g}", "times called": str(op.times_called), "%": "1.3e-05%", "cdf%": "50%"}
        cells = [figures.get(name, "0.021") for name in columns[1:-1]]
        rows.append(separator.join([op.node_type, *cells, op.name.replace(",", "\t")]))
    return "\n".join([RUN_ORDER, *rows, "", ""])


@pytest.mark.parametrize("columns", [OLD, NEW], ids=["with start", "without start"])
@pytest.mark.parametrize("width", [24, 40])
def test_a_table_is_read_by_the_names_of_its_columns(columns: Sequence[str], width: int) -> None:
    assert parse_op_profile(f"{REGULAR}\n{table([CONV, NNAPI], columns, width=width)}") == (CONV, NNAPI)


def test_columns_in_another_order_are_read_by_name() -> None:
    columns = ("node type", "times called", "mem KB", "avg ms", "Name")
    assert parse_op_profile(table([TWICE], columns)) == (TWICE,)


@pytest.mark.parametrize("prefix", ["INFO: ", "07-08 15:34:26.201 I/tflite  ( 5395): "])
def test_prefixes_of_the_lines_do_not_matter(prefix: str) -> None:
    text = "\n".join(prefix + line for line in f"{REGULAR}\n{table([CONV])}".splitlines())
    assert parse_op_profile(text) == (CONV,)


def test_what_the_initialization_took_is_not_part_of_a_run() -> None:
    allocate = OpTime("AllocateTensors", "AllocateTensors/0", 1.5, 2)
    text = f"{INITIALIZATION}\n{table([allocate])}{REGULAR}\n{table([CONV])}"
    assert parse_op_profile(text) == (CONV,)
    with pytest.raises(MeasurementError, match='No table "Run Order"'):
        parse_op_profile(f"{INITIALIZATION}\n{table([allocate])}")


def test_the_same_operations_sorted_by_time_are_not_counted_twice() -> None:
    assert parse_op_profile(table([CONV, NNAPI]) + table([NNAPI, CONV], title=BY_TIME)) == (CONV, NNAPI)


def test_what_a_delegate_reports_of_its_inside_is_marked() -> None:
    timings = "Timings (microseconds): count=50 first=83000 curr=82000 min=82000 max=83000 avg=82500 std=9"
    text = f"{REGULAR}\n{table([CONV, NNAPI])}{timings}\nDelegate internal: \n{table([INSIDE])}"
    assert parse_op_profile(text) == (CONV, NNAPI, INSIDE)
    assert sum(op.ms_per_run for op in parse_op_profile(text) if not op.internal) == pytest.approx(82.51)
    assert parse_op_profile(text + f"{REGULAR}\n{table([CONV])}")[-1] == CONV


def test_an_operation_called_twice_takes_twice_its_average_in_a_run() -> None:
    (op,) = parse_op_profile(table([TWICE]))
    assert (op.avg_ms, op.times_called, op.ms_per_run) == (0.125, 2, 0.25)


@pytest.mark.parametrize("separator", [", ", ","])
@pytest.mark.parametrize("columns", [OLD, NEW], ids=["with start", "without start"])
def test_both_forms_of_csv_are_read_with_commas_in_types_and_names(columns: Sequence[str], separator: str) -> None:
    inside = "Delegate internal:\n" + csv_table([INSIDE], columns, separator)
    assert parse_op_profile(csv_table([CONV, TWICE], columns, separator) + inside) == (CONV, TWICE, INSIDE)


def test_old_csv_left_the_commas_of_names() -> None:
    columns = "node type, start, first, avg_ms, %, cdf%, mem KB, times called, name\n"
    assert parse_op_profile(columns + "CONV_2D, 0, 3, 3.5, 5%, 5%, 0, 1, [a, b]:0\n") == (
        OpTime("CONV_2D", "[a, b]:0", 3.5, 1),
    )


def test_the_summary_by_type_is_read_from_the_terminal_and_from_csv() -> None:
    figures = ("3", "149.483", "94.187%", "94.187%", "0.000", "4")
    terminal = f"{BY_TYPE}\n{header(TYPES)}\n\t     TfLiteNnapiDelegate\t" + "\t".join(f"{f:>9}" for f in figures)
    csv = "node type, count, avg_ms, avg %, cdf %, mem KB, times called\nTfLiteNnapiDelegate, " + ", ".join(figures)
    for text in (terminal, csv):
        assert parse_type_summary(text) == (TypeTime("TfLiteNnapiDelegate", 3, 149.483, 4),)
        with pytest.raises(MeasurementError, match="Run Order"):
            parse_op_profile(text)
    with pytest.raises(MeasurementError, match="Summary by node type"):
        parse_type_summary(table([CONV]))


@pytest.mark.parametrize("time", ["nan", "-1.000", "inf"])
def test_a_time_that_cannot_be_is_refused(time: str) -> None:
    with pytest.raises(MeasurementError, match="as avg ms of CONV_2D, which cannot be"):
        parse_op_profile(table([CONV]).replace("    3.500", time))


@pytest.mark.parametrize("text", ["", "STARTING!\n", "network,runtime_ms\nsmallnet,61\n", RUN_ORDER])
def test_a_text_without_a_table_is_refused(text: str) -> None:
    assert not is_op_profile(text)
    with pytest.raises(MeasurementError, match="profile with --enable_op_profiling=true"):
        parse_op_profile(text)


def test_a_row_that_lacks_a_cell_is_refused_rather_than_left_out() -> None:
    for text in (table([CONV, TWICE]), csv_table([CONV, TWICE], NEW)):
        with pytest.raises(MeasurementError, match=r'row "CONV_2D.*" of the profile lacks some of first, avg ms, %'):
            parse_op_profile(text.replace("0.021", "", 1))


def test_lines_of_other_programs_in_a_table_are_passed_over() -> None:
    *rows, last = table([CONV, TWICE]).splitlines()[:4]
    assert parse_op_profile("\n".join([*rows, "thermal : 41 degrees", last])) == (CONV, TWICE)


words = st.text("ABz_/[]:(), #", min_size=1).map(str.strip).filter(lambda s: s.strip(", ") == s and s)
thousandths = st.integers(0, 10**9).map(lambda n: n / 1000)


@given(
    st.lists(st.builds(OpTime, words, words, thousandths, st.integers(0, 99)), min_size=1), st.sampled_from([OLD, NEW])
)
def test_any_table_comes_back(ops: list[OpTime], columns: Sequence[str]) -> None:
    assert parse_op_profile(table(ops, columns)) == tuple(ops)
    assert is_op_profile(table(ops, columns))


@pytest.mark.parametrize("blanks", [" ", "  ", "     "])
def test_a_profile_pasted_with_blanks_for_tabs_is_the_same(blanks: str) -> None:
    rows = [
        ("[node type]", "[first]", "[avg ms]", "[%]", "[cdf%]", "[mem KB]", "[times called]", "[Name]"),
        ("CONV_2D", "0.893", "0.812", "80.1%", "80.1%", "0.000", "1", "[a, b;c]:0"),
        ("Convolution (NHWC, F32) IGEMM", "0.221", "0.201", "19.9%", "100.0%", "0.000", "1", "[Tanh]:1"),
    ]
    title = "============================== Run Order =============================="
    tabs = "\n".join([title, *("\t" + "\t".join(row) for row in rows)])
    pasted = "\n".join([title, *(blanks.join(cell.rjust(20) for cell in row) for row in rows)])
    for text in (pasted, "\n".join([title, *(blanks.join(row) for row in rows)])):
        assert parse_op_profile(text) == parse_op_profile(tabs)
    assert len(parse_op_profile(tabs)) == 2


def test_a_pasted_row_that_lacks_a_cell_is_refused() -> None:
    header = "[node type] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]"
    with pytest.raises(MeasurementError, match=r"lacks some of first, avg ms, %"):
        parse_op_profile(f"{header}\nCONV_2D 0.812 80.1% 80.1% 0.000 1 [a]:0")
    assert parse_op_profile(f"{header}\nCPU at 41 degrees\nCONV_2D 1 0.812 80.1% 80.1% 0.000 1 [a]:0")
