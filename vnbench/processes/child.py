"""The entry point of a child process: it starts a session, sends output to a file, and ends when the parent ends.

A parent that is killed cannot end its children. Neither the forkserver nor PR_SET_PDEATHSIG helps: to the kernel, the
child's parent is the forkserver. So a thread in the child watches the parent's sentinel and kills the whole process
group, loader workers included.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

TO_IMPORT = "VNBENCH_IMPORTS"
"""Environment variable that names the modules which the forkserver imports for all children."""

Entry = Callable[[str], str]
"""The work of a child: takes a payload and returns an answer, both as text."""


def child_main(entry: str, payload: str, answer_pipe: Connection, log_path: str) -> None:
    """Run ``module:function`` on the payload and write its answer and a newline to the pipe."""
    os.setsid()
    _redirect_output(log_path)
    # The parent removes the log's folder after this process, however it ends; so temporary files are removed too.
    tempfile.tempdir = str(Path(log_path).parent)
    _offer_to_the_oom_killer()
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    answer = resolve(entry)(payload)
    _write_all(answer_pipe.fileno(), answer.encode() + b"\n")


def resolve(entry: str) -> Entry:
    """Return the function that ``package.module:function`` names."""
    module_name, _, function_name = entry.partition(":")
    function: Entry = getattr(importlib.import_module(module_name), function_name)
    return function


def _redirect_output(log_path: str) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        log = os.open(log_path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        os._exit(1)  # the parent was interrupted while it started this child and has already removed the folder
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)


def _offer_to_the_oom_killer() -> None:
    # If a trial fills the host's memory, the kernel should kill the trial, not its parent.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("900", encoding="utf-8")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
