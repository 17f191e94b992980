"""Where the memory of one worst-case step lies at its peak: stage by kind."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vnbench.output.words.numbers import MISSING
from vnbench.output.words.profiles import Profile
from vnbench.output.words.provenance import CPU_LABEL
from vnbench.units import format_bytes, format_percent

TEXT_COLUMNS = 100
"""Width of the lines under the tables."""

MIB = 2**20


def profile_tables(profiles: Sequence[Profile]) -> RenderableType:
    """Return a table per profile, and what they hold for."""
    parts: list[RenderableType] = []
    for profile in profiles:
        parts.append(Text(f"{profile.title}:"))
        if profile.status == "ok":
            parts += [_table(profile), Text("\n".join(textwrap.wrap(_line(profile), TEXT_COLUMNS)) + "\n")]
        else:
            parts.append(Text(f"    {profile.reason}\n"))
    return Group(*parts, Text("\n".join(textwrap.wrap(_notes(profiles), TEXT_COLUMNS))))


def _table(profile: Profile) -> Table:
    kinds = profile.kinds
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("MiB at the peak", no_wrap=True)
    for kind in (*kinds, "all"):
        table.add_column(kind.replace(" ", "\n"), justify="right", no_wrap=True)
    rows = [(stage, [profile.at_peak.get((stage, kind), 0) for kind in kinds]) for stage in profile.stages]
    filled = [(stage, cells) for stage, cells in rows if any(cells)]
    for stage, cells in filled:
        table.add_row(stage, *map(_mib, (*cells, sum(cells))), end_section=stage == filled[-1][0])
    totals = [sum(size for (_, of), size in profile.at_peak.items() if of == kind) for kind in kinds]
    table.add_row("all", *map(_mib, (*totals, sum(totals))))
    return table


def _mib(num_bytes: int) -> str:
    if not num_bytes:
        return MISSING
    mib = num_bytes / MIB
    return "< 0.1" if mib < 0.1 else f"{mib:.1f}" if mib < 10 else f"{mib:,.0f}"


def _line(profile: Profile) -> str:
    told = f"Peak of all tensors {format_bytes(profile.tracked_peak_bytes)}, in the {profile.peak_place}"
    if profile.measured_peak_bytes is None:
        return f"{told}; nothing else counted it."
    residual = profile.measured_peak_bytes - profile.tracked_peak_bytes
    who = "the caching allocator" if profile.instrument == "cuda-caching-allocator" else "the process grew by"
    return (
        f"{told}; {who} {format_bytes(profile.measured_peak_bytes)}: the tensors leave "
        f"{format_percent(residual / profile.measured_peak_bytes)} of it unexplained."
    )


def _notes(profiles: Sequence[Profile]) -> str:
    notes = "Activations are made in the forward pass, backward is what the backward pass makes beside gradients."
    if any(profile.instrument == "process" for profile in profiles):
        notes += f" On the CPU a process also holds oneDNN's workspace, which is no tensor. {CPU_LABEL}."
    return notes
