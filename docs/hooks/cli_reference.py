"""Fill the page of the commands from `isp-nas --help` when MkDocs builds the site."""

import subprocess
import sys
from typing import Any

PAGE = "reference/cli.md"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Append what Typer writes about every command to the page of the commands; leave other pages as they are."""
    if page.file.src_uri != PAGE:
        return markdown
    command = [sys.executable, "-m", "typer", "nas.cli.main", "utils", "docs", "--name", "isp-nas"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    _, _, reference = done.stdout.partition("\n")  # the page has its own title
    return f"{markdown}\n{reference}"
