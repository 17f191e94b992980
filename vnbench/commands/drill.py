"""``vnbench drill``: a training run is killed again and again, goes on from its snapshots, and has to end the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from rich.console import Console

from vnbench.analysis.planning.drills import (
    DrillReport,
    Hit,
    Kill,
    Measured,
    best_interval,
    draw_kills,
    planned_s,
    with_snapshots,
)
from vnbench.commands.one_run import prepare_run
from vnbench.errors import ChildError, InputError
from vnbench.output.console import say, stderr_console, tell
from vnbench.output.tables.drill import drill_lines
from vnbench.processes.locks import gpu_lock
from vnbench.processes.scratch import scratch_folder
from vnbench.records.drill_task import DrillLine, DrillTask, Word
from vnbench.records.spec.words import Harm
from vnbench.request.option import parsed, with_defaults
from vnbench.request.options import DRILL_OPTIONS
from vnbench.sweep.drilling import Ended, When, follow
from vnbench.units import count, format_duration

TORN_EVERY = 3
"""Of how many kills one is followed by a torn file."""

SILENT_S = 300.0
"""Seconds without a word after which a process counts as hung."""


def run_drill_command(flags: Mapping[str, str | None], *, as_json: bool) -> DrillReport:
    """Train a run without kills, then with them, and tell what they cost.

    Raises:
        InputError: an option cannot be used, or snapshots cannot be kept where they are to be.
        ChildError: the run fails by itself, or hangs.
    """
    console = stderr_console()
    values = parsed(DRILL_OPTIONS, with_defaults(DRILL_OPTIONS, flags))
    target: Path | None = values.get("snapshot-target")
    if target is not None and not target.is_dir():
        raise InputError("--snapshot-target", target, allowed="there is no such folder", remedy="make it, or name one")
    run = prepare_run(flags, console=console)
    with (
        gpu_lock(run.environment["device_uuid"]),
        scratch_folder("vnbench-drill-", parent=target) as kept,
    ):
        task = DrillTask(
            trial=run.task,
            num_epochs=values["epochs"],
            folder=str(kept / "calibration"),
            mode=values["snapshot-mode"],
            interval=None,
        )
        measured, digest = _measured(task, console=console)
        num_kills: int = values["kills"]
        num_steps = len(measured.step_times_s)
        asked: int | None = values.get("interval")
        with_them = replace(
            task, folder=str(kept / "with"), interval=asked or best_interval(measured, num_kills=num_kills)
        )
        measured = _with_snapshots(with_them, measured, digest=digest, console=console)
        interval = asked or best_interval(measured, num_kills=num_kills)
        kills = draw_kills(num_kills, num_steps=num_steps, interval=interval, seed=run.task.spec.seed)
        planned = planned_s(measured, kills, interval=interval)
        say(
            console,
            f"{count(num_steps, 'step')} in {format_duration(measured.work_s)}, a snapshot every "
            f"{count(interval, 'step')}, {count(num_kills, 'kill')}: planned to take "
            f"{format_duration(planned['p10'])} to {format_duration(planned['p90'])}",
        )
        killed = replace(task, folder=str(kept / "run"), interval=interval)
        drilled = _Drill(killed, kills, measured=measured, harm=values["harm"], console=console)
        ended = drilled.to_the_end()
    report = DrillReport(
        measured=measured,
        hits=tuple(drilled.hits),
        interval=interval,
        planned_s=planned,
        measured_s=drilled.elapsed_s,
        is_bitwise_equal=ended == digest,
        is_full_told=drilled.is_full_told,
    )
    if not as_json:
        tell(drill_lines(report))
    return report


def _measured(task: DrillTask, *, console: Console) -> tuple[Measured, str]:
    """Train the run without kills, and its second half once more from a snapshot; return what they take, and a digest.

    Raises:
        ChildError: the run fails.
    """
    say(console, "training without kills, to know what it takes")
    plan = follow(task, when=_never, timeout_s=SILENT_S)
    _check(plan)
    num_steps = plan.lines[-1].step
    half = max(1, num_steps // 2)
    probed = follow(replace(task, probe_at=half), when=_at_word("probed"), timeout_s=SILENT_S)
    if not any(line.word == "probed" for line in probed.lines):
        _check(probed)
    say(console, "going on from half of it, to know what a restart takes")
    resumed = follow(task, when=_never, timeout_s=SILENT_S)
    _check(resumed)
    times_s = _step_times_s(plan.lines)
    again_s = _step_times_s(probed.lines)[:half], _step_times_s(resumed.lines)
    written_s, read_s, num_bytes = map(float, next(line for line in probed.lines if line.word == "probed").values)
    if resumed.lines[-1].values != plan.lines[-1].values:
        raise ChildError(
            "a run that went on from a snapshot ended otherwise than one that was never stopped: this "
            "training does not repeat to the bit"
        )
    return (
        Measured(
            start_up_s=_started_up_s(plan),
            step_times_s=tuple(map(fmean, zip(times_s, (*again_s[0], *again_s[1]), strict=True))),
            spread=abs(math.log(sum(times_s) / sum(map(sum, again_s)))) / math.sqrt(2),
            held_up_s=written_s,
            snapshot_s=written_s,
            read_s=read_s,
            num_bytes=int(num_bytes),
            restart_s=_started_up_s(resumed) + _lost_at_first_s(again_s[1], times_s[half:], num_epochs=task.num_epochs),
        ),
        plan.lines[-1].values[0],
    )


def _with_snapshots(task: DrillTask, measured: Measured, *, digest: str, console: Console) -> Measured:
    """Train the run with snapshots and without kills, and return what they cost it in all.

    Raises:
        ChildError: the run fails, or ends otherwise than without snapshots.
    """
    say(console, f"training with a snapshot every {count(task.interval or 1, 'step')}, to know what these take of it")
    ended = follow(task, when=_never, timeout_s=SILENT_S)
    _check(ended)
    if ended.lines[-1].values[0] != digest:
        raise ChildError(
            "a run with snapshots ended otherwise than one without: this training does not repeat to the bit"
        )
    saves = [line for line in ended.lines if line.word in ("writing", "saved")]
    held_up_s = sum(after.at_s - before.at_s for before, after in zip(saves[::2], saves[1::2], strict=True))
    return with_snapshots(measured, times_s=sum(_step_times_s(ended.lines)) + held_up_s, num_saves=len(saves) // 2)


class _Drill:
    """A run that is started again after each kill, until it ends."""

    def __init__(
        self, task: DrillTask, kills: Sequence[Kill], *, measured: Measured, harm: Harm, console: Console
    ) -> None:
        self.hits: list[Hit] = []
        self.elapsed_s = 0.0
        self.is_full_told: bool | None = None
        self._task = task
        self._kills = kills
        self._measured = measured
        self._harm = harm
        self._console = console

    def to_the_end(self) -> str:
        """Return the digest of what the run ends with.

        Raises:
            ChildError: the run ends by itself before it is killed, or says nothing any more.
        """
        before: tuple[Kill, Ended, bool] | None = None
        if self._harm == "full-disk":
            self._fill_up()
        for kill in self._kills:
            ended = self._run(kill)
            self._note(before, ended)
            if ended.exit_code >= 0:
                _check(ended)
            is_torn = self._harm == "torn" and len(self.hits) % TORN_EVERY == 0 and self._tear()
            before = kill, ended, is_torn
            say(self._console, f"[{len(self.hits) + 1}/{len(self._kills)}] killed after step {_done(ended.lines)}")
        ended = self._run(None)
        self._note(before, ended)
        _check(ended)
        return ended.lines[-1].values[0]

    def _run(self, kill: Kill | None) -> Ended:
        when = _never if kill is None else _killing(kill, self._measured)
        ended = follow(self._task, when=when, timeout_s=SILENT_S)
        self.elapsed_s += ended.ended_s - ended.started_s
        return ended

    def _note(self, before: tuple[Kill, Ended, bool] | None, after: Ended) -> None:
        """Note what the last kill cost, which its successor tells by the step from which it goes on."""
        if before is None:
            return
        kill, killed, is_torn = before
        begun = next((line.step for line in after.lines if line.word == "begin"), 0)
        saved = max((line.step for line in killed.lines if line.word in ("saved", "begin")), default=0)
        done = _done(killed.lines)
        self.hits.append(
            Hit(
                kill=kill,
                last_word=killed.lines[-1].word if killed.lines else "start",
                done=done,
                redone=max(0, done - begun),
                is_lost=begun < saved and not is_torn,
                was_torn=is_torn,
            )
        )

    def _tear(self) -> bool:
        """Cut the last file in half, if there is one before it; return whether there is."""
        files = sorted(Path(self._task.folder).glob("snapshot-*"))
        if len(files) < 2:
            return False
        content = files[-1].read_bytes()
        files[-1].write_bytes(content[: len(content) // 2])
        return True

    def _fill_up(self) -> None:
        """Run into a disk that fills up in the first snapshot after one that is whole."""
        first = follow(self._task, when=_at_word("saved"), timeout_s=SILENT_S)
        full = replace(self._task, most_bytes=self._measured.num_bytes // 2)
        ended = follow(full, when=_never, timeout_s=SILENT_S)
        has_told = ended.exit_code == 2 and "cannot be written" in ended.error
        again = follow(self._task, when=_at_word("begin"), timeout_s=SILENT_S)
        begun = next((line.step for line in again.lines if line.word == "begin"), 0)
        self.is_full_told = has_told and begun >= max(line.step for line in first.lines if line.word == "saved")


def _never(_: DrillLine) -> None:
    """Tell that a process is to run to its end."""


def _killing(kill: Kill, measured: Measured) -> When:
    """Return what tells from a line in how many seconds to kill, or None."""

    def when(line: DrillLine) -> float | None:
        if kill.place == "write":
            is_there = line.word == "writing" and line.step >= kill.step
            return kill.share * measured.held_up_s if is_there else None
        if line.word != "loading" or line.step < kill.step:
            return None
        return 0.0 if kill.place == "loader" else kill.share * measured.step_times_s[line.step]

    return when


def _at_word(word: Word) -> When:
    return lambda line: 0.0 if line.word == word else None


def _lost_at_first_s(times_s: Sequence[float], seen_s: Sequence[float], *, num_epochs: int) -> float:
    """Return the seconds that a process takes longer for its first steps than one that had met their shapes.

    An epoch of steps is long enough to meet most of them.
    """
    num_steps = max(1, (len(times_s) + len(seen_s)) // num_epochs)
    return max(0.0, sum(times_s[:num_steps]) - sum(seen_s[:num_steps]))


def _started_up_s(ended: Ended) -> float:
    """Return the seconds until a process waited for its first batch."""
    return next(line.at_s for line in ended.lines if line.word == "loading") - ended.started_s


def _done(lines: Sequence[DrillLine]) -> int:
    return max((line.step for line in lines), default=0)


def _step_times_s(lines: Sequence[DrillLine]) -> tuple[float, ...]:
    return tuple(_durations(line for line in lines if line.word in ("loading", "step")))


def _durations(lines: Iterator[DrillLine]) -> Iterator[float]:
    for before, after in itertools.pairwise(lines):
        if after.word == "step":
            yield after.at_s - before.at_s


def _check(ended: Ended) -> None:
    """Raise an error if a process did not end by itself, with all of its work done."""
    if ended.exit_code == 2:
        raise InputError("the run", allowed=ended.error or "it ended by itself", remedy="correct this, and drill again")
    if ended.exit_code or not ended.lines or ended.lines[-1].word != "end":
        raise ChildError(f"the run ended by itself: {ended.error or f'exit code {ended.exit_code}'}")
