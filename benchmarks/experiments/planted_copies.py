"""Copies of the source tree that differ from it in one place, such as a slowdown planted there.

A slowdown is a busy wait. Its length is a share of a time that the copy itself takes just then, so that the share is
the same on every machine and under any load.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

WAITS = '''\
"""Busy waits for a share of what something takes."""

import collections
import functools
import statistics
import time

SHARE = {share}
clock = time.perf_counter
passed = None
recent_s = collections.deque(maxlen=3)


def wait(duration_s):
    until = clock() + SHARE * duration_s
    while clock() < until:
        pass


def slower(function):
    """Let each call wait for the share of its own duration before it returns."""

    @functools.wraps(function)
    def called(*arguments, **options):
        start = clock()
        result = function(*arguments, **options)
        wait(clock() - start)
        return result

    return called


def slow_down():
    """Wait for the share of the time from call to call, the median of the last three: a pause is no work."""
    global passed
    if passed is not None:
        recent_s.append(clock() - passed)
        wait(statistics.median(recent_s))
    passed = clock()


class Handed(list):
    """A list that slows down whoever takes its items one by one."""

    def __iter__(self):
        for item in super().__iter__():
            slow_down()
            yield item
'''
"""The module vnbench/planted.py of a copy."""

PLANTED = '__import__("vnbench.planted").planted'


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A place of the source that can be slowed down."""

    module: str
    """File below vnbench/."""
    before: str
    """Original text, which occurs once."""
    after: str
    """Replacement, which uses the module with the waits."""
    told: str
    """What takes longer, and by a share of what."""


PLACES: Mapping[str, Place] = {
    "step": Place(
        module="trial/step/optimizer_step.py",
        before="    def run(self, micro_batches",
        after=f"    @{PLANTED}.slower\n    def run(self, micro_batches",
        told="each optimizer step, its batches included, by the share of itself",
    ),
    "loader": Place(
        module="loading/examples.py",
        before="    def __getitem__(self, micro_batch",
        after=f"    @{PLANTED}.slower\n    def __getitem__(self, micro_batch",
        told="decoding and collating each batch, by the share of itself",
    ),
    "sampler": Place(
        module="loading/loader.py",
        before="        sampler=micro_batches,",
        after=f"        sampler={PLANTED}.Handed(micro_batches),",
        told="handing out the next batch's examples, by the share of the time from batch to batch",
    ),
    "layer": Place(
        module="model/attention.py",
        before="        height, width = x_BCHW.shape[2:]\n        positions_ND",
        after=f"        {PLANTED}.slow_down()\n        height, width = x_BCHW.shape[2:]\n        positions_ND",
        told="the forward pass of the attention, by the share of the time from one to the next: a step",
    ),
}


def copied(folder: Path) -> Path:
    """Return a folder with a fresh copy of the source tree."""
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "shipped")
    shutil.copytree(ROOT / "vnbench", folder / "vnbench", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def change(folder: Path, module: str, *, before: str, after: str) -> None:
    """Replace a text, which must occur once, in a file below vnbench/ of a copy."""
    path = folder / "vnbench" / module
    source = path.read_text(encoding="utf-8")
    assert source.count(before) == 1, f"{module}: {before!r} is not there once"
    path.write_text(source.replace(before, after), encoding="utf-8")


def plant(folder: Path, place: str, *, share: float) -> None:
    """Slow down one place of a copy."""
    (folder / "vnbench" / "planted.py").write_text(WAITS.format(share=share), encoding="utf-8")
    where = PLACES[place]
    change(folder, where.module, before=where.before, after=where.after)
