from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from record_factory import memory_spec, training_spec

from vnbench.records.shape_visits import visits_shapes
from vnbench.records.spec.trial_spec import TrialSpec


def test_equal_specs_have_one_id_and_each_field_changes_it() -> None:
    spec = training_spec()
    assert spec.spec_id == training_spec().spec_id
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"precision": "bf16"},
        {"sampler": "bucketed"},
        {"num_workers": 2},
        {"batch_size": 2},
        {"norm_groups": "16"},
        {"subset_size": 7},
        {"memory_format": "channels-last"},
        {"compile": "default"},
        {"compile": "step"},
        {"cudnn_benchmark": "on"},
        {"allocator": "expandable-segments"},
        {"optimizer": "foreach"},
        {"padding": "exact"},
        {"norm_kernel": "split"},
        {"cuda_graphs": "on"},
        {"shape_visits": "warm"},
        {"shape_visits": "cold"},
        {"max_epochs": 2},
        {"noise_target": 0.01},
    ]
    assert len({spec.spec_id, *(training_spec(**change).spec_id for change in changes)}) == len(changes) + 1


def test_the_id_of_a_spec_is_pinned() -> None:
    assert training_spec().spec_id == "c8351a09c0de"


def test_a_field_at_its_default_is_no_part_of_the_id() -> None:
    assert "norm_groups" not in training_spec().canonical()
    assert training_spec(norm_groups="half-or-16").spec_id == training_spec().spec_id


def test_how_memory_is_found_is_part_of_the_id_and_not_of_the_family() -> None:
    step = memory_spec(training_spec())
    trace = replace(step, memory_by="trace")
    assert "memory_by" not in step.canonical()
    assert trace.spec_id != step.spec_id
    assert trace.family == step.family


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"compile": "default"}, {"memory_by": "guess"}])
def test_only_memory_on_the_cpu_is_traced(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"memory_by '(trace|guess)'"):
        replace(memory_spec(training_spec()), **({"memory_by": "trace"} | change))


def test_specs_survive_a_round_trip() -> None:
    memory = memory_spec(training_spec())
    for spec in (training_spec(), memory, replace(memory, memory_by="trace")):
        assert TrialSpec.from_dict(asdict(spec)) == spec
        assert TrialSpec.from_dict(spec.canonical()) == spec


def test_families_differ_by_micro_batch_and_not_by_batch_or_sampler() -> None:
    accumulated = training_spec(batch_size=4, micro_batch_size=1)
    assert accumulated.accumulation_steps == 4
    assert accumulated.family == training_spec(sampler="bucketed", num_workers=2).family
    assert accumulated.family != training_spec(batch_size=4).family
    assert accumulated.lever_key == training_spec(batch_size=4).lever_key


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 4, "micro_batch_size": 3},
        {"batch_size": 0, "micro_batch_size": 1},
        {"precision": "fp8"},
        {"norm_groups": "half"},
        {"sampler": None},
        {"worst_case_width": 12800},
        {"canvas_sizes": ((640, 12800),)},
        {"min_steps": 3},
        {"compile": "max"},
        {"memory_by": "trace"},
        {"shape_visits": "cold", "max_epochs": 2},
    ],
)
def test_a_spec_that_means_nothing_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|needs|has no|only"):
        training_spec(**change)


def test_only_training_has_seen_shapes_or_not_and_their_memory_is_one_family() -> None:
    with pytest.raises(ValueError, match="only training has visits"):
        replace(memory_spec(training_spec()), shape_visits="cold")
    assert training_spec(shape_visits="cold").family == training_spec().family


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"device": "cuda"}, True),
        ({"compile": "default"}, True),
        ({"shape_visits": "warm"}, True),
        ({"shape_visits": "cold", "device": "cuda"}, False),
        ({"shape_visits": "cold", "compile": "default"}, False),
    ],
)
def test_shapes_are_visited_on_cuda_and_under_a_compiler_unless_asked_otherwise(
    changes: dict[str, Any], expected: bool
) -> None:
    assert visits_shapes(training_spec(**changes)) == expected


def test_switches_of_torch_make_families_and_defaults_leave_the_name_as_it_was() -> None:
    assert (
        training_spec().family
        == "cpu/veernet-tiny/multiclass/fp32/norm-fp32/checkpointing-none/groups-half-or-16/micro-1"
    )
    assert training_spec(optimizer="foreach").lever_key == training_spec().lever_key + "/optimizer-foreach"
