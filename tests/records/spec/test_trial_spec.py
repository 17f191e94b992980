from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from record_factory import compute_spec, forecast_spec, loader_spec, memory_spec, training_spec

from vnbench.records.spec.trial_spec import MemorySpec, TrainingSpec, TrialSpec


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


def test_only_a_forecast_takes_a_text_of_pytorch_alloc_conf_for_its_allocator() -> None:
    text = "max_split_size_mb:128,expandable_segments:True"
    spec = forecast_spec(allocator=text)
    assert TrialSpec.from_dict(spec.flat()) == spec
    assert spec.family != forecast_spec().family
    with pytest.raises(ValueError, match=r"allocator 'nativ': must be one of native, expandable-segments"):
        forecast_spec(allocator="nativ")
    with pytest.raises(ValueError, match=r"must be one of native, expandable-segments"):
        training_spec(allocator=text)


def test_specs_survive_a_round_trip() -> None:
    memory = memory_spec(training_spec())
    for spec in (training_spec(), memory, replace(memory, memory_by="trace")):
        assert TrialSpec.from_dict(spec.flat()) == spec
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
        {"compile": "max"},
        {"cache": "disk"},
        {"shape_visits": "cold", "max_epochs": 2},
    ],
)
def test_a_spec_that_means_nothing_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|only|both or neither"):
        training_spec(**change)


@pytest.mark.parametrize(
    ("spec", "change", "problem"),
    [
        (training_spec(), {"worst_case_width": 12800}, "a training trial has no worst_case_width"),
        (training_spec(), {"canvas_sizes": ((640, 12800),)}, "a training trial has no canvas_sizes"),
        (training_spec(), {"memory_by": "trace"}, "a training trial has no memory_by"),
        (training_spec(), {"sampler": None}, "spec.sampler: expected `str`, got `null`"),
        (training_spec(), {"kind": "inference"}, "kind 'inference': must be memory or compute or loader"),
        (loader_spec(), {"num_warm_up_steps": 2}, "a loader trial has no num_warm_up_steps"),
        (compute_spec(), {"sampler": "random"}, "a compute trial has no sampler"),
        (compute_spec(), {"canvas_sizes": ()}, "canvas_sizes must hold a canvas"),
        (memory_spec(training_spec()), {"num_workers": 2}, "a memory trial has no num_workers"),
        (memory_spec(training_spec()), {"cache": "disk"}, "a memory trial has no cache"),
    ],
)
def test_a_kind_has_its_own_fields_and_no_others(spec: TrialSpec, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        TrialSpec.from_dict(spec.flat() | change)


def test_a_kind_needs_its_fields_and_reads_no_other_kind() -> None:
    values = training_spec().canonical()
    del values["subset_size"]
    with pytest.raises(ValueError, match="missing required field `subset_size`"):
        TrialSpec.from_dict(values)
    assert type(TrialSpec.from_dict(training_spec().flat())) is TrainingSpec
    with pytest.raises(ValueError, match="kind 'training': must be memory"):
        MemorySpec.from_dict(training_spec().flat())


def test_every_record_has_the_fields_of_all_kinds() -> None:
    specs = (training_spec(), loader_spec(), compute_spec(), memory_spec(training_spec()))
    assert len({frozenset(spec.flat()) for spec in specs}) == 1
    assert training_spec().flat()["worst_case_width"] is None
    assert training_spec().flat()["memory_by"] == "step"


def test_only_training_has_seen_shapes_or_not_and_their_memory_is_one_family() -> None:
    with pytest.raises(ValueError, match="a memory trial has no shape_visits"):
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
    assert training_spec(**changes).visits_shapes == expected


def test_switches_of_torch_make_families_and_defaults_leave_the_name_as_it_was() -> None:
    assert (
        training_spec().family
        == "cpu/veernet-tiny/multiclass/fp32/norm-fp32/checkpointing-none/groups-half-or-16/micro-1"
    )
    assert training_spec(optimizer="foreach").lever_key == training_spec().lever_key + "/optimizer-foreach"
