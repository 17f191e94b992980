"""Report an unexpected error: one line on the terminal, details in a file."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from vnbench.processes.user_cache import temporary_cache, user_cache

DEBUG = "VNBENCH_DEBUG"
"""Environment variable that shows tracebacks on the terminal."""

MAX_MESSAGE_CHARACTERS = 200


def failure_lines(error: BaseException) -> list[str]:
    """Return what to print about an error: one line, after the traceback if DEBUG is set; write details to a file."""
    details = "".join(traceback.format_exception(error))
    message = " ".join(str(error).split())[:MAX_MESSAGE_CHARACTERS]
    told = f"{type(error).__name__}: {message}" if message else type(error).__name__
    is_import = isinstance(error, ImportError)
    what = "a package cannot be imported, reinstall it" if is_import else "this is an error of vnbench itself"
    line = f"vnbench: {what} ({told}); {keep_details(details)}"
    return [details, line] if os.environ.get(DEBUG) else [line]


def keep_details(details: str) -> str:
    """Write details that are too long for a terminal to a new file; return a phrase that names the file."""
    for place in (user_cache() / "errors", temporary_cache() / "errors"):
        with suppress(OSError):
            return f"details are in {_kept(details, folder=place)}"
    return f"no file for details can be written; set {DEBUG}=1 to see them"


def _kept(details: str, *, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    about = [shlex.join(sys.argv), f"Python {sys.version}", platform.platform(), "", details]
    path.write_text("\n".join(about) + "\n", encoding="utf-8", errors="backslashreplace")
    return path
