"""The trials of one sweep as they are run: the images that they read, and the file that their records go to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console

from vnbench.commands.corpus import CorpusPlan, prepare_corpus
from vnbench.output.progress import SweepProgress
from vnbench.records.machine_keys import Environment
from vnbench.records.readings import ForecastReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.store import ResultsFile
from vnbench.records.task import TrialTask
from vnbench.request.config import SweepConfig
from vnbench.sweep.budget import Budget
from vnbench.sweep.device_loss import is_device_there
from vnbench.sweep.estimate import TrialTimes
from vnbench.sweep.loop import BudgetSpentError, DueTrial, is_of_unusable_image, run_sweep
from vnbench.sweep.runner import run_traces, run_trial

Forecaster = Callable[[TrialSpec, Sequence[TrialRecord]], ForecastReading | None]
"""Returns the forecast of a trial from the records before it; None if it has none."""


class SweepRun:
    """Runs the trials of a sweep within its time budget, and remembers which of them got a record."""

    def __init__(
        self,
        config: SweepConfig,
        corpus: CorpusPlan,
        environment: Environment,
        results: ResultsFile,
        *,
        console: Console,
        budget: Budget,
        times: TrialTimes,
    ) -> None:
        self._config = config
        self._corpus = corpus
        self._environment = environment
        self._results = results
        self._console = console
        self._budget = budget
        self._times = times
        self._ended: set[tuple[str, int]] = set()
        self.is_ended_by_image = False
        """Whether it ended at an image file that cannot be used."""

    def prepare(self, due: Sequence[DueTrial]) -> None:
        """Write the images that some trials read, where they are not there yet."""
        examples = self._corpus.measured_examples(trial.planned.spec for trial in due)
        prepare_corpus(self._corpus, examples, console=self._console)

    def run(self, due: Sequence[DueTrial], *, forecast: Forecaster = lambda spec, records: None) -> None:
        """Run the trials that are due, storing each as it ends with its forecast; those first that are only traced."""
        with SweepProgress(
            [trial.planned.spec for trial in due],
            times=self._times,
            console=self._console,
            budget_left_s=self._budget.left_s,
        ) as progress:
            self._trace([trial for trial in due if trial.planned.spec.is_traced], progress)
            for record in run_sweep(
                [trial for trial in due if not trial.planned.spec.is_traced],
                records=self._results.records,
                run=self._run_trial,
                corpus_directory=str(self._corpus.directory),
                environment=self._environment,
                observer=progress,
                max_attempts=self._config.max_attempts,
                is_device_there=lambda: is_device_there(self._environment),
                takes_s=self._times.of,
                deadline=self._budget.deadline,
            ):
                self._store(replace(record, forecast=forecast(record.spec, self._results.records)))

    def _trace(self, due: Sequence[DueTrial], progress: SweepProgress) -> None:
        """Trace the steps that are not to be run, all in one process."""
        if not due:
            return
        progress.started(due[0].planned.spec, 1)
        tasks = [
            TrialTask(spec=one.planned.spec, replicate=0, attempt=one.attempt, corpus_directory=None) for one in due
        ]
        timeout_s, longest_s = self._config.trial_timeout_s, self._budget.longest_s()
        for record in run_traces(tasks, environment=self._environment, timeout_s=min(timeout_s, longest_s)):
            if record.status != "timeout" or longest_s >= timeout_s:
                self._store(record)
                progress.finished(record)

    def _store(self, record: TrialRecord) -> None:
        self._results.append(replace(record, images=self._config.images))
        self.is_ended_by_image |= is_of_unusable_image(record)
        self._ended.add((record.spec_id, record.replicate))

    def not_started(self, due: Sequence[DueTrial]) -> list[TrialSpec]:
        """Return the trials that got no record."""
        return [
            trial.planned.spec
            for trial in due
            if (trial.planned.spec.spec_id, trial.planned.replicate) not in self._ended
        ]

    def _run_trial(self, task: TrialTask) -> TrialRecord:
        """Return the record of a trial.

        Raises:
            BudgetSpentError: the time budget ended it.
        """
        timeout_s, longest_s = self._config.trial_timeout_s, self._budget.longest_s()
        record = run_trial(
            replace(task, worker_timeout_s=self._config.worker_timeout_s),
            environment=self._environment,
            timeout_s=min(timeout_s, longest_s),
        )
        if record.status == "timeout" and longest_s < timeout_s:
            raise BudgetSpentError
        return record
