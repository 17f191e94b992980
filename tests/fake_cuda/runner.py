"""Runs cases in a process in which CUDA tensors are fake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

TIMEOUT_S = 1_800
"""What ends a process that hangs; however slow a machine is, what does end takes less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A function of the code of trials, and what it is given."""

    name: str
    entry: str
    """``package.module:function`` of one text that returns a text."""
    payload: str
    fault: str | None = None
    """A fault of faults.FAULTS that is planted before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a case came to."""

    name: str
    returned: str | None
    raised: str | None
    """The traceback of what it raised."""
    operators: Sequence[str]
    """Those that ran on CUDA."""
    kept_bytes: Sequence[int]
    """Bytes of tensors on CUDA that were alive at each emptying of the cache."""
    reserved_bytes: int
    """What the allocator held in the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What some cases came to, in their order."""

    answers: Sequence[Answer]
    lines: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Lines that ran, by file of vnbench."""


Group = Callable[[str], Answers]
"""Returns what the cases of a group came to."""


def run_cases(cases: Sequence[Case], *, shim: Path, is_traced: bool = False) -> Answers:
    """Return what some cases come to, one after the other in one process."""
    with tempfile.TemporaryDirectory(prefix="vnbench-fake-cuda-") as scratch:
        order, answer = Path(scratch) / "order.json", Path(scratch) / "answer.json"
        order.write_text(json.dumps({"is_traced": is_traced, "cases": [asdict(case) for case in cases]}))
        command = [sys.executable, str(Path(__file__).with_name("child.py")), str(shim), str(order), str(answer)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=_environment()
        )
        if done.returncode:
            raise AssertionError(f"the process of fake CUDA ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        told: dict[str, Any] = json.loads(answer.read_text())
    return Answers(answers=[Answer(**one) for one in told["answers"]], lines=told["lines"])


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
