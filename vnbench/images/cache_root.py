"""Where what can be made again is kept between sweeps."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_root() -> Path:
    """Return where synthetic corpora are kept between sweeps: ``vnbench/corpora`` in the user's cache directory."""
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG base directory specification says that a relative path is to be ignored.
    return (configured if configured.is_absolute() else Path.home() / ".cache") / "vnbench" / "corpora"
