"""Keep snapshots of a training run, and go on from the last one as if nothing had happened.

::

    run = Run(model=network, optimizer=optimizer, sampler=sampler, settings={"precision": "bf16"})
    with Snapshots("snapshots") as snapshots, on_sigterm() as is_stopping:
        position = snapshots.restore(run)
        for epoch in range(position.epoch, 50):
            sampler.set_epoch(epoch)
            for step, passes in enumerate(sampler.remaining_steps, start=sampler.first_step + 1):
                ...
                if step % 40 == 0 or is_stopping():
                    snapshots.save(run, Position(epoch=epoch, next_step=step))

The run that goes on is equal to one that never stopped, to the bit, where the training itself repeats to the bit.
Give a DataLoader a generator of its own, ``generator=torch.Generator()``: without one it draws from torch's global
generator whenever it is iterated, which a run that goes on within an epoch does once more. What its workers draw has to
follow from the epoch and the example.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from vnbench.errors import InputError
from vnbench.loops.run_state import (
    Position,
    Run,
    num_bytes,
    random_state,
    restore,
    set_random_state,
    state_of,
)
from vnbench.loops.snapshot_files import Folder, read
from vnbench.records.spec.words import SNAPSHOT_MODES, SnapshotMode

__all__ = [
    "Position",
    "Run",
    "Snapshots",
    "on_sigterm",
    "random_state",
    "read",
    "restore",
    "set_random_state",
    "state_of",
]


class Snapshots:
    """The snapshots of one run in a folder, the last ones kept."""

    def __init__(self, folder: str | Path, *, keep: int = 2, mode: SnapshotMode = "sync") -> None:
        """Take the folder for this run alone; it is created if it is not there.

        Raises:
            InputError: the folder cannot be written or another run holds it, or ``keep`` or ``mode`` is none.
        """
        if keep < 1:
            raise InputError("keep", keep, allowed="at least the last snapshot is kept", remedy="write keep=2")
        if mode not in SNAPSHOT_MODES:
            raise InputError("mode", mode, allowed="there are 'sync' and 'async'", remedy='write mode="sync"')
        self._keep = keep
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="snapshot") if mode == "async" else None
        self._written: Future[Path] | None = None
        self._folder = Folder(Path(folder))

    def __enter__(self) -> Snapshots:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the last snapshot, and release the folder.

        Raises:
            InputError: the last snapshot could not be written, and nothing else failed.
        """
        try:
            self.wait()
        except InputError:
            if error is None:
                raise
        finally:
            if self._writer is not None:
                self._writer.shutdown()
            self._folder.close()

    def restore(self, run: Run) -> Position:
        """Go on from the last whole snapshot, or begin where there is none; return where.

        A snapshot that is torn or changed is told by a warning, and the one before it is taken.

        Raises:
            InputError: the snapshot is of another run, none of them is whole, or the disk has no room for more.
        """
        files = self._folder.files()
        self._folder.check_space(num_bytes(run), keep=self._keep)
        for path in reversed(files):
            try:
                state = read(path)
            except InputError as error:
                if path == files[0]:
                    raise
                warnings.warn(f"{error}; the one before is taken", stacklevel=2)
                continue
            return restore(run, state, where=str(path))
        return Position()

    def save(self, run: Run, position: Position) -> None:
        """Keep the state of a run at the end of an optimizer step.

        In mode ``async`` it waits for the snapshot before, copies the state, and writes while training goes on.

        Raises:
            InputError: this snapshot, or in mode ``async`` the one before, could not be written.
            ValueError: the position is none of the sampler's epoch.
        """
        self.wait()
        if self._writer is None:
            self._write(state_of(run, position, is_copied=False))
        else:
            self._written = self._writer.submit(self._write, state_of(run, position, is_copied=True))

    def wait(self) -> None:
        """Wait until the last snapshot is on the disk.

        Raises:
            InputError: it could not be written.
        """
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def _write(self, state: dict[str, Any]) -> Path:
        return self._folder.write(state, keep=self._keep)


@contextmanager
def on_sigterm() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGTERM has arrived, as a cluster sends it before it kills.

    The loop that sees it saves a last snapshot at the end of its step and ends. Use it in the main thread.
    """
    has_arrived = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal has_arrived
        has_arrived = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: has_arrived
    finally:
        signal.signal(signal.SIGTERM, before)
