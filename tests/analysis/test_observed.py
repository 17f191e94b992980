from __future__ import annotations

from dataclasses import replace

import pytest
from record_factory import GIB, observed_run, reading_of, steps_of, training_spec

from vnbench.analysis.comparison.metrics import COMPARED
from vnbench.analysis.findings import Findings
from vnbench.analysis.models.certification import certify
from vnbench.analysis.models.fit import fit_families
from vnbench.analysis.trials.observed import joined_epochs
from vnbench.analysis.trials.steps import steps_of as steps_of_record
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.records.record import Cause, TrialRecord, TrialWarning


def with_steps(record: TrialRecord, steps: dict[str, tuple[object, ...]]) -> TrialRecord:
    marks = {"is_snapshot": (False,) * len(steps["loss"]), "is_after_validation": (False,) * len(steps["loss"])}
    return replace(record, steps={**steps, **marks}, block=None)


def test_epochs_are_one_process_and_runs_are_several() -> None:
    records = [*observed_run(num_epochs=3), *observed_run(num_epochs=2, replicate=1)]
    first, second = latest_attempts(records)
    assert first.steps is not None
    assert records[0].steps is not None
    num_steps = len(records[0].steps["loss"])
    assert len(first.steps["loss"]) == 3 * num_steps
    assert first.steps["block"] == (0,) * num_steps + (1,) * num_steps + (2,) * num_steps
    assert first.block is not None
    assert records[0].block is not None
    assert first.block.num_steps == 3 * records[0].block.num_steps
    assert latest_attempts((first, second)) == (first, second)
    (summary,) = Findings(records).training
    assert summary.num_processes == 2
    assert summary.relative_between is not None


def test_an_epoch_that_went_wrong_makes_the_run_wrong() -> None:
    first, second = observed_run()
    broken = replace(first, status="wrong", cause=Cause(kind="broken-loop", message="never-zeroed"))
    (run,) = latest_attempts([broken, second])
    assert (run.status, run.attempt) == ("wrong", 1)
    assert run.cause == broken.cause


def test_what_epochs_say_again_is_said_once_and_what_they_count_is_summed() -> None:
    def seen(record: TrialRecord, *, validation_s: float | None, message: str) -> TrialRecord:
        assert record.observed is not None
        warnings = (TrialWarning(code="outliers", message=message),)
        reading = replace(record.observed, validation_s=validation_s, num_snapshots=2, num_short_steps=1)
        return replace(record, observed=reading, warnings=warnings)

    first, second, third = observed_run(num_epochs=3)
    run = joined_epochs(
        [
            seen(first, validation_s=1.5, message="a"),
            seen(second, validation_s=None, message="b"),
            seen(third, validation_s=2.0, message="c"),
        ]
    )
    assert run.observed is not None
    assert (run.observed.validation_s, run.observed.num_snapshots, run.observed.num_short_steps) == (3.5, 6, 3)
    assert [one.message for one in run.warnings] == ["c"]


def test_an_epoch_that_was_cut_short_does_not_stand_for_the_others() -> None:
    first, second = observed_run()
    assert second.batching is not None
    (run,) = latest_attempts([first, replace(second, batching=replace(second.batching, num_examples=3))])
    assert run.batching == first.batching


def test_steps_with_a_snapshot_do_not_count() -> None:
    (record,) = observed_run(num_epochs=1)
    assert record.steps is not None
    flags = tuple(step == 3 for step in range(len(record.steps["loss"])))
    steps = steps_of_record(replace(record, steps={**record.steps, "is_snapshot": flags}))
    assert len(steps.measured) - len(steps.counted) == 1
    assert steps.num_skipped == 0


def test_steps_of_several_passes_are_fitted_by_their_mean_pass() -> None:
    # Two passes of x pixels each take 0.1 s and 1e-7 s a pixel; an update takes 2 ms.
    pixels = [1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000, 6_000_000] * 3
    times_s = [2 * (0.1 + 1e-7 * x) + 0.002 for x in pixels]
    (record,) = observed_run(num_epochs=1, batch_size=4, micro_batch_size=2)
    steps = steps_of(times_s, padded_pixels=[2 * x for x in pixels], num_examples=4)
    families, left_out = fit_families([with_steps(record, {**steps, "num_micro_batches": (2,) * len(pixels)})])
    assert not left_out
    (family,) = families
    assert family.fit.model.overhead_s == pytest.approx(0.102)
    assert family.fit.model.time_s(3_000_000) == pytest.approx(0.402)
    assert family.optimizer_s == pytest.approx(0.002)


def test_a_run_on_several_ranks_is_shown_and_not_fitted() -> None:
    records = [replace(one, spec=replace(one.spec, ranks=2)) for one in observed_run()]
    assert Findings(records).training[0].num_processes == 1
    families, left_out = fit_families(records)
    assert not families
    assert list(left_out.values()) == ["it trained on 2 ranks, and a fit is of one"]
    assert records[0].spec_id != observed_run()[0].spec_id


def test_a_run_on_cuda_certifies_what_its_largest_pass_took() -> None:
    (record,) = observed_run(num_epochs=1, device="cuda")
    memory = reading_of(record.spec, peak_bytes=30 * GIB, outside_allocator_bytes=GIB)
    (certificate,) = certify([replace(record, memory=memory)])
    assert certificate.need_bytes == 31 * GIB
    assert (certificate.spec.worst_case_height, certificate.spec.worst_case_width) == (640, 12_800)
    assert certificate.spec.family == record.spec.family
    (on_a_cpu,) = observed_run(num_epochs=1)
    process = reading_of(record.spec, peak_bytes=None, instrument="process")
    assert certify([replace(on_a_cpu, memory=process)]) == ()


def test_what_another_order_changes_is_not_compared() -> None:
    record, *_ = observed_run()
    figures = {name: one.read(record) for name, one in COMPARED.items()}
    assert figures["time"] is not None
    assert [figures[name] for name in ("padding", "epoch_padding", "shapes")] == [None] * 3
    assert training_spec().kind != record.kind
