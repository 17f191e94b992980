"""A process in which CUDA tensors are fake: ``child.py SHIM ORDER ANSWER``.

The shim is loaded before torch. The order is a list of cases; the answer tells of each what it returned or raised.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def main(shim: str, order_file: str, answer_file: str) -> None:
    """Run the cases of an order."""
    ctypes.CDLL(shim, mode=ctypes.RTLD_GLOBAL)
    from fake_cuda.lines import Lines

    order = json.loads(Path(order_file).read_text(encoding="utf-8"))
    lines = Lines(ROOT / "vnbench")
    if order["is_traced"]:
        lines.start()
    answers = [_run(case, lines) for case in order["cases"]]
    seen = {file: sorted(numbers) for file, numbers in lines.seen.items()}
    Path(answer_file).write_text(json.dumps({"answers": answers, "lines": seen}), encoding="utf-8")


def _run(case: dict[str, Any], lines: Any) -> dict[str, Any]:
    """Return what a case returned or raised, and what the device saw of it."""
    import pytest
    from fake_cuda import device, faults, instruments, maps

    answer: dict[str, Any] = {"name": case["name"], "returned": None, "raised": None}
    fake = device.FakeCuda()
    if lines.is_started:
        fake.around = lines.paused
    with pytest.MonkeyPatch.context() as monkeypatch:
        allocator = instruments.install(monkeypatch, fake)
        maps.install(monkeypatch)
        if case["fault"] is not None:
            faults.FAULTS[case["fault"]](monkeypatch)
        module, _, function = case["entry"].partition(":")
        try:
            with fake:
                answer["returned"] = getattr(importlib.import_module(module), function)(case["payload"])
        except Exception:
            answer["raised"] = traceback.format_exc()
    answer["operators"] = sorted(fake.operators)
    answer["kept_bytes"] = allocator.kept_bytes
    answer["reserved_bytes"] = allocator.reserved_bytes
    return answer


if __name__ == "__main__":
    main(*sys.argv[1:])
