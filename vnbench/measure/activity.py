"""Current activity on a machine, checked before anything is measured on it."""

from __future__ import annotations

from typing import Any

from vnbench.measure.gpu_state import gpu_activity
from vnbench.measure.host import MIN_OBSERVED_S, watch_host

WATCHED_S = 1.2 * MIN_OBSERVED_S
"""Seconds to watch the cores: long enough for a reading, short enough to wait for."""


def watch_activity(device_uuid: str | None) -> dict[str, Any]:
    """Return the current load on the cores (``host``) and on the GPU (``device``); None for one that is unknown."""
    return {
        "host": watch_host(WATCHED_S),
        "device": gpu_activity(device_uuid) if device_uuid else None,
    }
