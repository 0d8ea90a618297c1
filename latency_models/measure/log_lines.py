"""Strip a log's lines of the prefixes of other programs: severity, Android's logcat, Python's logging."""

import re

# What `logcat -v` puts before a line, in the forms time, brief and tag ("07-08 15:34:26.201 I/tflite  ( 5395): ",
# "I/tflite  ( 5395): ", "I/tflite  : "), threadtime, with a zone or in seconds since 1970 or since the phone was
# started ("05-30 15:16:45.362 +0200  3380  3380 I tflite  : ", "1527693405.362  3380  3380 I tflite  : "), process and
# thread ("I( 5395) ", "I( 5395: 5402) "), and Android Studio, old and new ("2021-03-02 11:07:41.204 20711-20711/org.app
# I/tflite: ", "… 20711-20711 tflite   org.app   I  "), and the latter with columns hidden ("11:07:41.204  I  ").
_TIME = r"(?:(?:(?:\d{4}-)?\d\d-\d\d )?\d\d:\d\d:\d\d\.\d+|\d{1,11}\.\d{3,9})(?: [+-]\d{4})?"
_TAG = r"[^:(\s][^:(]*?"
_LOGCAT = re.compile(
    rf"^\s*(?:{_TIME}\s+)?(?:\d+-\d+(?:/\S+)?\s+)?[VDIWEF]/{_TAG}\s*(?:\(\s*\d+\))?: ?"
    rf"|^\s*{_TIME}(?:\s+[\w.]+)?(?:\s+\d+){{1,3}}\s+[VDIWEF]\s+[^:]*?\s*: ?"
    rf"|^\s*{_TIME}\s+\d+-\d+\s+{_TAG}\s{{2,}}\S+\s+[VDIWEF]  ?"
    rf"|^\s*{_TIME}(?:\s+\S+){{0,3}}?\s+[VDIWEF]  "
    r"|^[VDIWEF]\(\s*\d+(?::\s*(?:\d+|0x[\da-f]+))?\) {1,2}"
)
# The form `long` has a line of its own before each message: "[ 07-08 15:34:26.201  5395: 5402 I/tflite   ]".
_LONG = re.compile(rf"^\s*\[ {_TIME}\s+(?:[\w.]+\s+)?\d+:\s*\d+ [VDIWEF]/.*\]\s*$")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
# What the form `process` puts after a line: "  (tflite)".
_PROCESS = re.compile(r"^[VDIWEF]\(\s*\d+\) ")
_AFTER = re.compile(r"\s{2}\([\w.:-]+\s*\)$")
_PYTHON = re.compile(r"^\s*\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ [\w.]+: ")
# "INFO: ", "INFO: [litert/tools/benchmark_litert_model.h:94] "
_SEVERITY = re.compile(r"^\s*(?:VERBOSE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL): ?(?:\[[^\]\s]+:\d+\] ?)?")


def plain_lines(text: str) -> list[str]:
    """Return the lines of `text` as the tool itself wrote them; a table's tabs stay."""
    uncoloured = (_COLOUR.sub("", line) for line in text.splitlines())
    return [_plain(line) for line in uncoloured if not _LONG.match(line)]


def _plain(line: str) -> str:
    if _PROCESS.match(line):
        line = _AFTER.sub("", line.rstrip())
    for prefix in (_LOGCAT, _PYTHON, _SEVERITY):
        line = prefix.sub("", line, count=1)
    return line.rstrip()
