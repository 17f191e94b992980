"""What a sweep left, for people and for programs: its tables, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from vnbench.analysis.findings import Findings
from vnbench.analysis.models.certification import Certificate
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import PlanConfig
from vnbench.batching.sizes import SizeArray
from vnbench.output.answer import answer_lines
from vnbench.output.answer_sentence import answer_sentence
from vnbench.output.console import stdout_console
from vnbench.output.tables.certification import certification_table
from vnbench.output.tables.compute import compute_table
from vnbench.output.tables.drill import snapshot_table
from vnbench.output.tables.factored import factored_table
from vnbench.output.tables.loader import loader_answer, loader_table
from vnbench.output.tables.training import summary_table
from vnbench.output.words.row_notes import is_marked, shared_codes
from vnbench.records.record import STATUSES, TrialRecord, of_kind
from vnbench.records.spec.trial_spec import ComputeSpec, MemorySpec, TrainingSpec, TrialSpec
from vnbench.records.spec.words import TrialKind
from vnbench.request.config import SweepConfig
from vnbench.sweep.confirming import Confirmation, confirmations
from vnbench.sweep.factored import CellForecast


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepReport:
    """What a sweep left."""

    out: Path
    """Results file."""
    statuses: dict[str, int]
    """Number of trials of this design by status of their last attempt."""
    num_not_started: int
    """Trials that the time budget left unmeasured, or all that a dry run lists."""
    left_out: tuple[str, ...]
    """Combinations of the axes that were not turned into trials, with reasons."""
    plots: tuple[Path, ...]
    """Pictures drawn."""
    elapsed_s: float
    """Wall clock of the command."""
    certificates: tuple[Certificate, ...] = ()
    """What the worst-case memory trials tell."""
    confirmations: tuple[Confirmation, ...] = ()
    """Forecasts of a factored sweep beside what was measured."""
    estimated_s: float | None = None
    """What the whole command was estimated to take before its first trial."""
    promised_s: float | None = None
    """The same, or the time budget where that is less."""
    missing_kinds: Mapping[TrialKind, str] = field(default_factory=dict)
    """Kinds of trials that were asked for and of which not one was measured, each with the reason."""
    is_ended_by_image: bool = False
    """Whether the sweep ended at an image file that cannot be used."""
    rows: tuple[dict[str, Any], ...] = ()
    """Training configurations as JSON values, each with its ratio to the centre (training_rows)."""
    is_dry_run: bool = False
    """Whether nothing was to be measured."""

    @property
    def exit_code(self) -> int:
        """0, or 3 where nothing was measured of a kind that was asked for, or an image ended the sweep."""
        is_whole = not self.missing_kinds and not self.is_ended_by_image
        return 0 if self.is_dry_run or is_whole else 3

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "out": str(self.out),
            "num_trials": sum(self.statuses.values()),
            "statuses": self.statuses,
            "elapsed_s": self.elapsed_s,
            "estimated_s": self.estimated_s,
            "promised_s": self.promised_s,
            "num_not_started": self.num_not_started,
            "missing_kinds": dict(self.missing_kinds),
            "left_out": list(self.left_out),
            "plots": [str(path) for path in self.plots],
            "rows": list(self.rows),
            "certificates": [_as_json(certificate) for certificate in self.certificates],
            "confirmations": [
                {"spec_id": one.record.spec_id, "measured_s": one.measured_s, "error": one.error}
                for one in self.confirmations
            ],
        }


def find_missing_kinds(
    kinds: Sequence[TrialKind], records: Sequence[TrialRecord], *, planned: Collection[TrialKind]
) -> dict[TrialKind, str]:
    """Return the kinds of trials of which no record is ``ok``, each with how its trials ended instead.

    ``planned`` are the kinds that the design has trials of. Memory may be left out of it, as of compiled code on the
    CPU, and is then not missed.
    """
    reasons: dict[TrialKind, str] = {}
    for kind in kinds:
        own = [record for record in records if record.kind == kind]
        if any(record.status == "ok" for record in own) or (kind == "memory" and kind not in planned):
            continue
        counts = Counter(record.status for record in own)
        ends = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
        first = next((record.cause.message for record in own if record.cause is not None), None)
        reasons[kind] = f"{ends}; the first: {first}" if first else ends or "no trial ended"
    return reasons


def print_tables(
    records: Sequence[TrialRecord],
    config: SweepConfig,
    train_sizes_N2: SizeArray,
    forecasts: Sequence[CellForecast],
    *,
    centre: TrialSpec | None = None,
) -> None:
    """Print the answer in a sentence, the tables of everything that some records hold, and the answer's figures.

    ``centre`` is the training trial that the sweep was varied from.
    """
    stdout = stdout_console()
    appetite = config.appetite_examples_per_s
    found = Findings(records, centre=centre)
    if sentence := answer_sentence(found) or loader_answer(records, appetite=appetite):
        stdout.print(Text(f"{sentence}\n"))
    if of_kind(records, TrainingSpec) or not records:
        stdout.print(summary_table(records, price_per_hour=config.price_per_hour, centre=centre))
    if config.kinds == ("memory",) or any(record.spec.soak is not None for record in of_kind(records, MemorySpec)):
        stdout.print(certification_table(records))
    of_canvases = compute_table(
        records,
        price_per_hour=config.price_per_hour,
        passes=_padded_pixels_of_passes(records, train_sizes_N2, seed=config.seed),
    )
    if of_canvases is not None:
        stdout.print(of_canvases)
    of_stages = loader_table(records, appetite=appetite)
    if of_stages is not None:
        stdout.print(of_stages)
    of_snapshots = snapshot_table(records)
    if of_snapshots is not None:
        stdout.print(of_snapshots)
    if config.design == "factored":
        stdout.print(factored_table(forecasts, confirmations(records)))
    for line in answer_lines(found):
        stdout.print(Text(line))


def training_rows(records: Sequence[TrialRecord], *, centre: TrialSpec | None = None) -> tuple[dict[str, Any], ...]:
    """Return every training configuration as JSON values, in the order of first appearance.

    ``ratio`` is its valid pixels per second over the centre's, ``interval`` the ends of its 95 % interval; the centre
    has neither, and what was not measured is null.
    """
    found = Findings(records, centre=centre)
    sides, summaries = found.sides, found.training
    shared = shared_codes(summaries)
    rows = []
    for row in summaries:
        ratio = sides.to_centre(row.spec)
        rows.append(
            {
                "spec_id": row.spec.spec_id,
                "spec": row.spec.canonical(),
                "status": row.status,
                "is_centre": row.spec == sides.centre,
                "num_processes": row.num_processes,
                "valid_px_per_s": row.valid_px_per_s and row.valid_px_per_s.value,
                "valid_relative_half_width": row.valid_px_per_s and row.valid_px_per_s.relative_half_width,
                "ratio": ratio.value if ratio else None,
                "interval": list(ratio.interval) if ratio and ratio.interval else None,
                "has_processes": sides.noise.spread is not None if ratio else None,
                "worst_case_peak_bytes": row.worst_case_peak_bytes,
                "is_marked": is_marked(row, shared=shared),
                "warnings": sorted({warning.code for warning in row.warnings}),
            }
        )
    return tuple(rows)


def _padded_pixels_of_passes(
    records: Sequence[TrialRecord], train_sizes_N2: SizeArray, *, seed: int
) -> dict[int, tuple[int, ...]]:
    """Return the padded pixels of each pass of a bucketed epoch of all training examples, by micro-batch."""
    passes: dict[int, tuple[int, ...]] = {}
    for size in sorted({record.spec.micro_batch_size for record in of_kind(records, ComputeSpec)}):
        plan = plan_epoch(
            train_sizes_N2,
            PlanConfig(sampler="bucketed", batch_size=size, micro_batch_size=size, seed=seed),
            epoch=1,
        )
        passes[size] = tuple(plan.padded_pixels_M.tolist())
    return passes


def _as_json(certificate: Certificate) -> dict[str, Any]:
    spec = certificate.spec
    return {
        "spec_id": spec.spec_id,
        "family": spec.family,
        "sampler": spec.sampler,
        "soak": spec.soak,
        "status": certificate.status,
        "cause": certificate.cause.kind if certificate.cause else None,
        "instrument": certificate.reading.instrument if certificate.reading else None,
        "need_bytes": certificate.need_bytes,
        "capacity_bytes": certificate.capacity_bytes,
        # A CPU's figures are no forecast for a GPU.
        "cards": None if spec.device == "cpu" else {f"{size}GiB": one for size, one in certificate.cards.items()},
    }
