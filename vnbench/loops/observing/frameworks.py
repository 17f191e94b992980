"""Find the Lightning that is installed: two packages hold it, and a callback of either works in both."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def imported_framework() -> Any:
    """Return Lightning's module with Trainer and Callback.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    for name in PACKAGES:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise ModuleNotFoundError("VnbenchCallback needs Lightning: pip install 'vnbench[lightning]'", name=PACKAGES[0])
