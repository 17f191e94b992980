"""What goes on at a machine now, before anything is measured on it."""

from __future__ import annotations

from typing import Any

from vnbench.measure.gpu_state import gpu_activity
from vnbench.measure.host import MIN_OBSERVED_S, watch_host

WATCHED_S = 1.2 * MIN_OBSERVED_S
"""How long the cores are watched: long enough to say something, short enough to wait for."""


def watch_activity(device_uuid: str | None) -> dict[str, Any]:
    """Return who uses the cores (``host``, None without /proc) and the GPU (``device``, None without one) now."""
    return {
        "host": watch_host(WATCHED_S),
        "device": gpu_activity(device_uuid) if device_uuid else None,
    }
