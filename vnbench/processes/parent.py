"""The parent's side of one child process: start it, watch the clock, read its answer, see it end.

Children come from a forkserver that has imported torch and never touched CUDA: a fresh process in milliseconds, and a
parent that stays free of torch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from vnbench.errors import ChildError, InputError
from vnbench.processes.child import TO_IMPORT, child_main

MAX_ANSWER_BYTES = 64 * 2**20
"""Longest answer that is read: a record of a thousand steps has 0.3 MB; more than this is no record."""

EXIT_GRACE_S = 10.0
"""Time for a child to end after its answer; loader workers are joined in it."""

LOG_TAIL_CHARACTERS = 4000

MAX_FOLDER_BYTES = 60
"""Longest temporary folder for sockets: Linux takes 107 bytes, of which multiprocessing adds up to 40."""

PRELOAD = ("torch", "torch._dynamo", "vnbench.trial.entry", "vnbench.trial.instruments.environment")
"""Modules that the forkserver imports once for all children. An optimizer imports torch._dynamo when it is made, 1.3 s
in each child otherwise. None of them may ask CUDA anything on import: a process forked after that could not use it."""


SPIN_COUNT = "3000"
"""Turns for which a thread of libgomp waits for the others before it sleeps: a hundredth of its default. Beside a
program that takes a core, the scheduler puts two threads on the other one, and each wait for the default count lasts
until the time slice ends: a pass over a small canvas took 5.7 s then, 0.5 s with this count, 0.05 s alone. On quiet
cores no difference was seen (0.6 and 4.6 Mpx, three processes each in turn)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildOutcome:
    """How a child process ended and what it said."""

    answer: bytes | None
    """Its answer without the line end; None if no whole line came."""
    num_answer_bytes: int
    """Bytes that came on the pipe, whole or not."""
    exit_code: int | None
    """Its exit code; the negative signal number if a signal ended it; None if it had to be killed."""
    is_timeout: bool
    """Whether it ran past its time limit and was killed for it."""
    is_oom_killed: bool
    """Whether the kernel's out-of-memory killer was at work while a SIGKILL ended it."""
    log_tail: str
    """The end of what it printed."""
    elapsed_s: float
    """Wall clock from start to end."""


def start_server(preload: Sequence[str] = PRELOAD) -> None:
    """Start the process that children are forked from, if there is none yet; it imports while the caller goes on.

    Ctrl-C in a terminal is for this process alone: the server, and what is forked from it, leave it waiting for ever.

    Raises:
        InputError: the working folder is gone, or no file can be written in the temporary one.
    """
    _check_folders()
    # Both run code given on their command line, for which Python looks into the working folder first.
    os.environ["PYTHONSAFEPATH"] = "1"
    multiprocessing.get_context("forkserver").set_forkserver_preload(["vnbench.processes.server"])
    os.environ[TO_IMPORT] = ",".join(preload)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read when libgomp is loaded, which comes with torch
    # Python starts this one before the server, if it has to, and lets interrupts through again then.
    multiprocessing.resource_tracker.ensure_running()
    # A process keeps the mask of the one that started it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _short_folder():
            multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.environ.pop(TO_IMPORT)


def _check_folders() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(
            "working folder", allowed=f"it is gone ({error.strerror})", remedy="change to one that is there"
        ) from error
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise InputError(
            "TMPDIR",
            os.environ.get("TMPDIR", ""),
            allowed="no file can be written there, nor in /tmp",
            remedy="make room, or name a folder that has some",
        ) from error


@contextlib.contextmanager
def _short_folder() -> Iterator[None]:
    """Let multiprocessing put its sockets into a folder whose name leaves room for theirs.

    It chooses once, for this process and what it starts.
    """
    given = tempfile.gettempdir()
    places = [place for place in ("/tmp", "/var/tmp", "/dev/shm") if os.access(place, os.W_OK | os.X_OK)]
    if len(os.fsencode(given)) > MAX_FOLDER_BYTES and places:
        tempfile.tempdir = places[0]
    try:
        yield
    finally:
        tempfile.tempdir = given


def run_child(
    entry: str,
    payload: str,
    *,
    timeout_s: float,
    preload: Sequence[str] = PRELOAD,
) -> ChildOutcome:
    """Run ``module:function`` on the payload in a fresh process and return how it went.

    The deadline is on the process, not on the pipe: a child that closes the pipe and lives on is killed like any other.
    Whatever ends this function, an interrupt included, ends the child and its whole process group.

    Raises:
        InputError: as ``start_server``.
        ChildError: no process can be started.
    """
    context = multiprocessing.get_context("forkserver")
    start_server(preload)
    with tempfile.TemporaryDirectory(prefix="vnbench-", ignore_cleanup_errors=True) as directory:
        log_path = Path(directory) / "child.log"
        log_path.touch()
        return _run(context, entry, payload, log_path, timeout_s=timeout_s)


def _run(
    context: ForkServerContext,
    entry: str,
    payload: str,
    log_path: Path,
    *,
    timeout_s: float,
) -> ChildOutcome:
    reader, writer = context.Pipe(duplex=False)
    start = time.monotonic()
    kills_before = _oom_kill_count()
    # Not a daemon: a daemon process may not have children of its own, and a trial has loader workers.
    process = context.Process(target=child_main, args=(entry, payload, writer, str(log_path)), daemon=False)
    answer = bytearray()
    try:
        _start(process)
        writer.close()
        os.set_blocking(reader.fileno(), False)
        is_timeout = _watch(process, reader, answer, deadline=start + timeout_s)
        exit_code = process.exitcode
    finally:
        _end_group(process)
        reader.close()
    line, end, _ = bytes(answer).partition(b"\n")
    return ChildOutcome(
        answer=line if end else None,
        num_answer_bytes=len(answer),
        exit_code=exit_code,
        is_timeout=is_timeout,
        is_oom_killed=exit_code == -signal.SIGKILL and _oom_kill_count() > kills_before,
        log_tail=log_path.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARACTERS:].strip(),
        elapsed_s=time.monotonic() - start,
    )


def _start(process: ForkServerProcess) -> None:
    try:
        process.start()
    except (EOFError, OSError) as error:
        raise ChildError(f"no process can be started: the one that starts them ended ({error!r})") from error


def _watch(
    process: ForkServerProcess,
    reader: Connection,
    answer: bytearray,
    *,
    deadline: float,
) -> bool:
    """Collect the answer until the process ends; return whether it ran past the deadline."""
    is_open = True
    while True:
        waited: list[int | Connection] = [process.sentinel, reader] if is_open else [process.sentinel]
        remaining = deadline - time.monotonic()
        ready = multiprocessing.connection.wait(waited, timeout=max(0.0, remaining))
        if is_open:
            is_open = _drain(reader.fileno(), answer)
            if answer.endswith(b"\n") or len(answer) > MAX_ANSWER_BYTES:
                # It has said everything: what is left to it is to end, within the grace and its own deadline.
                process.join(min(EXIT_GRACE_S, max(0.0, deadline - time.monotonic())))
                return False
        if process.sentinel in ready:
            return False
        if time.monotonic() >= deadline:
            return True


def _drain(descriptor: int, answer: bytearray) -> bool:
    """Read what is there without waiting; return whether more can come."""
    while len(answer) <= MAX_ANSWER_BYTES:
        try:
            chunk = os.read(descriptor, 2**20)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        answer += chunk
    return False


def _end_group(process: ForkServerProcess) -> None:
    if process.pid is None:
        return
    # The child is its group's leader once it has called setsid; before that there is no such group, only the process.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.exitcode is None:
        process.kill()
    process.join()
    process.close()


def _oom_kill_count() -> int:
    try:
        lines = Path("/proc/vmstat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
