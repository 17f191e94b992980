"""Compare two sides that were measured in turn, block by block: from their records to rows and an outcome.

As in any comparison, the outcome is ``regression`` as soon as a row is worse, and ``pass`` when the mean of all
configurations was decided (sequential.time_rows), no single row is slower than chance explains, and everything that no
clock decides could be compared. Otherwise it is ``undecided``, and another block may tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vnbench.analysis.comparison.compare import Comparison, compare, differing_keys
from vnbench.analysis.comparison.rows import OUT_OF_ROOM, Row, Tolerances
from vnbench.analysis.comparison.sequential import PairedTimes, time_rows
from vnbench.analysis.comparison.sides import figures_of, side_of
from vnbench.records.readings import METRICS, Metric
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.units import count


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedSpec:
    """One configuration as each side measures it; the two differ where the text of the user's own network does."""

    baseline: TrialSpec
    """The spec of the baseline."""
    candidate: TrialSpec
    """The spec of the candidate."""

    @property
    def identity(self) -> str:
        """Identity of its rows, as in any comparison: the spec_id of the baseline."""
        return self.baseline.spec_id

    @property
    def is_timed(self) -> bool:
        """Whether a clock decides anything about it: otherwise one pair of processes is enough."""
        return self.candidate.kind not in ("memory", "forecast")

    @property
    def sides(self) -> tuple[TrialSpec, TrialSpec]:
        """Both specs, the baseline's first."""
        return self.baseline, self.candidate


Pair = tuple[TrialRecord, TrialRecord]
"""The records of one configuration in one block, the baseline's first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """What was measured of some configurations so far, in pairs by block."""

    specs: tuple[PairedSpec, ...]
    """The configurations."""
    pairs: Mapping[tuple[str, int], Pair]
    """Pairs by identity and number of the block, from 0."""
    times: Mapping[tuple[str, int], tuple[float, float]]
    """Times of those pairs that have one on both sides."""
    attempts: Mapping[tuple[str, int], int]
    """Number of the next attempt at a pair, where a side has a record of it."""
    has_times: bool
    """Whether times are compared."""

    def due(self, block: int) -> tuple[PairedSpec, ...]:
        """Return the configurations that a block measures.

        What no clock decides is measured in the first block alone. What failed on a side is not measured again.
        """
        if block == 0:
            return self.specs
        return tuple(
            one
            for one in self.specs
            if self.has_times
            and one.is_timed
            and all((one.identity, earlier) in self.times for earlier in range(block))
        )

    @property
    def num_complete(self) -> int:
        """The number of blocks, from the first, that hold all that was due in them."""
        block = 0
        while (due := self.due(block)) and all((one.identity, block) in self.pairs for one in due):
            block += 1
        return block


def blocks_of(
    specs: Sequence[PairedSpec], records: tuple[Sequence[TrialRecord], Sequence[TrialRecord]], *, has_times: bool
) -> Blocks:
    """Return the blocks that the records of both sides make; records of other configurations are left out.

    The records of a pair have the same attempt: half a pair that an interruption left waits for no later half.
    """
    found: tuple[dict[tuple[str, int], dict[int, TrialRecord]], ...] = ({}, {})
    for side, of_side in enumerate(records):
        identities = {one.sides[side].spec_id: one.identity for one in specs}
        for record in of_side:
            if (identity := identities.get(record.spec_id)) is not None:
                found[side].setdefault((identity, record.replicate), {})[record.attempt] = record
    pairs: dict[tuple[str, int], Pair] = {}
    attempts: dict[tuple[str, int], int] = {}
    for key in found[0].keys() | found[1].keys():
        there, here = (side.get(key, {}) for side in found)
        attempts[key] = 1 + max([*there, *here])
        if common := there.keys() & here.keys():
            pairs[key] = (there[max(common)], here[max(common)])
    times = {key: known for key, pair in pairs.items() if (known := _times(pair)) is not None}
    return Blocks(specs=tuple(specs), pairs=pairs, times=times, attempts=attempts, has_times=has_times)


def compare_blocks(blocks: Blocks, *, tolerances: Tolerances, metrics: Collection[Metric] = METRICS) -> Comparison:
    """Return the comparison of the complete blocks."""
    num_blocks = blocks.num_complete
    pairs = {key: pair for key, pair in blocks.pairs.items() if key[1] < num_blocks}
    baseline = side_of([pair[0] for pair in pairs.values()])
    candidate = side_of([pair[1] for pair in pairs.values()])
    if differing := differing_keys(baseline, candidate, has_times=blocks.has_times):
        return Comparison(rows=(), differing=differing, is_in_turn=True, is_in_blocks=True)
    exact = compare(
        baseline, candidate, tolerances=tolerances, metrics=[metric for metric in metrics if metric != "time"]
    )
    timed = list(_paired_times(blocks, num_blocks)) if blocks.has_times else []
    lost = _lost_rows(blocks, num_blocks) if blocks.has_times else ()
    rows = [*time_rows(timed, tolerance=tolerances.time), *lost, *exact.rows]
    notes = [*exact.notes, *_failed_alike(pairs)]
    if num_blocks and not timed and any(one.is_timed for one in blocks.specs if blocks.has_times):
        notes.append("no configuration was timed on both sides")
    return Comparison(
        rows=tuple(_in_order(rows, blocks.specs)),
        notes=tuple(notes),
        remarks=exact.remarks,
        is_in_turn=True,
        is_in_blocks=True,
    )


def _paired_times(blocks: Blocks, num_blocks: int) -> Iterator[PairedTimes]:
    """Yield the times of each configuration that has one on both sides in every block."""
    for one in blocks.specs:
        times = [blocks.times.get((one.identity, block)) for block in range(num_blocks)]
        known = [pair for pair in times if pair is not None]
        if known and len(known) == num_blocks:
            yield PairedTimes(
                identity=one.identity,
                candidate_spec_id=one.candidate.spec_id,
                spec=one.baseline,
                baseline_s=tuple(pair[0] for pair in known),
                candidate_s=tuple(pair[1] for pair in known),
            )


def _lost_rows(blocks: Blocks, num_blocks: int) -> Iterator[Row]:
    """Yield a row for each configuration that was timed in some blocks and not in all."""
    for one in blocks.specs:
        num_timed = sum((one.identity, block) in blocks.times for block in range(num_blocks))
        if 0 < num_timed < num_blocks:
            yield Row(
                spec_id=one.identity,
                spec=one.baseline,
                metric="time",
                baseline=None,
                candidate=None,
                ratio=None,
                interval=None,
                smallest_detectable=None,
                verdict="missing",
                reason=f"a side had no time after {count(num_timed, 'block')}, and it was not measured again",
                num_processes=(num_timed, num_timed),
                candidate_spec_id=one.candidate.spec_id,
            )


def _times(pair: Pair) -> tuple[float, float] | None:
    """Return the times of a pair; None where a side has none."""
    if any(record.status != "ok" for record in pair):
        return None
    before, after = (figures_of(record, notes=[]).get("time") for record in pair)
    return None if before is None or after is None else (before, after)


def _failed_alike(pairs: Mapping[tuple[str, int], Pair]) -> Iterator[str]:
    """Yield a note for each configuration that crashed on both sides: nothing was compared."""
    for before, after in pairs.values():
        if all(record.status not in ("ok", *OUT_OF_ROOM) for record in (before, after)):
            cause = after.cause.message if after.cause else "no cause recorded"
            yield f"{after.kind} {after.spec_id} ended {after.status} on both sides: {cause}"


def _in_order(rows: Sequence[Row], specs: Sequence[PairedSpec]) -> Iterator[Row]:
    """Yield the mean, and then the rows of each configuration in the order of the metrics."""
    names = [one.identity for one in specs]
    yield from (row for row in rows if row.spec_id not in names)
    for name in names:
        yield from sorted((row for row in rows if row.spec_id == name), key=lambda row: METRICS.index(row.metric))
