"""Plain lines for people, as they are: not wrapped, not coloured, no markup read into them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

TABLE_WIDTH = 120
"""Characters of a table where stdout is no terminal and tells no width."""

TABLE_HEIGHT = 25
"""Lines of the console of tables; no table asks for them."""


def stderr_console() -> Console:
    """Return the console of progress and messages."""
    return Console(stderr=True)


def stdout_console() -> Console:
    """Return the console of tables, as wide as COLUMNS says, or else as the terminal, and without one TABLE_WIDTH."""
    # Both are told, because rich takes a dumb terminal for 80 columns whatever its width.
    return Console(width=_known_width() or TABLE_WIDTH, height=TABLE_HEIGHT)


def _known_width() -> int:
    """Return the width that COLUMNS says, or the terminal has; 0 where neither tells."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 0


def show_page(markdown: str) -> None:
    """Show a page on stdout, laid out for a terminal; elsewhere its Markdown, as it is."""
    console = stdout_console()
    if console.is_terminal:
        from rich.markdown import Markdown  # which takes as long to import as all else that a message needs

        console.print(Markdown(markdown))
    else:
        sys.stdout.write(f"{markdown.rstrip()}\n")


def tell(lines: Iterable[str]) -> None:
    """Print lines on stdout, broken between words where a width is known."""
    stdout_console().print(Text("\n".join(lines)), soft_wrap=not _known_width())


def say(console: Console, line: str) -> None:
    """Print one line."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
