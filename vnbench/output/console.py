"""Plain lines for people, as they are: not wrapped, not coloured, no markup read into them."""

from __future__ import annotations

from rich.console import Console

TABLE_WIDTH = 120
"""Characters of a table where stdout is no terminal and tells no width."""


def stderr_console() -> Console:
    """Return the console of progress and messages."""
    return Console(stderr=True)


def stdout_console() -> Console:
    """Return the console of tables; where no terminal tells a width, it has TABLE_WIDTH."""
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_WIDTH)


def say(console: Console, line: str) -> None:
    """Print one line."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
