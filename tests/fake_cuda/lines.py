"""Which lines of some files run, in all threads; what there is to run is what the compiler gives a line of its own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


class Lines:
    """Notes the lines that run of the files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = f"{folder}/"
        self.seen: dict[str, set[int]] = {}
        self.is_started = False

    def start(self) -> None:
        """Note them in this thread, and in those that Python starts from now on."""
        self.is_started = True
        threading.settrace(self._call)
        sys.settrace(self._call)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Note none in this thread meanwhile, and all afterwards, also in a thread of the backward pass.

        Inside an operator runs much of Python, and none of it is in the folder.
        """
        sys.settrace(None)
        try:
            yield
        finally:
            sys.settrace(self._call)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(self._folder):
            return None
        add = self.seen.setdefault(name, set()).add
        add(frame.f_lineno)

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            if event == "line":
                add(frame.f_lineno)
            return line

        return line


def lines_of(path: Path) -> set[int]:
    """Return the lines of a file that can run."""
    code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
    return {line for one in _all_code(code) for _, _, line in one.co_lines() if line}


def _all_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    inner: Iterable[Any] = code.co_consts
    for constant in inner:
        if isinstance(constant, CodeType):
            yield from _all_code(constant)
