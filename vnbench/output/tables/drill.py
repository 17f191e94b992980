"""What interruptions cost, for the terminal: what a drill found, and what snapshot trials measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from vnbench.analysis.planning.drills import DrillReport
from vnbench.analysis.planning.snapshot_costs import SnapshotCost, gain_of_async, snapshot_costs
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.output.fitted_table import FittedTable
from vnbench.output.tables.lever_columns import lever_columns, shared_levers
from vnbench.output.view import Column, View
from vnbench.output.words.levers import varying
from vnbench.output.words.numbers import MISSING, scaled, significant, told
from vnbench.output.words.provenance import CPU_LABEL, provenance
from vnbench.records.readings import RestartReading
from vnbench.records.record import TrialRecord
from vnbench.units import count, format_bytes, format_duration, format_percent

PLACE_OF = {"begin": "before a step", "loading": "in a step", "step": "after a step", "writing": "in a write"}
"""Where a kill hit, by the last word of the process."""


def drill_lines(report: DrillReport) -> Iterator[str]:
    """Yield the answer, what the kills hit and cost, and what was measured of the parts."""
    measured, planned = report.measured, report.planned_s
    ended = "ended as one" if report.is_bitwise_equal else "did NOT end as one"
    yield (
        f"After {count(len(report.hits), 'kill')} the run {ended} that was never killed, to the bit; "
        f"{count(report.lost_snapshots, 'snapshot')} lost, at most {count(report.redone_steps_max, 'step')} done again."
    )
    yield (
        f"It took {format_duration(report.measured_s)}, planned {format_duration(planned['p50'])} "
        f"({format_duration(planned['p10'])} to {format_duration(planned['p90'])}, four times in five); "
        f"off by {format_percent(planned['p50'] / report.measured_s - 1)}."
    )
    places = Counter(PLACE_OF.get(hit.last_word, hit.last_word) for hit in report.hits)
    yield f"Kills: {', '.join(f'{number} {place}' for place, number in sorted(places.items()))}."
    torn = sum(hit.was_torn for hit in report.hits)
    if torn:
        yield f"{count(torn, 'file')} torn after a kill: the one before was taken each time."
    if report.is_full_told is not None:
        yield (
            "A disk that filled up was told, and the snapshot before it was whole."
            if report.is_full_told
            else "A disk that filled up was NOT survived: see the messages above."
        )
    yield (
        f"Parts: {count(len(measured.step_times_s), 'step')} in {format_duration(measured.work_s)}, a snapshot every "
        f"{count(report.interval, 'step')} ({format_bytes(measured.num_bytes)}) costs "
        f"{format_duration(measured.snapshot_s)}, {format_duration(measured.held_up_s)} of it in the call, "
        f"and is read in {format_duration(measured.read_s)}; going on takes {format_duration(measured.restart_s)}, "
        f"a start {format_duration(measured.start_up_s)}."
    )
    yield (
        f"For a plan of such a run: vnbench plan --snapshot-cost {measured.snapshot_s:.6f}s "
        f"--restart-cost {measured.restart_s:.3f}s"
    )


PARTS_OF_RESTART = {
    "interpreter_s": "Python",
    "imports_s": "imports",
    "set_up_s": "device and network",
    "load_s": "the snapshot",
    "loader_s": "the first batch",
    "first_steps_s": "first steps on new shapes",
}


def snapshot_table(records: Sequence[TrialRecord]) -> RenderableType | None:
    """Return the table of all snapshot trials with its notes; None without any that ended ``ok``.

    Raises:
        InputError: the records come from more than one device.
    """
    costs = snapshot_costs(latest_attempts(records))
    if not costs:
        return None
    origin = provenance(records)
    view = View(costs, [*lever_columns(varying(one.spec for one in costs), lambda one: one.spec), *_columns()])
    notes = [
        "per snapshot: what training takes longer for each, from pairs of epochs with snapshots and without (95 %). "
        "held up: within the call alone. on disk: until it is there, with nothing beside it.",
        *(line for one in costs if (line := _gain_line(costs, one)) is not None),
        *([_restart_line(known[0].restart)] if (known := [one for one in costs if one.restart]) else []),
        *([f"{CPU_LABEL}."] if origin.is_cpu else []),
        origin.line(count(sum(one.num_processes for one in costs), "snapshot trial")),
    ]
    return Group(Text(shared_levers([one.spec for one in costs])), FittedTable(view=view), Text(), *map(Text, notes))


def _columns() -> list[Column[SnapshotCost]]:
    def milliseconds(seconds: float | None) -> str:
        return MISSING if seconds is None else significant(1e3 * seconds)

    return [
        Column("n", lambda one: one.num_processes, gives_way=4),
        Column("per snapshot", lambda one: told(scaled(one.cost, 1e3), is_difference=True), unit="ms"),
        Column("held up", lambda one: milliseconds(one.held_up_s), unit="ms", gives_way=1),
        Column("on disk", lambda one: milliseconds(one.written_s), unit="ms", gives_way=2),
        Column("read", lambda one: milliseconds(one.read_s), unit="ms", gives_way=3),
        Column("size", lambda one: format_bytes(one.num_bytes), gives_way=5),
        Column("disk", lambda one: one.file_system, align="left", gives_way=6),
        Column("going on", lambda one: None if one.restart is None else significant(one.restart.total_s), unit="s"),
    ]


def _gain_line(costs: Sequence[SnapshotCost], one: SnapshotCost) -> str | None:
    gain = gain_of_async(costs, one)
    if gain is None:
        return None
    ends = gain.interval()
    is_known = ends is not None and (ends[0] > 0 or ends[1] < 0)
    seen = "" if is_known else ", so none was seen"
    return f"Gain of async over sync: {told(scaled(gain, 1e3), is_difference=True)} ms a snapshot{seen}."


def _restart_line(restart: RestartReading | None) -> str:
    assert restart is not None
    parts = ", ".join(f"{format_duration(getattr(restart, key))} {name}" for key, name in PARTS_OF_RESTART.items())
    return f"Going on takes {format_duration(restart.total_s)} from the start of a process: {parts}."
