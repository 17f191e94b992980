from __future__ import annotations

import pytest
import record_factory as factory

from vnbench.analysis.findings import Findings
from vnbench.analysis.trials.time_breakdown import time_breakdown


def found(*, with_loader: bool = True) -> Findings:
    records = [factory.measured_compute_record(factory.compute_spec(micro_batch_size=2), replicate=n) for n in range(3)]
    if with_loader:
        for workers in (0, 2):
            spec = factory.loader_spec(batch_size=2, num_workers=workers, sampler="bucketed")
            records.append(factory.measured_loader_record(spec, decode_s=0.05))
    return Findings(records)


def test_each_concern_costs_what_its_stage_adds() -> None:
    has = found()
    family = has.compute[0].spec.family
    rows = {one.name: one for one in time_breakdown(has.loading, has.compute, family=family, sampler="bucketed")}
    decode = next(one for name, one in rows.items() if name.startswith("reading"))
    collate = next(one for name, one in rows.items() if name.startswith("collate"))
    assert decode.per_example.value == pytest.approx(0.05, rel=0.05)
    assert collate.per_example.value == pytest.approx(0.01, rel=0.3), "the factory's loader takes 10 ms beyond decoding"
    assert collate.owner == "project"
    assert "is padding" in collate.note


def test_forward_backward_and_update_add_up_to_a_step() -> None:
    has = found()
    family = has.compute[0].spec.family
    rows = time_breakdown(has.loading, has.compute, family=family, sampler="bucketed")
    phases = [one.per_example.value for one in rows if "timed" in one.note]
    assert len(phases) == 3
    steps = [canvas.step_time.value / canvas.num_examples for canvas in has.compute[0].canvases]
    # The factory's forward, backward and update take nine tenths of a step.
    assert sum(one or 0.0 for one in phases) == pytest.approx(0.9 * sum(steps) / len(steps), rel=0.01)


def test_only_what_was_timed_is_told() -> None:
    has = found(with_loader=False)
    family = has.compute[0].spec.family
    rows = time_breakdown(has.loading, has.compute, family=family, sampler="bucketed")
    assert [one.name.partition(",")[0] for one in rows] == ["forward pass", "backward pass", "zeroing gradients"]
    assert time_breakdown((), (), family="none", sampler="random") == ()
