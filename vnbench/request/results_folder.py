"""Where results go unless a sweep is told: a folder per device, a file per corpus and network of a user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vnbench.request.shard import Shard


def default_out(
    environment: Mapping[str, Any], *, corpus_id: str, own_model: str | None = None, shard: Shard | None = None
) -> Path:
    """Return the results file of a corpus on the device that ``environment`` describes.

    The presets share one file; a network of a user's own, FILE.py:FUNCTION, has a file of its own, and so has a share.
    """
    name = corpus_id if own_model is None else f"{_network(own_model)}-{corpus_id}"
    if shard is not None:
        name = f"{name}-shard-{shard.number}-of-{shard.count}"
    return results_folder(environment) / f"sweep-{name}.jsonl"


def _network(own_model: str) -> str:
    file, _, function = own_model.rpartition(":")
    return slug(f"{Path(file).stem} {function}")


def results_folder(environment: Mapping[str, Any]) -> Path:
    """Return ``results/<device>`` for the device that ``environment`` describes."""
    name = f"cpu {environment['device_name']}" if environment["device_type"] == "cpu" else environment["device_name"]
    return Path("results") / slug(name)


def newest_results() -> Path | None:
    """Return the results file of the working folder that a sweep wrote last; None if it has none."""
    found = [path for path in Path("results").glob("*/sweep-*.jsonl") if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def slug(name: str) -> str:
    """Return a name as it stands in a path: lower-case words, with hyphens between them."""
    return "-".join("".join(character if character.isalnum() else " " for character in name.lower()).split())
