"""Where what can be made again is kept between sweeps."""

from __future__ import annotations

from pathlib import Path

from vnbench.processes.user_cache import configured_cache, user_cache

CORPORA = "corpora"


def default_cache_root() -> Path:
    """Return where synthetic corpora are written: ``vnbench/corpora`` in the user's cache directory."""
    return user_cache() / CORPORA


def cache_roots() -> tuple[Path, ...]:
    """Return where synthetic corpora may lie: where they are written, and a cache that can only be read."""
    configured = configured_cache()
    return tuple(dict.fromkeys([default_cache_root(), *([configured / CORPORA] if configured else [])]))
