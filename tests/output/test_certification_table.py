from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

from record_factory import memory_spec, reading_of, record_of, training_spec
from rich.console import Console

from vnbench.output.tables.certification import certification_table
from vnbench.output.words.provenance import CPU_LABEL
from vnbench.records.record import Cause, TrialRecord

GIB = 2**30


def render(records: Sequence[TrialRecord]) -> str:
    table = certification_table(records)
    assert table is not None
    stream = io.StringIO()
    Console(file=stream, width=160).print(table)
    return stream.getvalue()


def soaked_records(device: str) -> list[TrialRecord]:
    alone = memory_spec(training_spec(device=device))
    after = dataclasses.replace(alone, soak="sampler-order", sampler="bucketed", soak_passes=((1, 640, 3200),))
    return [
        record_of(alone, memory=reading_of(alone, peak_bytes=20 * GIB)),
        record_of(after, memory=reading_of(after, peak_bytes=23 * GIB, soak_peak_allocated_bytes=7 * GIB)),
    ]


def test_a_gpu_gets_a_verdict_for_common_cards() -> None:
    lines = render(soaked_records("cuda")).splitlines()
    alone = next(line for line in lines if " none " in line)
    after = next(line for line in lines if "in its order" in line)
    assert "fits 24 GiB and more, does not fit 16 GiB" in alone
    assert "fits 40 GiB and more, tight in 24 GiB, does not fit 16 GiB" in after
    assert "bucketed" in after
    assert "7.00" in after


def test_only_columns_that_are_shown_are_explained() -> None:
    alone, after = soaked_records("cuda")
    assert "Theirs: most bytes of tensors in the passes" in render([alone, after])
    assert "Theirs" not in render([alone])


def test_a_cpu_gets_no_verdict_for_cards() -> None:
    text = render(soaked_records("cpu"))
    assert "ran in 24.0 GiB, tensors 83.3 % of it" in text
    assert "tight" not in text
    assert "reserved" not in text
    assert CPU_LABEL in " ".join(text.split())


def test_what_was_traced_is_told_apart_from_what_ran() -> None:
    (step, *_) = soaked_records("cpu")
    spec = dataclasses.replace(step.spec, memory_by="trace")
    text = render([step, record_of(spec, memory=reading_of(spec, peak_bytes=20 * GIB, instrument="traced-tensors"))])
    assert "ran in 24.0 GiB, tensors 83.3 % of it" in text
    assert "traced for 24.0 GiB, tensors 83.3 % of it" in text
    assert "Traced: the step was not run" in text
    assert "Traced" not in render([step])


def test_failures_are_told_with_their_cause() -> None:
    spec = memory_spec(training_spec(device="cuda"))
    limited = dataclasses.replace(spec, memory_limit_bytes=8 * GIB)
    out = record_of(limited, status="oom", cause=Cause(kind="torch-out-of-memory", message="no"), memory=None)
    lost = record_of(spec, status="timeout", cause=Cause(kind="timeout", message="late"), memory=None)
    text = render([out, lost])
    assert "out of memory at 8.00 GiB" in text
    assert "timeout: timeout" in text


def test_without_memory_trials_there_is_no_table() -> None:
    assert certification_table([]) is None
    assert certification_table([record_of(training_spec())]) is None
