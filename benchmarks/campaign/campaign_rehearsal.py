"""Rehearsal of a campaign: what its calls would bring home at durations that its definition assumes.

Nothing is run or measured. The campaign's real order decides on the steps, and a sweep's real design, estimates, time
budget and search decide on its trials, with a clock that stand-ins for the trials advance (campaign_stand_ins.py).
"""

from __future__ import annotations

import shlex
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from campaign_order import MustPassError, run_steps
from campaign_process import START_S, budget_of, is_sweep
from campaign_stand_ins import Assumptions, Clock, Machine
from campaign_steps import Outcome, State, Step

from vnbench.commands.corpus import CorpusPlan, plan_corpus
from vnbench.commands.sweep.search import bases_of
from vnbench.commands.sweep.sweep import designer
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import MAX_BATCH_SIZE
from vnbench.request.config import SweepConfig, complete
from vnbench.request.options import OPTIONS
from vnbench.request.reading import read_request
from vnbench.sweep.budget import Budget
from vnbench.sweep.estimate import TrialTimes, Workload
from vnbench.sweep.loop import BudgetSpentError, due_trials, run_sweep
from vnbench.sweep.search import is_at_its_end, probes_of, search_max_batches

MAX_CALLS = 40
"""Number of calls after which an unfinished campaign will never finish."""


@dataclass(kw_only=True)
class Call:
    """Results of one call."""

    steps: list[tuple[str, Outcome, Counter[str]]] = field(default_factory=list)
    """Each started step with its outcome and its new records by kind and status."""
    seconds: float = 0.0
    """Duration of the call."""

    @property
    def records(self) -> Counter[str]:
        """The new records of all its steps by kind and status."""
        return sum((records for _, _, records in self.steps), Counter())

    @property
    def num_records(self) -> int:
        """Number of new records."""
        return self.records.total()


def rehearsal_lines(
    steps: Sequence[Step], assumed: Assumptions, *, minutes: float, state: State | None = None
) -> Iterator[str]:
    """Yield lines about what each call would bring home, with real durations if ``state`` is that of a real
    campaign."""
    yield f"Durations are ASSUMED, not measured ({assumed.source}):"
    yield from (f"  {line}" for line in assumed.lines())
    width = max(len(step.name) for step in steps)
    for number, call in enumerate(rehearse_calls(steps, assumed, minutes=minutes), start=1):
        yield ""
        yield f"call {number}: {call.seconds:.0f} of {60 * minutes:.0f} s, {call.num_records} records"
        for name, outcome, records in call.steps:
            took = state.of(name) if state is not None else None
            real = "" if took is None else f"; took {', '.join(f'{one:.0f}' for one in took.seconds_of_runs)} s"
            what = ", ".join(f"{count} {kind}" for kind, count in sorted(records.items())) or "no records"
            left = f", {outcome.num_left} left" if outcome.num_left else ""
            cut = ", out of time" if outcome.is_cut_short else ""
            yield f"  {name:{width}}  {outcome.seconds:4.0f} s  {what}{left}{cut}{real}"


def rehearse_calls(steps: Sequence[Step], assumed: Assumptions, *, minutes: float) -> Iterator[Call]:
    """Yield the calls of a campaign until nothing is left to do or nothing advances."""
    rehearsal = Rehearsal(assumed)
    with tempfile.TemporaryDirectory() as folder:
        state = State(Path(folder) / "state.json")
        for _ in range(MAX_CALLS):
            call = rehearsal.call(steps, state, seconds=60 * minutes)
            if call.steps:
                yield call
            if not any(outcome.has_advanced for _, outcome, _ in call.steps):
                return


class Rehearsal:
    """A pretended machine, with the results files that it would fill."""

    def __init__(self, assumed: Assumptions) -> None:
        self._assumed = assumed
        self._clock = Clock()
        self._files: dict[str, list[TrialRecord]] = {}
        self._drawn: set[tuple[str, int]] = set()

    def call(self, steps: Sequence[Step], state: State, *, seconds: float) -> Call:
        """Return the results of a call of ``seconds``; ``state`` is that after the earlier calls."""
        call = Call()
        start_s = self._clock()

        def run(step: Step, limit_s: float) -> Outcome:
            outcome, records = self._run(step, limit_s)
            call.steps.append((step.name, outcome, Counter(f"{one.kind} {one.status}" for one in records)))
            return outcome

        with suppress(MustPassError):  # it does not fit; stand-ins never fail
            run_steps(steps, state, run=run, seconds=seconds, clock=self._clock, tell=lambda line: None)
        call.seconds = self._clock() - start_s
        # The outcomes as stored, with the history of earlier runs.
        call.steps = [(name, state.of(name) or outcome, records) for name, outcome, records in call.steps]
        return call

    def _run(self, step: Step, limit_s: float) -> tuple[Outcome, list[TrialRecord]]:
        start_s = self._clock()
        words = shlex.split(step.command)
        if not is_sweep(words):
            takes_s = step.assumed_s if step.assumed_s is not None else 60 * step.minutes
            self._clock.pass_s(min(takes_s, limit_s))
            is_cut_short = takes_s > limit_s
            return Outcome(exit_code=0, seconds=self._clock() - start_s, is_cut_short=is_cut_short), []
        sweep = _Sweep(words, self._assumed, self._clock, budget_s=budget_of(limit_s))
        file = self._files.setdefault(sweep.out, [])
        known = len(file)
        num_left = sweep.run(file, self._drawn)
        is_cut_short = self._clock() - start_s > limit_s
        own = sweep.own_records(file)
        return (
            Outcome(
                exit_code=0,
                seconds=self._clock() - start_s,
                is_cut_short=is_cut_short,
                statuses=dict(Counter(record.status for record in own)),
                num_left=num_left,
            ),
            file[known:],
        )


class _Sweep:
    """One ``vnbench sweep`` in a rehearsal."""

    def __init__(self, words: Sequence[str], assumed: Assumptions, clock: Clock, *, budget_s: float) -> None:
        flags, config_path = _flags(words)
        self.out = flags.get("out", "")
        self._clock = clock
        self._assumed = assumed
        self._start_s = clock()
        self._config: SweepConfig = complete(
            read_request(flags, config_path=config_path), environment=assumed.environment()
        )
        self._budget = Budget(total_s=budget_s, start=clock() + START_S, clock=clock)
        self._corpus: CorpusPlan = plan_corpus(self._config)
        self._workload = Workload(train_sizes_N2=self._corpus.train_sizes_N2, worst_case=self._corpus.worst_case)
        self._machine = Machine(assumed, self._workload)
        self._wanted: set[tuple[str, int]] = set()

    def own_records(self, file: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Return this sweep's records from all calls."""
        return [one for one in file if (one.spec_id, one.replicate) in self._wanted]

    def run(self, file: list[TrialRecord], drawn: set[tuple[str, int]]) -> int:
        """Run what fits into the budget, append its records to ``file``, and return the number of trials left."""
        self._clock.pass_s(self._assumed.sweep_s)
        left = self._search(file) if self._config.find_max_batch else self._sweep(file, drawn)
        self._clock.pass_s(self._assumed.end_s)
        return left

    def _sweep(self, file: list[TrialRecord], drawn: set[tuple[str, int]]) -> int:
        config = self._config
        design = designer(self._corpus, {})(config)
        self._wanted = {(one.spec.spec_id, one.replicate) for one in design.trials}
        due = due_trials(design.trials, records=file, retry=())
        self._clock.pass_s(self._assumed.probe_s)
        times = self._times(file)
        specs = [trial.planned.spec for trial in due]
        self._draw(specs, drawn)
        ended = 0
        for record in run_sweep(
            due,
            records=list(file),
            run=lambda task: self._within_budget(self._machine.record(task)),
            corpus_directory="",
            environment={},
            observer=_Learning(times),
            max_attempts=1,
            is_device_there=lambda: True,
            takes_s=times.of,
            deadline=self._budget.deadline,
            clock=self._clock,
        ):
            file.append(record)
            ended += 1
        return len(due) - ended

    def _search(self, file: list[TrialRecord]) -> int:
        bases = bases_of(self._config, self._corpus)
        times = self._times(file)
        try:
            for record in search_max_batches(
                bases,
                records=list(file),
                run=lambda task: self._within_budget(self._machine.record(task)),
                observer=_Learning(times),
                most=MAX_BATCH_SIZE,
                takes_s=times.of,
                deadline=self._budget.deadline,
                clock=self._clock,
            ):
                file.append(record)
        except BudgetSpentError:
            pass
        self._wanted = {(one.spec_id, one.replicate) for base in bases for one in probes_of(base, file)}
        return sum(not is_at_its_end(base, file, most=MAX_BATCH_SIZE) for base in bases)

    def _times(self, file: Sequence[TrialRecord]) -> TrialTimes:
        return TrialTimes(workload=self._workload, pace=self._machine.pace(), finished=file)

    def _within_budget(self, record: TrialRecord) -> TrialRecord:
        longest_s = self._budget.longest_s()
        self._clock.pass_s(min(record.elapsed_s, longest_s))
        if record.elapsed_s > longest_s:
            raise BudgetSpentError
        return record

    def _draw(self, specs: Sequence[TrialSpec], drawn: set[tuple[str, int]]) -> None:
        """Advance the clock by the time to write images that no earlier sweep has written."""
        corpus = self._corpus
        if corpus.spec is None:
            return
        missing = {index for index in corpus.measured_examples(specs) if (corpus.corpus_id, index) not in drawn}
        drawn |= {(corpus.corpus_id, index) for index in missing}
        pixels = int(corpus.spec.sizes_N2()[sorted(missing)].prod(axis=1).sum()) if missing else 0
        self._clock.pass_s(self._assumed.drawing_s(pixels))


class _Learning:
    """Lets estimates learn from finished trials, as a sweep's display does."""

    def __init__(self, times: TrialTimes) -> None:
        self._times = times

    def started(self, spec: TrialSpec, more: object) -> None:
        """Do nothing."""

    def repeated(self, record: TrialRecord) -> None:
        """Do nothing."""

    def finished(self, record: TrialRecord) -> None:
        """Let the estimates learn from the record."""
        self._times.learn(record)

    def noted(self, message: str) -> None:
        """Do nothing."""


def _flags(words: Sequence[str]) -> tuple[dict[str, str], Path | None]:
    """Return the options of a sweep's command line and its configuration file."""
    flags: dict[str, str] = {}
    rest = iter(words[2:])
    for word in rest:
        name = word.removeprefix("--")
        flags[name] = "yes" if name in OPTIONS and OPTIONS[name].is_switch else next(rest)
    config = flags.pop("config", None)
    return flags, None if config is None else Path(config)
