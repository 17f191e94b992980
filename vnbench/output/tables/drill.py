"""What a drill found, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from vnbench.analysis.planning.drills import DrillReport
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
        f"{count(report.interval, 'step')} ({format_bytes(measured.num_bytes)}) holds training up for "
        f"{format_duration(measured.snapshot_s)} and is read in {format_duration(measured.read_s)}; going on takes "
        f"{format_duration(measured.restart_s)}, a start {format_duration(measured.start_up_s)}."
    )
    yield (
        f"For a plan of such a run: vnbench plan --snapshot-cost {measured.snapshot_s:.6f}s "
        f"--restart-cost {measured.restart_s:.3f}s"
    )
