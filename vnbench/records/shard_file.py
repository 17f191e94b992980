"""What a share of a sweep is to measure, in a file beside its results: so that a merge knows what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from vnbench.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFile:
    """A share of a design."""

    number: int
    """Its number, from 1."""
    count: int
    """How many shares there are."""
    design: str
    """Digest of the whole design: shares of another one do not belong together."""
    trials: Mapping[str, str]
    """Words of each trial of this share, by its spec's id and the number of its process: ``0123abcd/0``."""

    def write(self, results: Path) -> None:
        """Write it beside a results file.

        Raises:
            InputError: it cannot be written.
        """
        path = shard_path(results)
        try:
            path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(
                str(path), allowed=f"cannot be written ({error.strerror})", remedy="make room, or name another --out"
            ) from error

    @staticmethod
    def read(results: Path) -> ShardFile:
        """Return the share beside a results file.

        Raises:
            InputError: there is none, or it holds something else.
        """
        path = shard_path(results)
        try:
            return msgspec.json.decode(path.read_bytes(), type=ShardFile)
        except FileNotFoundError as error:
            raise InputError(
                str(results),
                allowed=f"{path.name} is not beside it, which tells its share of the sweep",
                remedy="copy both, or name a file that vnbench sweep --shard wrote",
            ) from error
        except (OSError, msgspec.DecodeError) as error:
            raise InputError(
                str(path), allowed=f"it does not hold a share ({error})", remedy="run the sweep of this share again"
            ) from error


def shard_path(results: Path) -> Path:
    """Return where the share of a results file stands."""
    return results.with_name(f"{results.stem}.shard.json")


def trial_key(spec_id: str, replicate: int) -> str:
    """Return how a share names a trial."""
    return f"{spec_id}/{replicate}"
