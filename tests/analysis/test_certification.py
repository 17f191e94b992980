from __future__ import annotations

import dataclasses

import pytest
from record_factory import memory_spec, reading_of, record_of, training_spec

from vnbench.analysis.models.certification import certify
from vnbench.records.record import Cause, TrialRecord

GIB = 2**30
CUDA = memory_spec(training_spec(device="cuda"))
OUT_OF_MEMORY = Cause(kind="torch-out-of-memory", message="too large")


def measured(peak_gib: float, *, replicate: int = 0, **changes: object) -> TrialRecord:
    memory = reading_of(CUDA, peak_bytes=int(peak_gib * GIB), **changes)
    return record_of(CUDA, memory=memory, replicate=replicate)


def test_what_has_to_be_there_is_what_is_reserved_and_what_lies_outside() -> None:
    (certificate,) = certify([measured(20, outside_allocator_bytes=GIB)])
    assert certificate.need_bytes == 21 * GIB
    assert certificate.cards == {
        16: "does not fit",
        24: "fits",
        40: "fits",
        48: "fits",
        80: "fits",
        141: "fits",
    }


@pytest.mark.parametrize(
    ("need_gib", "verdict"), [(21.5, "fits"), (21.7, "tight"), (24.0, "tight"), (24.1, "does not fit")]
)
def test_a_tenth_to_spare_is_a_margin(need_gib: float, verdict: str) -> None:
    (certificate,) = certify([measured(need_gib)])
    assert certificate.verdict(24 * GIB) == verdict


def test_the_largest_of_several_processes_counts() -> None:
    (certificate,) = certify([measured(20), measured(23, replicate=1), measured(19, replicate=2)])
    assert certificate.need_bytes == 23 * GIB


def test_out_of_memory_is_certain_up_to_the_memory_that_there_was() -> None:
    failed = dataclasses.replace(
        record_of(CUDA, status="oom", cause=OUT_OF_MEMORY, memory=None), environment={"device_memory_bytes": 24 * GIB}
    )
    (certificate,) = certify([failed])
    assert (certificate.verdict(16 * GIB), certificate.verdict(24 * GIB)) == ("does not fit", "does not fit")
    assert certificate.verdict(40 * GIB) == "unknown"
    (beside,) = certify([measured(10, replicate=1), failed])
    assert beside.status == "oom"
    assert beside.verdict(24 * GIB) == "does not fit"


def test_a_limit_is_the_memory_that_there_was() -> None:
    spec = dataclasses.replace(CUDA, memory_limit_bytes=8 * GIB)
    (certificate,) = certify([record_of(spec, status="oom", cause=OUT_OF_MEMORY, memory=None)])
    assert (certificate.verdict(8 * GIB), certificate.verdict(16 * GIB)) == ("does not fit", "unknown")


def test_an_allocator_that_had_to_try_again_was_at_the_edge() -> None:
    (certificate,) = certify([measured(20, num_alloc_retries=2, capacity_bytes=40 * GIB)])
    assert certificate.verdict(40 * GIB) == "tight"
    assert certificate.verdict(48 * GIB) == "fits"


def test_other_ends_tell_nothing() -> None:
    crashed = record_of(CUDA, status="crashed", cause=Cause(kind="exception", message="boom"), memory=None)
    (certificate,) = certify([crashed])
    assert set(certificate.cards.values()) == {"unknown"}
    assert certify([]) == ()


def test_alone_and_after_a_soak_are_certified_apart() -> None:
    soaked = dataclasses.replace(CUDA, soak="largest-first", sampler="random", soak_passes=((1, 32, 32),))
    certificates = certify([measured(20), record_of(soaked, memory=reading_of(soaked, peak_bytes=30 * GIB))])
    assert [(one.spec.soak, one.need_bytes) for one in certificates] == [
        (None, 20 * GIB),
        ("largest-first", 30 * GIB),
    ]
