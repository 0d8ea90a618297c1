"""Mutations of files for fuzzing, how many inputs are tried, and what every command must hold.

ISP_NAS_FUZZ_SCALE says how many inputs are tried, in shares of what CI tries; ISP_NAS_FUZZ_COUNTS names a file that
gets a line per test with the number of inputs that it tried, ISP_NAS_FUZZ_FAILURES one that gets the traceback of every
failure: of one that the same input does not repeat, Hypothesis tells no more than that.
"""

import atexit
import json
import os
import struct
import time
import tomllib
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import tomli_w
from flow import in_process
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from search_spaces.system.machine import peak_memory_mb

SCALE = float(os.environ.get("ISP_NAS_FUZZ_SCALE", "1"))
CI_SHARE = 0.4  # of the counts at each test: 2400 inputs, three quarters of a minute of a core
LONGEST_S = 10  # of this process's own time: others may have the machine
HANGS_S = 120
MOST_MB = 2000
ODD_NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1)
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 1e308, -1e308, 2**63, 10**400, "", "\x1b[2J", "[/red]", "\ud800", "a" * 5000, [], {}, [[]],
    {"a": {}}, float("nan"), float("inf"),
)  # fmt: skip
ODD_NAMES = (b"", b"\x1b]0;x\x07", b"[/red]", b"\xff\xfe", "\u202ex".encode(), b"a" * 999)
numbers = st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(0, 2**32 - 1))


def tries(count: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=max(1, round(count * SCALE * CI_SHARE)),
        deadline=None,
        derandomize=SCALE == 1,  # CI tries the same inputs each time, a longer run others: see --hypothesis-seed
        database=None,
        phases=[Phase.generate],  # shrinking takes more runs of the command than finding
        suppress_health_check=list(HealthCheck),
    )


def holds(*arguments: object) -> CompletedProcess[str]:
    """Run a command and fail unless it ends as it should."""
    count()
    try:
        return _held(*arguments)
    except BaseException:
        if path := os.environ.get("ISP_NAS_FUZZ_FAILURES"):
            with Path(path).open("a") as file:
                file.write(f"{os.environ.get('PYTEST_CURRENT_TEST', '')}\n{arguments}\n{traceback.format_exc()}\n")
        raise


def _held(*arguments: object) -> CompletedProcess[str]:
    begun, own, before_mb = time.monotonic(), time.process_time(), peak_memory_mb() or 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # as the command does; pytest makes errors of them again
        done = in_process(*arguments)
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    shown = done.stderr.replace("\n", "") + done.stdout.replace("\n", "")
    assert shown.isprintable() or all(each.isprintable() or each in "\u200c\u200d" for each in shown), repr(shown)
    assert done.returncode == 0 or done.stderr.strip() or done.stdout.strip(), "a refusal without a reason"
    assert time.process_time() - own < LONGEST_S
    assert time.monotonic() - begun < HANGS_S
    assert (peak_memory_mb() or 0) - before_mb < MOST_MB  # other tests have used this process, too
    return done


_tried: Counter[str] = Counter()


def count() -> None:
    """Note that the test at work tries another input."""
    _tried[os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")] += 1


@atexit.register
def _write_counts() -> None:
    path = os.environ.get("ISP_NAS_FUZZ_COUNTS")
    if path and _tried:
        with Path(path).open("a") as file:
            file.writelines(f"{json.dumps({'test': test, 'inputs': number})}\n" for test, number in _tried.items())


# Bytes


@st.composite
def flipped(draw: st.DrawFn, content: bytes) -> bytes:
    """Change, cut, double or leave out some bytes."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        how = draw(st.sampled_from(("flip", "word", "cut", "zero", "drop", "double")))
        if how == "flip":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "word":
            data[at : at + 4] = struct.pack("<I", draw(numbers))[: len(data) - at]
        elif how == "cut":
            del data[at:]
        elif how == "zero":
            length = draw(st.integers(1, 64))
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif how == "drop":
            del data[at : at + draw(st.integers(1, 64))]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


# Texts


@st.composite
def manifest(draw: st.DrawFn, text: str) -> bytes:
    """Change values and keys of JSON, or its bytes; nest it too deeply."""
    how = draw(st.sampled_from(("value", "value", "key", "twin", "bytes", "deep")))
    if how == "bytes":
        return draw(flipped(text.encode()))
    if how == "deep":
        return b'{"raw": ' + b"[" * draw(st.sampled_from((90, 500, 900, 5000, 100_000)))
    changed = draw(_changed(json.loads(text), "key" if how == "key" else "value"))
    encoded = json.dumps(changed).encode()
    return encoded[:-1] + b", " + encoded[1:] if how == "twin" and isinstance(changed, dict) else encoded


@st.composite
def toml(draw: st.DrawFn, text: str) -> bytes:
    """Change values and keys of TOML, or its bytes; nest it too deeply."""
    how = draw(st.sampled_from(("value", "value", "key", "bytes", "deep")))
    if how == "bytes":
        return draw(flipped(text.encode()))
    if how == "deep":
        return text.encode() + b"\nx = " + b"[" * draw(st.sampled_from((90, 500, 900, 5000, 100_000)))
    try:
        return tomli_w.dumps(draw(_changed(tomllib.loads(text), how))).encode()
    except (TypeError, ValueError):  # TOML has no null, and no text that is no UTF-8
        return draw(flipped(text.encode()))


@st.composite
def _changed(draw: st.DrawFn, data: Any, how: str) -> Any:
    """Set or leave out one value, wherever it stands."""
    at = data
    while draw(st.booleans()):
        inner = [key for key in _keys(at) if isinstance(at[key], dict | list) and at[key]]
        if not inner:
            break
        at = at[draw(st.sampled_from(inner))]
    key = draw(st.sampled_from(_keys(at)))
    if how == "key":
        del at[key]
    else:
        at[key] = draw(st.sampled_from(ODD_VALUES))
    return data


def _keys(data: Any) -> list[Any]:
    return sorted(data) if isinstance(data, dict) else list(range(len(data)))


@st.composite
def lines(draw: st.DrawFn, content: bytes) -> bytes:
    """Change the lines of JSON: their values, order and number, their ends, or some bytes."""
    how = draw(st.sampled_from(("line", "line", "drop", "double", "swap", "carriage return", "no end", "bytes")))
    if how == "bytes":
        return draw(flipped(content))
    if how == "carriage return":
        return content.replace(b"\n", b"\r\n")
    if how == "no end":
        return content.rstrip(b"\n")
    parts = content.splitlines(keepends=True)
    at, other = (draw(st.integers(0, len(parts) - 1)) for _ in range(2))
    if how == "line":
        parts[at] = draw(manifest(parts[at].decode())) + b"\n"
    elif how == "drop":
        del parts[at]
    elif how == "double":
        parts.insert(other, parts[at])
    else:
        parts[at], parts[other] = parts[other], parts[at]
    return b"".join(parts)
