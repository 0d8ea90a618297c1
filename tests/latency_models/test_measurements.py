"""Files of measurements: what people write by hand is read or refused with its line, and nothing is lost."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.measurements import (
    COLUMNS,
    STATISTICS,
    Conditions,
    Timing,
    merged,
    parse_measurements,
    read_measurements,
    to_csv,
    write_measurements,
)
from search_spaces.errors import MeasurementError

PHONE = Conditions(device="Pixel 4, rooted", runtime="benchmark_model", delegate="gpu", threads=4, date="2026-05-04")
SMALLNET = Timing("smallnet", 61.25, low_ms=60.0, high_ms=64.0, runs=50, source="a.log", conditions=PHONE)


def read(tmp_path: Path, text: str | bytes) -> tuple[Timing, ...]:
    path = tmp_path / "mine.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_measurements(path)


def test_network_and_runtime_are_all_that_is_needed(tmp_path: Path) -> None:
    assert read(tmp_path, "network,runtime_ms\nsmallnet,61.25\ncsanet,9e1\n") == (
        Timing("smallnet", 61.25),
        Timing("csanet", 90.0),
    )


def test_every_column_is_known() -> None:
    names = {field.name for part in (Timing, Conditions) for field in fields(part)} - {"conditions"}
    assert set(COLUMNS) == names
    assert to_csv([]) == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(("unit", "runtime"), [("ms", "61.25"), ("us", "61250"), ("s", "0.06125")])
def test_units_are_converted_to_milliseconds(tmp_path: Path, unit: str, runtime: str) -> None:
    (timing,) = read(tmp_path, f"network,runtime_{unit},high_{unit}\nsmallnet,{runtime},{runtime}\n")
    assert timing.runtime_ms == timing.high_ms == 61.25


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffnetwork,runtime_ms\r\nsmallnet,61.25\r\n",
        "network, runtime_ms\nsmallnet , 61.25\n",
        '\n"network","runtime_ms"\n\n"smallnet","61.25"\n,\n',
        "runtime_ms,runs,network,device\n61.25,,smallnet,\n",
    ],
    ids=["of a spreadsheet", "with blanks", "with empty lines", "with empty cells"],
)
def test_how_programs_and_people_write_csv_does_not_matter(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == (Timing("smallnet", 61.25),)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("network", r"mine\.csv has no column runtime_ms; its columns are network\. Add it"),
        ("runtime_ms", r"mine\.csv has no column network"),
        ("network,runtime", r'mine\.csv misses the unit of its column "runtime"; call it runtime_ms, runtime_us'),
        ("network,latency", r'unit of its column "latency"'),
        ("network,time", r'unit of its column "time"'),
        ("network,runtime_ms,delegat", r'unknown column "delegat"; known: network, .* Did you mean "delegate"\?'),
        ("network,runtime_ms,latency", r'unknown column "latency"'),
        ("network,runtime_ms,x", r'unknown column "x"; known: .*date\.$'),
        ("network,runtime_ms,runtime_us", r"gives the column runtime_ms twice"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, header: str, sentence: str) -> None:
    with pytest.raises(MeasurementError, match=sentence):
        read(tmp_path, f"{header}\n" + ",".join("1" for _ in header.split(",")) + "\n")


def test_beside_a_time_runtime_is_the_software(tmp_path: Path) -> None:
    (timing,) = read(tmp_path, "network,runtime_ms,runtime\nsmallnet,61.25,LiteRT\n")
    assert timing.conditions.runtime == "LiteRT"


@pytest.mark.parametrize("runtime", ["-61", "0", "nan", "NaN", "inf", "", "61 ms", "61,5", "1_000", "1e999"])
def test_a_time_that_is_no_positive_number_is_refused_with_its_line(tmp_path: Path, runtime: str) -> None:
    with pytest.raises(MeasurementError, match=rf'line 3: runtime_ms must be a finite number > 0, got "{runtime}"'):
        read(tmp_path, f'network,runtime_ms\ncsanet,90\nsmallnet,"{runtime}"\n')


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("network", "", r'network must be a string, got ""'),
        ("statistic", "mode", r'statistic must be one of median, mean, pair_ratio, minimum, got "mode"'),
        ("low_ms", "-1", r"low_ms must be a finite number > 0"),
        ("low_ms", "70", r"low_ms, 70, must not be above high_ms, 64"),
        ("delegated_nodes", "9", r"delegated_nodes, 9, must not be above nodes, 8"),
        ("runs", "0", r"runs must be a whole number ≥ 1"),
        ("runs", "5.5", r"runs must be a whole number ≥ 0"),
        ("threads", "-1", r"threads must be a whole number"),
        ("date", "yesterday", r'date must be a date such as 2026-05-04, got "yesterday"'),
    ],
)
def test_a_wrong_value_is_refused_with_its_column(tmp_path: Path, column: str, value: str, sentence: str) -> None:
    row = {"network": "smallnet", "runtime_ms": "61", "high_ms": "64", "nodes": "8"} | {column: value}
    with pytest.raises(MeasurementError, match=rf"mine\.csv, line 2: {sentence}"):
        read(tmp_path, ",".join(row) + "\n" + ",".join(row.values()) + "\n")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"holds no measurement; give one row per network"),
        (b"\n\n", r"holds no measurement"),
        (b"network,runtime_ms\n", r"holds no measurement"),
        (b"network,runtime_ms\nr\xe9seau,61\n", r"is not UTF-8; save it as CSV in UTF-8"),
        (b"network,runtime_ms\nsmallnet\n", r"line 2 has 1 cells for 2 columns"),
        (b"network,runtime_ms\nsmallnet,61,5\n", r"line 2 has 3 cells for 2 columns; .* quotation marks"),
        (b'network,runtime_ms\n"smallnet,61\n', r"line 2 is no CSV \(unexpected end of data\)"),
    ],
    ids=["empty", "blank", "header only", "Latin-1", "short row", "decimal comma", "torn"],
)
def test_a_file_that_is_no_whole_csv_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(MeasurementError, match=sentence):
        read(tmp_path, content)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"gone\.csv cannot be read \(No such file"):
        read_measurements(tmp_path / "gone.csv")


def test_repeats_under_equal_conditions_become_their_median_with_their_runs_added(tmp_path: Path) -> None:
    text = (
        "network,runtime_ms,low_ms,high_ms,runs,source,date\nsmallnet,60,59,66,50,a.log,2026-05-04\n"
        "csanet,90,,,,,\nsmallnet,64,,,30,b.log,2026-05-06\nsmallnet,61,58,65,20,a.log,2026-05-05\n"
    )
    smallnet, csanet = read(tmp_path, text)
    conditions = Conditions(date="2026-05-06")
    assert smallnet == Timing(
        "smallnet", 61.0, low_ms=58, high_ms=66, runs=100, source="a.log; b.log", conditions=conditions
    )
    assert csanet == Timing("csanet", 90.0)


def test_runs_that_are_not_known_do_not_add_up(tmp_path: Path) -> None:
    (timing,) = read(tmp_path, "network,runtime_ms,runs\nsmallnet,60,50\nsmallnet,61,\n")
    assert timing.runs is None


def test_repeats_that_disagree_by_more_than_a_tenth_are_refused_with_both_lines(tmp_path: Path) -> None:
    text = "network,runtime_ms\nsmallnet,61\ncsanet,90\nsmallnet,60\nsmallnet,{}\n"
    assert len(read(tmp_path, text.format(66))) == 2
    sentence = (
        r"smallnet took 60 ms \(.*mine\.csv, line 4\) and 66\.1 ms \(.*mine\.csv, line 5\) under equal conditions, "
        r"more than 10 % apart"
    )
    with pytest.raises(MeasurementError, match=sentence):
        read(tmp_path, text.format(66.1))


@pytest.mark.parametrize(
    "other",
    [
        replace(SMALLNET, runtime_ms=90, conditions=replace(PHONE, **{name: "other"}))  # type: ignore[arg-type]
        for name in ("device", "delegate", "precision", "flags", "binary_sha256", "runtime_version")
    ]
    + [
        replace(SMALLNET, runtime_ms=90, conditions=replace(PHONE, threads=1)),
        replace(SMALLNET, runtime_ms=90, statistic="mean"),
        replace(SMALLNET, runtime_ms=90, nodes=8, delegated_nodes=6),
    ],
    ids=str,
)
def test_times_under_other_conditions_are_no_repeats(other: Timing) -> None:
    assert merged([("a", SMALLNET), ("b", other)]) == (SMALLNET, other)


def test_what_is_told_twice_was_measured_once() -> None:
    assert merged([("line 2", SMALLNET), ("line 3", SMALLNET)]) == (SMALLNET,)


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out" / "mine.csv"
    assert write_measurements(path, [SMALLNET]) == (SMALLNET,)
    before = path.read_bytes()
    assert write_measurements(path, [SMALLNET]) == (SMALLNET,)  # says the same
    for other in ([], [replace(SMALLNET, network="csanet")], [SMALLNET, replace(SMALLNET, network="csanet")]):
        with pytest.raises(MeasurementError, match=r"mine\.csv exists and holds other measurements; extend it"):
            write_measurements(path, other)
    assert path.read_bytes() == before
    path.write_text("notes of mine", "utf-8")
    with pytest.raises(MeasurementError, match="unknown column"):
        write_measurements(path, [SMALLNET], extend=True)
    assert path.read_text("utf-8") == "notes of mine"


def test_extending_keeps_every_row_and_adds_what_is_new_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("network,runtime_ms\nsmallnet,61\n", "utf-8")
    again = Timing("smallnet", 63.0, runs=50, source="b.log")
    for _ in range(2):
        (held,) = write_measurements(path, [again, again], extend=True)
        assert held.runtime_ms == 62.0
        assert read_measurements(path) == (held,)
    assert [timing for _, timing in parse_measurements(path.read_text("utf-8"), where="")] == [
        Timing("smallnet", 61.0),
        again,
    ]


def test_extending_by_what_disagrees_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    write_measurements(path, [SMALLNET])
    before = path.read_bytes()
    with pytest.raises(MeasurementError, match=r"61\.25 ms \(.*line 2\) and 90 ms \(b\.log\)"):
        write_measurements(path, [replace(SMALLNET, runtime_ms=90.0, source="b.log")], extend=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("wrong", [{"runtime_ms": float("nan")}, {"runtime_ms": -1.0}, {"network": ""}, {"runs": 0}])
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(MeasurementError, match=r"mine\.csv \(not written\), line 2: "):
        write_measurements(tmp_path / "mine.csv", [replace(SMALLNET, **wrong)])
    with pytest.raises(MeasurementError, match="holds no measurement"):
        write_measurements(tmp_path / "mine.csv", [])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(MeasurementError, match=r"mine\.csv cannot be written"):
        write_measurements(tmp_path / "file" / "mine.csv", [SMALLNET])


texts = st.text("aé;,'\"\r\n\t #=", max_size=6).map(str.strip)
times = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
counts = st.none() | st.integers(1, 10**6)
ordered = st.tuples(times, times).map(sorted) | st.just((None, None))
dates = st.just("") | st.datetimes().map(lambda d: d.isoformat())
condition_texts = {field.name: texts for field in fields(Conditions) if field.name not in ("threads", "date")}
timings = st.builds(
    lambda interval, nodes, **others: Timing(
        low_ms=interval[0], high_ms=interval[1], nodes=nodes and nodes + 1, delegated_nodes=nodes, **others
    ),
    interval=ordered,
    nodes=counts,
    network=texts.filter(bool),
    runtime_ms=times,
    statistic=st.sampled_from(STATISTICS),
    runs=counts,
    model=texts,
    model_sha256=texts,
    partitions=counts,
    source=texts,
    conditions=st.builds(Conditions, **condition_texts, threads=counts, date=dates),
)


@given(st.lists(timings, min_size=1))
def test_any_timings_come_back_from_csv_to_the_last_bit(timings: list[Timing]) -> None:
    assert [timing for _, timing in parse_measurements(to_csv(timings), where="")] == timings


@given(st.lists(st.floats(100, 110), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_the_order_of_repeats_does_not_matter(runtimes: list[float], random: Any) -> None:
    placed = [(f"line {n}", Timing("smallnet", ms, runs=10)) for n, ms in enumerate(runtimes)]
    (one,) = merged(placed)
    random.shuffle(placed)
    assert merged(placed) == (one,)
    assert min(runtimes) <= one.runtime_ms <= max(runtimes)
