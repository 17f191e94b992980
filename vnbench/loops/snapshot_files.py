"""Write and read snapshots so that a kill, a power cut or a full disk leaves the one before whole."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any, cast

import torch

from vnbench.errors import InputError
from vnbench.processes.locks import NoLocksError, try_lock
from vnbench.units import format_bytes

NAME = re.compile(r"snapshot-(\d{8})-([0-9a-f]{32})\.pt")
"""A snapshot's file: its number, and a digest of its content, which so appear together."""

UNFINISHED = ".unfinished-snapshot-"
"""Beginning of the names of files that are being written."""


class Folder:
    """A folder of snapshots, of which one process at a time may write."""

    def __init__(self, path: Path) -> None:
        """Create and lock the folder, and remove what a killed process did not finish.

        Raises:
            InputError: the folder cannot be written, or another run holds it.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            if not _is_free(self._descriptor):
                raise InputError(
                    str(path), allowed="another run keeps its snapshots here", remedy="stop it, or name another folder"
                )
            with tempfile.TemporaryFile(dir=path):  # a folder that cannot be written is told before anything trains
                pass
            for left_over in path.glob(f"{UNFINISHED}*"):
                left_over.unlink()
        except OSError as error:
            self.close()
            raise _unusable(path, error) from error
        except InputError:
            self.close()
            raise

    def close(self) -> None:
        """Release the folder."""
        os.close(self._descriptor)

    def files(self) -> list[Path]:
        """Return the snapshots, oldest first."""
        return sorted(path for path in self.path.iterdir() if NAME.fullmatch(path.name))

    def check_space(self, num_bytes: int, *, keep: int) -> None:
        """Refuse a disk without room for the snapshots that are kept, and for one that is being written.

        Raises:
            InputError: there is less.
        """
        missing = max(1, keep + 1 - len(self.files()))
        free = shutil.disk_usage(self.path).free
        if free < missing * num_bytes:
            raise InputError(
                str(self.path),
                f"{format_bytes(free)} free",
                allowed=f"{missing} more snapshots take about {format_bytes(missing * num_bytes)}",
                remedy="free the rest, or name a folder of another disk",
            )

    def write(self, state: dict[str, Any], *, keep: int) -> Path:
        """Write a snapshot and return its file; older ones go once it is on the disk, all but the last ``keep``.

        Raises:
            InputError: it cannot be written. Those before are whole.
        """
        files = self.files()
        number = 1 + (int(NAME.fullmatch(files[-1].name)[1]) if files else 0)  # type: ignore[index]  # they match
        unfinished = self.path / f"{UNFINISHED}{number:08}"
        try:
            with unfinished.open("wb") as file:
                hashed = _Hashed(file)
                torch.save(state, cast(IO[bytes], hashed))  # torch calls no more than it has
                file.flush()
                os.fsync(file.fileno())
            path = self.path / f"snapshot-{number:08}-{hashed.digest}.pt"
            unfinished.replace(path)
            os.fsync(self._descriptor)  # the new name, too, outlives a power cut
            for old in [*files, path][:-keep]:
                old.unlink()
        except (OSError, RuntimeError) as error:  # torch tells a full disk by a RuntimeError
            unfinished.unlink(missing_ok=True)
            raise InputError(
                str(self.path),
                allowed=f"the snapshot cannot be written ({_reason(error)}); the ones before are whole",
                remedy="free space on its disk, or name another folder, and start the run again",
            ) from error
        return path


def read(path: Path) -> dict[str, Any]:
    """Return the state in a snapshot, with its tensors on the host; nothing in the file is executed.

    Raises:
        InputError: the file cannot be read, is torn or changed, or holds something else.
    """
    named = NAME.fullmatch(path.name)
    try:
        with path.open("rb") as file:
            whole = named is None or _digest_of(file) == named[2]
        if not whole:
            raise InputError(
                str(path), allowed="its content is not the one it was written with", remedy="name an older snapshot"
            )
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it holds no table")
    except (OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(
            str(path),
            allowed=f"this is no snapshot of a training run ({_reason(error)})",
            remedy="name a file that vnbench.loops.snapshot wrote",
        ) from error
    return state


class _Hashed:
    """A file that torch writes to, and the digest of what it wrote."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.blake2b(digest_size=16)

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def _digest_of(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()  # type: ignore[arg-type]


def _is_free(descriptor: int) -> bool:
    try:
        return try_lock(descriptor)
    except NoLocksError:  # a file server without locks: the user has to know
        return True


def _unusable(path: Path, error: OSError) -> InputError:
    return InputError(
        str(path), allowed=f"snapshots cannot be kept here ({_reason(error)})", remedy="name a folder you can write to"
    )


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition("\n")[0]
