"""Plain lines for people, as they are: not wrapped, not coloured, no markup read into them."""

from __future__ import annotations

from rich.console import Console


def stderr_console() -> Console:
    """Return the console of progress and messages."""
    return Console(stderr=True)


def say(console: Console, line: str) -> None:
    """Print one line."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
