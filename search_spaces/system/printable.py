"""Text from outside, names of files, layers and people, made fit for a terminal, a page or a log.

A name may hold escape sequences that move the cursor, marks that turn the reading direction, or bytes that are no
text. Each is shown as its number, `\\x1b` or `\\u202e`, and nothing else is changed.
"""

import unicodedata

# Cc: control characters; Cf: invisible ones, among them marks of direction; Cs: surrogates, bytes that are no UTF-8;
# Co and Cn: without a meaning; Zl and Zp: ends of lines and paragraphs.
_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # parts of ordinary words in Persian and Hindi, and of emoji


def printable(text: object, *, keep: str = "") -> str:
    """Return a text with what is no visible character shown by its number; `keep` holds those to be left, as "\\n"."""
    characters = str(text)
    if characters.isascii() and characters.isprintable():
        return characters
    return "".join(_shown(each) if _is_hidden(each) and each not in keep else each for each in characters)


def is_text(name: str) -> bool:
    """Tell whether a name can be written to a file: one of bytes that are no UTF-8 has surrogates in their place."""
    return not any("\ud800" <= each <= "\udfff" for each in name)


def json_printable(text: str) -> str:
    """Return JSON, which may hold line ends, with hidden characters inside of its strings as JSON escapes."""
    if text.isascii():
        return text
    return "".join(_json_escape(each) if not each.isascii() and _is_hidden(each) else each for each in text)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _CATEGORIES and character not in _JOINERS


def _shown(character: str) -> str:
    return character.encode("unicode_escape", errors="backslashreplace").decode("ascii")


def _json_escape(character: str) -> str:
    number = ord(character)
    if number <= 0xFFFF:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
