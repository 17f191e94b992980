"""Where results go unless a sweep is told: a folder per device, a file per corpus."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def default_out(environment: Mapping[str, Any], *, corpus_id: str) -> Path:
    """Return the results file of a corpus on the device that ``environment`` describes."""
    return results_folder(environment) / f"sweep-{corpus_id}.jsonl"


def results_folder(environment: Mapping[str, Any]) -> Path:
    """Return ``results/<device>`` for the device that ``environment`` describes."""
    name = f"cpu {environment['device_name']}" if environment["device_type"] == "cpu" else environment["device_name"]
    return Path("results") / slug(name)


def slug(name: str) -> str:
    """Return a name as it stands in a path: lower-case words, with hyphens between them."""
    return "-".join("".join(character if character.isalnum() else " " for character in name.lower()).split())
