"""What to do after a sweep: up to three commands, each with its reason, apt to what was found."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vnbench.analysis.findings import Findings
from vnbench.output.answer_sentence import listed, undecided
from vnbench.output.words.commands import Options, plan_command, same_command, search_command, sweep_command
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import TrialKind
from vnbench.units import count, format_duration

MAX_STEPS = 3

MAX_UNDECIDED = 3
"""Changes that are named as those which more processes would decide."""

LONGER = 3
"""Times the budget in which no trial ended that a further try gets."""

MUCH_WAITING = 0.1
"""Share of its time that the fastest configuration waits for its loader, above which the loader is looked at next."""


def next_steps(
    records: Sequence[TrialRecord],
    *,
    centre: TrialSpec | None,
    out: Path,
    statuses: Mapping[str, int],
    is_ended_by_image: bool,
    num_unmeasured: int,
    num_repetitions: int,
    replicates: int,
    kinds: Sequence[TrialKind],
    options: Options,
    run: Options,
    stuck_in_s: float | None = None,
) -> Iterator[str]:
    """Yield a line per step. ``options`` are those of the sweep, as they were written; ``records`` its own.

    ``stuck_in_s`` is a time budget in which not one trial ended: the same command once more would not end one, either.

    ``run`` are the options of the run that the records could plan.

    ``num_unmeasured`` configurations got no figure at all, ``num_repetitions`` further processes found no time.
    """
    if is_ended_by_image:
        yield _line(
            "mend the images, or remove those that cannot be used, and measure again", same_command(options, {})
        )
        return
    if stuck_in_s is not None and (num_unmeasured or num_repetitions):
        longer = {"time-budget": f"{math.ceil(LONGER * stuck_in_s)}s"}
        reason = f"no trial ended within {format_duration(stuck_in_s)}; give it more time"
        rest: tuple[str, ...] = (_line(reason, same_command(options, longer)),)
    else:
        rest = tuple(
            _to_finish(statuses, num_unmeasured=num_unmeasured, num_repetitions=num_repetitions, options=options)
        )
    found = Findings(records, centre=centre)
    steps = (
        *(rest or _to_decide(found, kinds=kinds, replicates=replicates, options=options)),
        *_to_look_closer(found, options=options),
        *_to_use(records, out=out, run=run),
    )
    yield from steps[:MAX_STEPS]


def _line(reason: str, command: str) -> str:
    return f"next: {reason}: {command}"


def _to_finish(
    statuses: Mapping[str, int], *, num_unmeasured: int, num_repetitions: int, options: Options
) -> Iterator[str]:
    """Yield what measures the rest of the sweep."""
    failed = sorted(statuses.keys() & {"crashed", "timeout"})
    if num_unmeasured:
        yield _line("measure the rest; the time budget starts again", same_command(options, {}))
    elif num_repetitions:
        repetitions = count(num_repetitions, "repetition")
        yield _line(f"run the {repetitions} that found no time, for narrower intervals", same_command(options, {}))
    elif failed:
        yield _line("try again what failed", same_command(options, {"retry": ",".join(failed)}))


def _to_look_closer(found: Findings, *, options: Options) -> Iterator[str]:
    """Yield what measures that which limits the fastest configuration."""
    if found.answer is None:
        return
    fastest = found.answer.fastest
    if (fastest.data_wait_ratio or 0.0) >= MUCH_WAITING:
        yield _line("find out how many workers feed it", sweep_command(options, {"kind": "compute,loader"}))
    if fastest.spec.device == "cuda" and fastest.spec.batch_size == max(row.spec.batch_size for row in found.training):
        yield _line("find the largest micro-batch that fits", search_command(options))


def _to_decide(found: Findings, *, kinds: Sequence[TrialKind], replicates: int, options: Options) -> Iterator[str]:
    """Yield what narrows the intervals."""
    if all(kind == "memory" for kind in kinds):
        return
    open_changes = undecided(found)[:MAX_UNDECIDED]
    reason = f"decide the effect of {listed(open_changes)} on the time" if open_changes else "narrow the intervals"
    yield _line(reason, same_command(options, {"replicates": str(3 if replicates < 3 else 2 * replicates)}))


def _to_use(records: Sequence[TrialRecord], *, out: Path, run: Options) -> Iterator[str]:
    """Yield what the records are good for."""
    measured = {record.kind for record in records if record.status == "ok"}
    if {"training", "compute"} & measured:
        yield _line("plan a run of your length", plan_command(out, run))
    if measured:
        yield _line("make a report to share", f"vnbench report {shlex.quote(str(out))} --out report")
