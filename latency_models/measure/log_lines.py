"""Strip a log's lines of the prefixes of other programs: severity, Android's logcat, Python's logging."""

import re

# "07-08 15:34:26.201 I/tflite  ( 5395): ", "05-30 15:16:45.362  3380  3380 I tflite  : ", "I/tflite  ( 5395): "
_LOGCAT = re.compile(
    r"^\s*(?:(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+)?[VDIWEF]/[^:(]+\(\s*\d+\): ?"
    r"|^\s*(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d+(?:\s+\d+){1,3}\s+[VDIWEF]\s+[^:]*?\s*: ?"
)
_PYTHON = re.compile(r"^\s*\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ [\w.]+: ")
# "INFO: ", "INFO: [litert/tools/benchmark_litert_model.h:94] "
_SEVERITY = re.compile(r"^\s*(?:VERBOSE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL): ?(?:\[[^\]\s]+:\d+\] ?)?")


def plain_lines(text: str) -> list[str]:
    """Return the lines of `text` as the tool itself wrote them; a table's tabs stay."""
    return [_plain(line) for line in text.splitlines()]


def _plain(line: str) -> str:
    for prefix in (_LOGCAT, _PYTHON, _SEVERITY):
        line = prefix.sub("", line, count=1)
    return line.rstrip()
