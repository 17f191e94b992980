"""Where the memory of one worst-case step lies at its peak: stage by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.output.fitted_table import FittedTable, paragraphs
from vnbench.output.view import Column, View
from vnbench.output.words.profiles import Profile
from vnbench.output.words.provenance import CPU_LABEL
from vnbench.units import format_bytes, format_percent

MIB = 2**20


class Line(NamedTuple):
    """One line of the table."""

    stage: str
    """Stage of the network."""
    sizes: Mapping[str, int]
    """Bytes by kind."""


def profile_tables(profiles: Sequence[Profile]) -> RenderableType:
    """Return a table per profile, and what they hold for."""
    parts: list[RenderableType] = []
    for profile in profiles:
        parts.append(Text(f"{profile.title}:"))
        if profile.status == "ok":
            parts += [_table(profile), paragraphs([_line(profile), ""])]
        else:
            parts.append(Text(f"    {profile.reason}\n"))
    return Group(*parts, paragraphs([_notes(profiles)]))


def _table(profile: Profile) -> FittedTable[Line]:
    kinds = profile.kinds
    totals = {kind: sum(size for (_, of), size in profile.at_peak.items() if of == kind) for kind in kinds}
    lines = [Line(stage, {kind: profile.at_peak.get((stage, kind), 0) for kind in kinds}) for stage in profile.stages]
    filled = [line for line in lines if any(line.sizes.values())]
    # The kind of which there is least gives way first.
    ranked = sorted(kinds, key=lambda kind: totals[kind], reverse=True)
    columns: tuple[Column[Line], ...] = (
        Column("MiB at the peak", lambda line: line.stage, align="left"),
        *(_of_kind(kind, gives_way=ranked.index(kind) + 1) for kind in kinds),
        Column("all", lambda line: sum(line.sizes.values()) or None, text=_mib),
    )
    return FittedTable(view=View([*filled, Line("all", totals)], columns), lines_after=[len(filled) - 1])


def _of_kind(kind: str, *, gives_way: int) -> Column[Line]:
    return Column(kind.replace(" ", "\n"), lambda line: line.sizes[kind] or None, text=_mib, gives_way=gives_way)


def _mib(num_bytes: int) -> str:
    mib = num_bytes / MIB
    return "< 0.1" if mib < 0.1 else f"{mib:.1f}" if mib < 10 else f"{mib:,.0f}"


def _line(profile: Profile) -> str:
    told = f"Peak of all tensors {format_bytes(profile.tracked_peak_bytes)}, in the {profile.peak_place}"
    if profile.measured_peak_bytes is None:
        return f"{told}. Nothing else measured it, to compare."
    residual = profile.measured_peak_bytes - profile.tracked_peak_bytes
    who = "the caching allocator" if profile.instrument == "cuda-caching-allocator" else "the process grew by"
    return (
        f"{told}; {who} {format_bytes(profile.measured_peak_bytes)}: the tensors leave "
        f"{format_percent(residual / profile.measured_peak_bytes)} of it unexplained."
    )


def _notes(profiles: Sequence[Profile]) -> str:
    notes = "activations: made in the forward pass. backward: made in the backward pass, gradients apart."
    if any(profile.instrument == "process" for profile in profiles):
        notes += f" On the CPU a process also holds oneDNN's workspace, which tensors do not show. {CPU_LABEL}."
    return notes
