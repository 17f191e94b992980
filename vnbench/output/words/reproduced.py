"""Whether processes of one configuration ended with the same weights, in a line under a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vnbench.analysis.trials.reproduced import reproduced
from vnbench.output.words.row_notes import subject
from vnbench.records.record import TrialRecord
from vnbench.units import count

MOST_NAMED = 3
"""Configurations that are named."""


def reproduced_lines(latest: Iterable[TrialRecord]) -> Iterator[str]:
    """Yield a line if configurations were repeated: in how many of them all processes trained to the same bits."""
    known = reproduced(latest)
    if not known:
        return
    others = [one for one in known if not one.is_bitwise]
    repeated = count(len(known), "repeated configuration")
    if not others:
        yield f"to the bit: all processes of {repeated} trained to the same weights."
        return
    named = [f"{subject(one, known)} ({one.num_equal} of {one.num_processes} equal)" for one in others[:MOST_NAMED]]
    named += [f"{len(others) - MOST_NAMED} more"] if len(others) > MOST_NAMED else []
    yield (
        f"to the bit: {len(others)} of {repeated} trained to weights that differ between processes: "
        f"{'; '.join(named)}. vnbench repeat names the first step and operator that differ; --deterministic on asks "
        "for kernels that repeat themselves."
    )
