"""Nothing that came from outside does anything to a terminal, and nothing is written by half."""

import io
import json
import shlex
from pathlib import Path

import pytest

from nas.cli.console import Console, plain, text_of, typed, write_whole
from nas.cli.tables import Column, print_json, print_rows
from search_spaces.errors import UsageError
from search_spaces.system.named_files import expanded
from search_spaces.system.printable import json_printable, printable

HOSTILE = (
    "\x1b]0;title\x07", "a\x1b[2Jb", "\u202egnp.exe", "\x9b31m", "\u2066a\u2069", "a\rb", "\udcff", "\u200bx",
    "\ufeffx",
    "[/]", "[/x]", "[link=file:///etc]x[/link]", "[red", "red]", "[[bold]]", "\\[bold]", "[blink]x", "[@click=quit]x",
)  # fmt: skip
HIDDEN = set(map(chr, [*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0xFEFF]))


def shown(line: str, *, escaped: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=False, width=200)
    console.print(f"[bold]{plain(line) if escaped else line}[/] end", highlight=False)
    return file.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_and_does_nothing(name: str) -> None:
    for escaped in (True, False):
        output = shown(name, escaped=escaped)
        assert output.endswith("end\n")
        assert not HIDDEN & set(output.removesuffix("\n"))
    assert shown(name, escaped=True) == f"{printable(name)} end\n"


def test_words_of_any_script_stay_as_they_are() -> None:
    for name in ("数据集", "写真raw", "عکس", "Ünïcødé", "émoji 👩‍👩‍👧", "αβγ"):
        assert printable(name) == name
        assert json_printable(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_json_and_tables_hold_nothing_hidden(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": name})
    output = capsys.readouterr().out
    assert not HIDDEN & set(output.replace("\n", ""))
    assert json.loads(output) == {"name": name}
    for form in ("csv", "table"):
        print_rows(
            [{"name": name}], [Column("name", lambda r: r["name"], right=False)], output_format=form, console=Console()
        )
        assert not HIDDEN & set(capsys.readouterr().out.replace("\n", ""))


def test_our_own_styles_are_markup_and_others_are_text() -> None:
    assert text_of("[red]no[/] [x] [/y]") == "no [x] [/y]"


class Unbuffered(io.RawIOBase):
    """Takes a few bytes at a time, as an unbuffered stream does, and none once it is full."""

    def __init__(self, room: int) -> None:
        self.room, self.taken = room, b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        if len(self.taken) >= self.room:
            raise OSError(28, "No space left on device")
        some = bytes(data)[: min(7, self.room - len(self.taken))]  # type: ignore[call-overload]
        self.taken += some
        return len(some)


def test_what_an_unbuffered_stream_leaves_over_is_written_too_or_told() -> None:
    raw = Unbuffered(room=1000)
    write_whole(io.TextIOWrapper(raw, write_through=True), "x" * 100)
    assert raw.taken == b"x" * 100
    with pytest.raises(UsageError, match="No space left on device"):
        write_whole(io.TextIOWrapper(Unbuffered(room=50), write_through=True), "x" * 100)


def test_standard_output_on_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full, pytest.raises(UsageError, match="Could not write to"):
        write_whole(full, "x" * 100_000)


def test_a_command_stays_in_one_piece_on_a_narrow_terminal() -> None:
    shown = io.StringIO()
    command = "Look:   isp-nas pareto --study " + "a-long-name-" * 12 + " --plot front.png"
    Console(file=shown, width=80).print_command(command)
    assert shown.getvalue() == f"{command}\n"


@pytest.mark.parametrize("name", ["-x", "--help", "~", "~root", "a b", "it's", "$HOME", "[bold]x", "数据", "plain"])
def test_a_path_in_a_command_to_copy_is_that_path_to_shell_and_command(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    out = io.StringIO()
    Console(file=out).print_command(f"isp-nas data check {typed(name)}")
    word = shlex.split(out.getvalue())[-1]
    assert not word.startswith("-")
    assert (tmp_path / expanded(word)).samefile(tmp_path / name)
