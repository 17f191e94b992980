"""Folders where synthetic corpora are cached between sweeps."""

from __future__ import annotations

from pathlib import Path

from vnbench.processes.user_cache import configured_cache, user_cache

CORPORA = "corpora"


def default_cache_root() -> Path:
    """Return the folder that synthetic corpora are written to: ``vnbench/corpora`` in the user's cache directory."""
    return user_cache() / CORPORA


def cache_roots() -> tuple[Path, ...]:
    """Return the folders that may hold synthetic corpora: the one they are written to, and a read-only cache."""
    configured = configured_cache()
    return tuple(dict.fromkeys([default_cache_root(), *([configured / CORPORA] if configured else [])]))
