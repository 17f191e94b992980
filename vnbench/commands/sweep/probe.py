"""Before a sweep is planned: how fast the machine is, and what the sweep chooses by it.

What was chosen goes into the results file before the first trial and is taken from there afterwards, so that the same
command goes on with the same trials. Until a trial was measured, a probe that was disturbed is taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vnbench.commands.corpus import CorpusPlan
from vnbench.output.words.numbers import significant
from vnbench.records.probe_reading import ProbeReading, SweepChoices
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ProbeSpec, TrialSpec
from vnbench.records.spec.words import Precision
from vnbench.records.task import TrialTask
from vnbench.records.values.identity import digest
from vnbench.request.choosing import precisions_without_units
from vnbench.request.config import SweepConfig
from vnbench.sweep.budget import ENDING_S, SweepEstimate
from vnbench.sweep.cells import center_of
from vnbench.sweep.choices import choose, chosen_config, precisions_to_sweep
from vnbench.sweep.design import Design, probe_spec
from vnbench.sweep.estimate import Pace, TrialTimes, Workload
from vnbench.sweep.loop import DueTrial
from vnbench.units import mpx

PROBE_CANVASES = ((128, 512), (256, 1280), (480, 3200), (640, 6400))
"""Height and width in pixels: from little enough for a precision that is emulated to half a worst-case image."""

PROBE_S = 2.5
"""Seconds in which a probe's steps are to end: what it says is worth 1 % of a sweep of five minutes."""

PROBE_TIMEOUT_S = 60.0
"""A probe that runs longer is ended, and the sweep goes on with a rough guess."""

DRAWING_S_PER_MPX = 0.06
"""Seconds in which two cores draw and encode a megapixel of a synthetic log and its mask."""

UNPROBED_PRECISIONS: tuple[Precision, ...] = ("fp32",)
"""What a sweep of a CPU that was to choose takes where the probe failed: every processor computes it. What a GPU has
units for is known without a probe."""

RunTrial = Callable[[TrialTask, float], TrialRecord]
"""Runs one trial under a time limit in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """A sweep with what was chosen for it."""

    config: SweepConfig
    """What will be measured."""
    pace: Pace
    """How fast the machine trains."""
    probe: TrialRecord
    """The probe, with the choices; of this command or an earlier one."""
    is_new: bool
    """Whether it is to be written to the results file."""
    lines: tuple[str, ...]
    """What to say of the probe and the choices."""


def settle(
    config: SweepConfig,
    corpus: CorpusPlan,
    *,
    probes: Sequence[TrialRecord],
    records: Sequence[TrialRecord],
    elapsed_s: float,
    design_of: Callable[[SweepConfig], Design],
    run: RunTrial,
) -> Settled:
    """Return the sweep as it will be measured on this machine.

    ``probes`` and ``records`` are those of the results file. The last probe of the same request is remembered, but a
    disturbed one is taken again as long as no trial was measured with its choices. ``elapsed_s`` have gone by since the
    sweep began. ``run`` runs the probe; one that dies or hangs leaves the rough guess.
    """
    spec = probe_of(config, corpus)
    known = next((record for record in reversed(probes) if record.spec_id == spec.spec_id), None)
    if known is not None:
        assert known.choices is not None
        if not known.disturbances or design_of(chosen_config(config, known.choices)).own(records):
            return _settled(config, known, spec, is_new=False, is_remembered=True)
    attempt = 0 if known is None else known.attempt + 1
    record = run(TrialTask(spec=spec, replicate=0, attempt=attempt, corpus_directory=None), PROBE_TIMEOUT_S)
    record = replace(record, choices=_choices(config, corpus, record, spec, elapsed_s=elapsed_s, design_of=design_of))
    is_new = config.chooses_precision or config.chooses_size
    return _settled(config, record, spec, is_new=is_new, is_remembered=False)


def probe_of(config: SweepConfig, corpus: CorpusPlan) -> ProbeSpec:
    """Return the probe of a sweep: the centre's network on small canvases, in every precision of the axis."""
    height, width = corpus.worst_case
    canvases = tuple((min(h, height), min(w, width)) for h, w in PROBE_CANVASES)
    precisions = config.axes["precision"]
    return probe_spec(
        replace(center_of(config), compile="none", micro_batch_size=None, batch_size=1),
        config,
        tuple(dict.fromkeys(canvases)),
        precisions=(*precisions, "fp32") if "fp32" not in precisions else precisions,
        max_measuring_s=PROBE_S,
        sweep_id=digest(_request(config, corpus)),
    )


def _request(config: SweepConfig, corpus: CorpusPlan) -> Mapping[str, Any]:
    """Return what a sweep was asked to measure, as JSON values; how long it may take is no part of it."""
    return {
        "axes": dict(config.axes),
        "center": config.center,
        "design": config.design,
        "kinds": config.kinds,
        "corpus_id": corpus.corpus_id,
        "worst_case": corpus.worst_case,
        "is_chosen": [config.chooses_precision, config.chooses_size],
    }


def estimate_sweep(
    corpus: CorpusPlan, due: Sequence[DueTrial], times: TrialTimes, *, elapsed_s: float
) -> SweepEstimate:
    """Return what a sweep will take of which ``elapsed_s`` have gone by: its images, the due trials, and the end."""
    specs = [trial.planned.spec for trial in due]
    num_first = max((at + 1 for at, trial in enumerate(due) if trial.planned.replicate == 0), default=0)
    timed_s = [times.of(spec) for spec in specs if spec.kind != "memory"]
    first_s = min(timed_s, default=0.0)
    return SweepEstimate(
        total_s=_takes_s(corpus, specs, times, elapsed_s=elapsed_s),
        least_s=elapsed_s + drawing_s(corpus, specs) + first_s + ENDING_S if specs else 0.0,
        once_s=_takes_s(corpus, specs[:num_first], times, elapsed_s=elapsed_s),
    )


def _takes_s(corpus: CorpusPlan, specs: Sequence[TrialSpec], times: TrialTimes, *, elapsed_s: float) -> float:
    return elapsed_s + drawing_s(corpus, specs) + times.total(specs) + ENDING_S


def drawing_s(corpus: CorpusPlan, specs: Sequence[TrialSpec]) -> float:
    """Return the seconds in which the images that some trials read are written, where they are not there yet."""
    return mpx(corpus.missing_pixels(corpus.measured_examples(specs))) * DRAWING_S_PER_MPX


def _choices(
    config: SweepConfig,
    corpus: CorpusPlan,
    record: TrialRecord,
    spec: TrialSpec,
    *,
    elapsed_s: float,
    design_of: Callable[[SweepConfig], Design],
) -> SweepChoices:
    precision = config.axes["precision"]
    if config.chooses_precision:
        if record.probe is not None:
            precision = precisions_to_sweep(record.probe)
        elif config.device == "cpu":
            precision = UNPROBED_PRECISIONS
    if not config.chooses_size or config.time_budget_s is None:
        return SweepChoices(
            precision=precision,
            subset_size=config.subset_size,
            max_epochs=config.max_epochs,
            replicates=config.replicates,
            reference_runs=config.reference_runs,
            memory_by=config.memory_by,
        )
    times = TrialTimes(workload=workload_of(corpus), pace=_pace(record, spec))
    return choose(
        config,
        precision=precision,
        budget_s=config.time_budget_s,
        num_train=len(corpus.train_sizes_N2),
        design_of=design_of,
        takes_s=lambda design: _takes_s(corpus, [trial.spec for trial in design.trials], times, elapsed_s=elapsed_s),
    )


def workload_of(corpus: CorpusPlan) -> Workload:
    """Return what the images of a sweep weigh."""
    return Workload(train_sizes_N2=corpus.train_sizes_N2, worst_case=corpus.worst_case)


def _pace(record: TrialRecord, spec: TrialSpec) -> Pace:
    return Pace.rough(spec) if record.probe is None else Pace.of(record.probe)


def _settled(
    config: SweepConfig, record: TrialRecord, spec: TrialSpec, *, is_new: bool, is_remembered: bool
) -> Settled:
    assert record.choices is not None
    pace = _pace(record, spec)
    return Settled(
        config=chosen_config(config, record.choices),
        pace=pace,
        probe=record,
        is_new=is_new,
        lines=(*_lines(config, record, pace, is_remembered=is_remembered), *_doubts(record, is_remembered)),
    )


def _lines(config: SweepConfig, record: TrialRecord, pace: Pace, *, is_remembered: bool) -> Iterator[str]:
    assert record.choices is not None
    since = f", remembered from {record.started_at.replace('T', ' ')[:16]} UTC" if is_remembered else ""
    probe, chosen = record.probe, record.choices.precision
    if config.chooses_precision and (
        without := precisions_without_units(config.axes["precision"], device=config.device)
    ):
        yield f"left out: this GPU has no units for {', '.join(without)}; --precision measures it all the same"
    if probe is None:
        reason = record.cause.message if record.cause else "no reason given"
        yield f"warning: the probe of this machine failed ({record.status}: {reason}){since}: time estimates are rough"
    else:
        center = chosen[0]
        speed = significant(pace.s_per_mpx[center], digits=2)
        yield f"speed: about {speed} s per megapixel of training in {center}, from a few small steps{since}"
        yield from _slow_precisions(probe, chosen, is_chosen=config.chooses_precision)


def _doubts(record: TrialRecord, is_remembered: bool) -> Iterator[str]:
    """Yield a warning if the probe was disturbed."""
    if codes := record.disturbances:
        stay = "; trials were measured with these choices, so they stay; --out NEW.jsonl probes again"
        yield (
            f"warning: the machine was disturbed at this probe ({', '.join(codes)}): its speed, and what is chosen by "
            f"it, may be off{stay if is_remembered else ''}"
        )


def _slow_precisions(probe: ProbeReading, chosen: Sequence[Precision], *, is_chosen: bool) -> Iterator[str]:
    """Yield a line per precision that is slower than fp32: it is left out, or was asked for."""
    for precision, seconds in probe.convolution_s.items():
        ratio = seconds / probe.convolution_s["fp32"]
        if ratio <= 1:
            continue
        slow = f"{precision} is slow here: a convolution takes {significant(ratio, digits=2)} times as long as in fp32"
        if precision not in chosen:
            yield f"left out: {slow}; --precision {','.join((*chosen, precision))} measures it"
        elif not is_chosen:
            yield f"warning: {slow}"
