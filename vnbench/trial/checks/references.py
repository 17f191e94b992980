"""Comparisons of a configuration with its references before it is timed, and their place in the record."""

from __future__ import annotations

from dataclasses import replace

from vnbench.records.record import TrialRecord
from vnbench.trial.checks.equality import check_equality
from vnbench.trial.checks.large_tensors import compare_with_parts, find_large_tensors
from vnbench.trial.checks.parity import check_parity


def expected_large_tensors(record: TrialRecord, *, num_examples: int, height: int, width: int) -> TrialRecord:
    """Return the record with the largest tensor of a pass if it has at least 2^31 elements.

    Nothing is computed, so that the record has this even if the pass fails.
    """
    found = find_large_tensors(record.spec, num_examples=num_examples, height=height, width=width)
    return replace(record, large_tensors=found)


def checked_against_references(record: TrialRecord) -> TrialRecord:
    """Return the record with its references: the plain step, smaller passes for large tensors, the own loop."""
    equality, large = check_equality(record.spec), record.large_tensors
    parity = check_parity(record.spec)
    if large is not None:
        large = compare_with_parts(record.spec, large, equality=equality)
    return replace(record, equality=equality, large_tensors=large, parity=parity)
