"""The process that a drill kills: it trains, keeps snapshots, goes on from the last one, and says where it is."""

from __future__ import annotations

import itertools
import resource
import statistics
import sys
import time
from pathlib import Path

from torch import Tensor

from vnbench.errors import VnbenchError
from vnbench.loops.planned_run import PlannedRun
from vnbench.loops.snapshot import Position, Run, Snapshots, read
from vnbench.records.drill_task import DrillLine, DrillTask, Word
from vnbench.records.failures import summary_line
from vnbench.trial.step.digest import digest_of

NUM_PROBES = 5
"""Snapshots that are written and read to measure one."""


def main() -> int:
    """Train as the DrillTask in the first argument says; return the exit code."""
    _say("imported", 0)
    task = DrillTask.from_json(sys.argv[1])
    try:
        train(task)
    except VnbenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except BrokenPipeError:  # whoever drills is gone
        return 1
    except Exception as error:  # the outermost frame of the process
        sys.stderr.write(f"{summary_line(error)}\n")
        return 1
    return 0


def train(task: DrillTask) -> None:
    """Train to the end of the last epoch, from the last snapshot."""
    spec, planned_run = task.trial.spec, PlannedRun(task.trial)
    step, sampler = planned_run.step, planned_run.sampler
    _say("ready", 0)
    run = Run(
        model=step.model,
        optimizer=step.optimizer,
        sampler=sampler,
        scaler=step.scaler,
        settings={"precision": spec.precision, "model": spec.model},
    )
    if task.most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (task.most_bytes, task.most_bytes))
    with Snapshots(task.folder, mode=task.mode) as snapshots:
        position = snapshots.restore(run)
        done = int(position.counters.get("steps") or 0)
        _say("begin", done)
        for epoch in range(position.epoch, task.num_epochs):
            sampler.set_epoch(epoch)
            steps, batches = planned_run.remaining()
            if epoch == position.epoch and steps:
                first = next(batches)
                _say("fetched", done)
                batches = itertools.chain([first], batches)
            for number, planned in enumerate(steps, start=sampler.first_step + 1):
                _say("loading", done)
                planned_run.train(planned, batches)
                done += 1
                _say("step", done)
                here = Position(epoch=epoch, next_step=number, counters={"steps": done})
                if task.interval is not None and done % task.interval == 0:
                    _save(snapshots, run, here, done=done, is_async=task.mode == "async", interval=task.interval)
                if done == task.probe_at:
                    _probe(snapshots, run, here, folder=Path(task.folder), done=done)
    _say("end", done, _digest(run))


def _save(snapshots: Snapshots, run: Run, here: Position, *, done: int, is_async: bool, interval: int) -> None:
    """Keep a snapshot; of one that is written meanwhile only the one before is known to be on the disk."""
    _say("writing", done)
    snapshots.save(run, here)
    _say("saved", done - interval if is_async else done)


def _probe(snapshots: Snapshots, run: Run, here: Position, *, folder: Path, done: int) -> None:
    """Write and read snapshots as the run does, and say what it took: seconds of each, in the median, and bytes."""
    written_s, read_s = [], []
    for _ in range(NUM_PROBES):
        start = time.monotonic()
        snapshots.save(run, here)
        written_s.append(time.monotonic() - start)
        snapshots.wait()
        last = max(folder.glob("snapshot-*"))
        start = time.monotonic()
        read(last)
        read_s.append(time.monotonic() - start)
    values = (statistics.median(written_s), statistics.median(read_s), last.stat().st_size)
    _say("probed", done, *map(str, values))


def _digest(run: Run) -> str:
    """Return a digest of the network and of the optimizer's state, to the bit."""
    states = [value for state in run.optimizer.state.values() for value in state.values()]
    values = [*run.model.state_dict().values(), *states]
    return digest_of(value for value in values if isinstance(value, Tensor))


def _say(word: Word, done: int, *values: str) -> None:
    sys.stdout.write(DrillLine(word=word, step=done, at_s=time.monotonic(), values=values).to_text() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
