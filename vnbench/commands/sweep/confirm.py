"""Train the cells that confirm the forecasts of a factored sweep, as far as they are not yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from vnbench.analysis.trials.summary import latest_attempts
from vnbench.commands.corpus import CorpusPlan
from vnbench.commands.sweep.run import SweepRun
from vnbench.output.console import say
from vnbench.records.readings import ForecastReading
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.store import ResultsFile
from vnbench.request.config import SweepConfig
from vnbench.sweep.confirming import choose_confirmations, confirming_trials, with_centers
from vnbench.sweep.design import Design
from vnbench.sweep.factored import Parts, timed_trainings
from vnbench.sweep.loop import DueTrial, due_trials
from vnbench.sweep.order import PlannedTrial
from vnbench.units import count


def parts_of(config: SweepConfig, corpus: CorpusPlan, records: Sequence[TrialRecord]) -> Parts:
    """Return the measured parts of a sweep on some images."""
    return Parts(
        config,
        latest_attempts(records),
        corpus_id=corpus.corpus_id,
        worst_case=corpus.worst_case,
        sizes_N2=corpus.train_sizes_N2,
    )


def confirm(
    design: Design,
    config: SweepConfig,
    corpus: CorpusPlan,
    *,
    results: ResultsFile,
    sweep: SweepRun,
    console: Console,
) -> tuple[Design, tuple[DueTrial, ...]]:
    """Run what is due, and return the design with all confirming trials, and what was due."""
    measured = design.own(results.records)
    parts = parts_of(config, corpus, measured)
    chosen = choose_confirmations(parts.forecast_all(), measured, center=parts.center, seed=config.seed)
    cells = {one.spec: one.cell for one in chosen}
    trials = [
        trial for trial in confirming_trials(chosen, config, worst_case=corpus.worst_case) if trial not in design.trials
    ]
    unfinished = due_trials(trials, records=results.records, retry=config.retry)
    due = tuple(with_centers(unfinished, center=parts.center, records=results.records))

    def forecast(spec: TrialSpec, records: Sequence[TrialRecord]) -> ForecastReading | None:
        """Return the forecast of a chosen cell from the parts, and from the last process of the centre before it."""
        if spec not in cells:
            return None
        trained = timed_trainings(records, parts.center)
        found = parts.forecast(cells[spec], anchors=trained[-1:], trained=trained)
        return None if found is None else found.epoch

    say(console, f"{count(len(chosen), 'forecast')} to confirm, {count(len(due), 'trial')}")
    sweep.run(due, forecast=forecast)
    centers = {record.replicate for record in results.records if record.spec == parts.center}
    trials += [PlannedTrial(spec=parts.center, replicate=replicate) for replicate in sorted(centers)]
    return replace(design, trials=(*design.trials, *trials)), due
