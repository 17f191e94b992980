"""One side's vnbench as a process of its own that stays: it imports torch once and then answers command after command.

The process ends as soon as its stdin does, however its parent ended; its trials end with it (processes.child).
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from vnbench.errors import ChildError, InputError
from vnbench.records.machine_keys import Environment
from vnbench.records.record import TrialRecord
from vnbench.records.task import TrialTask

START_UP_S = 300.0
"""Time that a side is given beyond its trial: imports from a cold disk, and looking at the machine."""

ENDING_S = 15.0
"""Time that a side is given to end its trial."""

DRIVER = """\
import contextlib, io, json, os, queue, signal, sys, threading, time

try:
    from vnbench.cli.app import run
except ModuleNotFoundError as error:
    if error.name != "vnbench.cli.app":
        raise
    from vnbench.cli import run  # as it was before the command line was a package

orders, out = queue.SimpleQueue(), os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)
signal.signal(signal.SIGTERM, signal.default_int_handler)

def listen():
    for line in sys.__stdin__:
        orders.put(line)
    orders.put("")
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
    time.sleep(10)
    os._exit(1)

threading.Thread(target=listen, daemon=True).start()
with contextlib.suppress(KeyboardInterrupt, OSError):
    while line := orders.get():
        order = json.loads(line)
        sys.stdin = io.StringIO(order["stdin"])
        with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.redirect_stderr(io.StringIO()) as said:
            code = run(order["arguments"])
        print(json.dumps({"code": code, "out": told.getvalue(), "err": said.getvalue()}), file=out, flush=True)
os._exit(0)
"""
"""Runs commands of whatever vnbench it finds: a line of JSON in, a line of JSON out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """Where a side's commands run."""

    python: Path
    """The interpreter."""
    source: Path | None
    """Source tree of vnbench that is imported; None for the one that is installed."""
    folder: Path
    """Working folder, which names of files of the user's own network start from."""


class Worker:
    """A side's process, started with the first command."""

    def __init__(self, home: Home) -> None:
        self.home = home
        """Where its commands run."""
        self._process: subprocess.Popen[bytes] | None = None
        self._open = ExitStack()

    def __enter__(self) -> Worker:
        # A pipe that nobody reads would fill up.
        self._said = self._open.enter_context(tempfile.TemporaryFile())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._open.close()

    def end(self) -> None:
        """End the process, and with it the trial that runs, whose temporary files it removes."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(timeout=ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def environment(self, device: str) -> Environment:
        """Return the environment that its records will have.

        Raises:
            InputError: it has no such device.
            ChildError: it does not tell.
        """
        code, out, err = self._ask(["env", "--device", device, "--json"], stdin="", timeout_s=0.0)
        if code == InputError.exit_code:
            raise InputError("--device", device, allowed=_last(err), remedy="name a device that both sides have")
        if code != 0:
            raise ChildError(f"{self.home.folder}: vnbench env ended with {code}: {_last(err)}")
        return cast(Environment, json.loads(out))

    def run(self, task: TrialTask[Any], *, timeout_s: float) -> TrialRecord:
        """Run a trial with the code and the environment of this side.

        Raises:
            ChildError: no record of this trial came back.
        """
        order = json.dumps({"task": json.loads(task.to_json()), "timeout_s": timeout_s})
        code, out, err = self._ask(["trial"], stdin=order, timeout_s=timeout_s)
        if code != 0:
            raise ChildError(f"{self.home.folder}: vnbench trial ended with {code}: {_last(err)}")
        try:
            record = TrialRecord.from_json(out)
        except ValueError as error:
            raise ChildError(f"{self.home.folder}: what came back is no record ({error})") from error
        if (record.spec, record.replicate, record.attempt) != (task.spec, task.replicate, task.attempt):
            raise ChildError(f"{self.home.folder}: the record that came back is of another trial")
        return record

    def _ask(self, arguments: list[str], *, stdin: str, timeout_s: float) -> tuple[int, str, str]:
        if self._process is None:
            self._process = self._start()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"arguments": arguments, "stdin": stdin}).encode() + b"\n")
            process.stdin.flush()
            line = _read_line(process.stdout.fileno(), deadline=time.monotonic() + timeout_s + START_UP_S)
        except (OSError, TimeoutError) as error:
            line, trouble = b"", str(error)
        else:
            trouble = "no answer"
        if not line.endswith(b"\n"):
            self.end()
            self._said.seek(0)
            said = self._said.read()
            raise ChildError(
                f"{self.home.folder}: vnbench {arguments[0]} ended without an answer: "
                f"{_last(said.decode(errors='replace')) or trouble}"
            )
        answer = json.loads(line)
        return int(answer["code"]), str(answer["out"]), str(answer["err"])

    def _start(self) -> subprocess.Popen[bytes]:
        home = self.home
        named = [str(home.source)] if home.source is not None else []
        pythonpath = os.pathsep.join([*named, *filter(None, [os.environ.get("PYTHONPATH")])])
        try:
            return subprocess.Popen(
                # Files of the working folder are no modules: its random.py is not Python's own.
                [str(home.python), "-P", "-c", DRIVER],
                cwd=home.folder,
                env=os.environ | ({"PYTHONPATH": pythonpath} if pythonpath else {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                # Ctrl-C is for the gate alone.
                start_new_session=True,
            )
        except OSError as error:
            raise ChildError(f"{home.python}: {error.strerror}") from error


def _read_line(descriptor: int, *, deadline: float) -> bytes:
    """Return the bytes up to a newline, or to the end of the pipe.

    Raises:
        TimeoutError: none came before the deadline.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("it did not answer in time")
        chunk = os.read(descriptor, 2**16)
        if not chunk:
            break
        line += chunk
    return bytes(line)


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1].removeprefix("vnbench: ")
