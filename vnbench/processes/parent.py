"""Run a child process from the parent: start it, enforce its deadline, read its answer, end it.

A forkserver that has imported torch but never touched CUDA forks the children. So a fresh process takes milliseconds,
and the parent never imports torch.
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
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from vnbench.errors import ChildError, InputError
from vnbench.processes.child import TO_IMPORT, child_main

MAX_ANSWER_BYTES = 64 * 2**20
"""Longest answer that is read. A record of a thousand steps has 0.3 MB; anything longer than this is not a record."""

EXIT_GRACE_S = 10.0
"""Seconds that a child may take to end after its answer; it joins its loader workers in that time."""

LOG_TAIL_CHARACTERS = 4000

MAX_FOLDER_BYTES = 60
"""Longest path of the temporary folder for sockets: Linux allows 107 bytes, and multiprocessing adds up to 40."""

PRELOAD = ("torch", "torch._dynamo", "vnbench.trial.entry", "vnbench.trial.instruments.environment")
"""Modules that the forkserver imports once for all children. Creating an optimizer imports torch._dynamo, which would
otherwise take 1.3 s in each child. No module may call CUDA on import: a process forked after that could not use it."""


SPIN_COUNT = "3000"
"""Turns for which a libgomp thread spins before it sleeps: a hundredth of the default. If another program takes one of
two cores, the scheduler puts two threads on the other core, and each wait with the default count lasts until the time
slice ends. A pass over a small canvas then took 5.7 s; with this count 0.5 s; without the other program 0.05 s. On idle
cores no difference was seen (0.6 and 4.6 Mpx, three processes each in turn)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildOutcome:
    """How a child process ended, and its answer."""

    answer: bytes | None
    """Its answer without the newline; None if no complete line arrived."""
    num_answer_bytes: int
    """Bytes received on the pipe, whether the answer is complete or not."""
    exit_code: int | None
    """Its exit code; the negative signal number if a signal ended it; None if vnbench had to kill it."""
    is_timeout: bool
    """Whether it exceeded its time limit and was killed."""
    is_oom_killed: bool
    """Whether SIGKILL ended it and the kernel's out-of-memory killer acted meanwhile."""
    log_tail: str
    """The last LOG_TAIL_CHARACTERS of its output."""
    elapsed_s: float
    """Wall-clock seconds from start to end."""


_STARTING = threading.Lock()
"""Held while the forkserver is started: threads may each wait for a child."""


def start_server(preload: Sequence[str] = PRELOAD) -> None:
    """Start the forkserver if it does not run yet; it imports its modules while the caller goes on.

    Only this process handles Ctrl-C: SIGINT stays blocked in the forkserver and its children.

    Raises:
        InputError: the working folder was deleted, or no file can be written in the temporary folder.
    """
    with _STARTING:
        _start_server(preload)


def _start_server(preload: Sequence[str]) -> None:
    _check_folders()
    # The two processes below run code from their command line; Python would search the working folder first.
    os.environ["PYTHONSAFEPATH"] = "1"
    multiprocessing.get_context("forkserver").set_forkserver_preload(["vnbench.processes.server"])
    os.environ[TO_IMPORT] = ",".join(preload)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # libgomp reads it when torch loads it
    # Start the tracker here: otherwise Python starts it before the server and then unblocks SIGINT.
    multiprocessing.resource_tracker.ensure_running()
    # A new process inherits the signal mask.
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
            "working folder", allowed=f"was deleted ({error.strerror})", remedy="change to a folder that exists"
        ) from error
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise InputError(
            "TMPDIR",
            os.environ.get("TMPDIR", ""),
            allowed="no file can be written there, nor in /tmp",
            remedy="make room, or name a folder with free space",
        ) from error


@contextlib.contextmanager
def _short_folder() -> Iterator[None]:
    """Give multiprocessing a temporary folder whose path is short enough for its sockets.

    It chooses the folder once, for this process and its children.
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
    stop: Connection | None = None,
) -> ChildOutcome:
    """Run ``module:function`` on the payload in a fresh process and return its outcome.

    The deadline holds for the process, not for the pipe: a child that closes the pipe and lives on is killed too.
    However this function ends, even by an interrupt, the child and its whole process group end with it. Only the main
    thread gets interrupts: in another one, the child is ended as soon as ``stop`` can be read.

    Raises:
        InputError: as for ``start_server``.
        ChildError: no process can be started.
    """
    context = multiprocessing.get_context("forkserver")
    start_server(preload)
    with tempfile.TemporaryDirectory(prefix="vnbench-", ignore_cleanup_errors=True) as directory:
        log_path = Path(directory) / "child.log"
        log_path.touch()
        return _run(context, entry, payload, log_path, timeout_s=timeout_s, stop=stop)


def _run(
    context: ForkServerContext,
    entry: str,
    payload: str,
    log_path: Path,
    *,
    timeout_s: float,
    stop: Connection | None,
) -> ChildOutcome:
    reader, writer = context.Pipe(duplex=False)
    start = time.monotonic()
    kills_before = _oom_kill_count()
    # Not a daemon: a daemon process may not have children, and a trial has loader workers.
    process = context.Process(target=child_main, args=(entry, payload, writer, str(log_path)), daemon=False)
    answer = bytearray()
    try:
        _start(process)
        writer.close()
        os.set_blocking(reader.fileno(), False)
        is_timeout = _watch(process, reader, answer, deadline=start + timeout_s, stop=stop)
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
        raise ChildError(f"no process can be started: the forkserver ended ({error!r})") from error


def _watch(
    process: ForkServerProcess,
    reader: Connection,
    answer: bytearray,
    *,
    deadline: float,
    stop: Connection | None,
) -> bool:
    """Collect the answer until the process ends, or is to be ended; return whether it ran past the deadline."""
    is_open = True
    while True:
        waited: list[int | Connection] = [process.sentinel, *([reader] if is_open else []), *([stop] if stop else [])]
        remaining = deadline - time.monotonic()
        ready = multiprocessing.connection.wait(waited, timeout=max(0.0, remaining))
        if is_open:
            is_open = _drain(reader.fileno(), answer)
            if answer.endswith(b"\n") or len(answer) > MAX_ANSWER_BYTES:
                # The answer is complete (or too long): the child only has to end, within the grace and its deadline.
                process.join(min(EXIT_GRACE_S, max(0.0, deadline - time.monotonic())))
                return False
        if process.sentinel in ready or stop in ready:
            return False
        if time.monotonic() >= deadline:
            return True


def _drain(descriptor: int, answer: bytearray) -> bool:
    """Read the available bytes without waiting; return whether more can come."""
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
    # The child leads a process group once it has called setsid; before that there is only the process.
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
