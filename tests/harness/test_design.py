from __future__ import annotations

from typing import Any

import pytest

from vnbench.config import complete, read_request
from vnbench.errors import InputError
from vnbench.harness.design import Cell, Design, make_design

CPU: dict[str, Any] = {"device_type": "cpu", "num_cpus": 2}
CUDA: dict[str, Any] = {"device_type": "cuda", "num_cpus": 16}


def design(environment: dict[str, Any] = CPU, **flags: str) -> Design:
    names = {name.replace("_", "-"): text for name, text in flags.items()}
    config = complete(read_request({"widths": "3200:12800"} | names, config_path=None), environment=environment)
    return make_design(config, corpus_id="0" * 12, worst_case=(640, 12_800))


def cells_that_differ(made: Design, name: str) -> set[object]:
    center = made.cells[0]
    return {getattr(cell, name) for cell in made.cells} - {getattr(center, name)}


def test_the_cpu_default_is_seven_configurations_one_lever_at_a_time() -> None:
    made = design()
    assert made.cells[0] == Cell(
        batch_size=1,
        micro_batch_size=None,
        precision="bf16",
        norm_precision="fp32",
        checkpointing="none",
        sampler="bucketed",
        num_workers=0,
    )
    assert len(made.cells) == 7
    assert cells_that_differ(made, "precision") == {"fp32"}
    assert cells_that_differ(made, "norm_precision") == {"input"}


def test_samplers_are_compared_where_a_pass_holds_several_examples() -> None:
    (random_cell,) = (cell for cell in design().cells if cell.sampler == "random")
    assert random_cell.batch_size == 2


def test_the_cuda_default_covers_every_axis() -> None:
    made = design(CUDA)
    assert {cell.batch_size for cell in made.cells} == {1, 2, 4, 8, 16}
    assert {cell.precision for cell in made.cells} == {"fp32", "tf32", "bf16", "fp16"}
    assert {cell.num_workers for cell in made.cells} == {0, 2, 4, 8}
    assert len(made.cells) == 1 + 4 + 3 + 1 + 1 + 1 + 3


def test_full_is_the_product_without_what_means_the_same() -> None:
    made = design(design="full", num_workers="0")
    # 2 batches x (bf16 with two norms + fp32 with one) x 2 checkpointings x 2 samplers
    assert len(made.cells) == 2 * 3 * 2 * 2
    assert any("norm's input is fp32 already" in line for line in made.left_out)


def test_a_micro_batch_that_does_not_divide_is_left_out_by_name() -> None:
    made = design(design="full", batch_size="4,6", micro_batch_size="same,4,2")
    pairs = {(cell.batch_size, cell.examples_per_pass) for cell in made.cells}
    assert pairs == {(4, 4), (4, 2), (6, 6), (6, 2)}
    assert any("a micro-batch of 4 does not divide a batch of 6" in line for line in made.left_out)


def test_tf32_is_left_out_on_the_cpu() -> None:
    assert any("TF32" in line for line in design(precision="fp32,tf32").left_out)
    with pytest.raises(InputError, match="no combination"):
        design(precision="tf32")


def test_each_family_has_one_memory_trial_and_they_come_first_in_ascending_order() -> None:
    made = design(CUDA)
    kinds = [trial.spec.kind for trial in made.trials]
    num_memory = kinds.count("memory")
    assert kinds == ["memory"] * num_memory + ["training"] * (len(kinds) - num_memory)
    memory = [trial.spec for trial in made.trials[:num_memory]]
    training = [trial.spec for trial in made.trials[num_memory:]]
    assert sorted(spec.family for spec in memory) == sorted({spec.family for spec in training})
    sizes: dict[str, list[int]] = {}
    for spec in memory:
        sizes.setdefault(spec.lever_key, []).append(spec.micro_batch_size)
    assert all(order == sorted(order) for order in sizes.values())
    assert {(spec.worst_case_height, spec.worst_case_width) for spec in memory} == {(640, 12_800)}


def test_the_order_is_random_and_seeded() -> None:
    first, again, other = design(CUDA), design(CUDA), design(CUDA, seed="1")
    assert first.trials == again.trials
    order = [trial.spec.num_workers for trial in first.trials]
    assert order != [trial.spec.num_workers for trial in other.trials]


def test_replicates_are_interleaved() -> None:
    training = [trial for trial in design(replicates="3").trials if trial.spec.kind == "training"]
    assert [trial.replicate for trial in training] == [0] * 7 + [1] * 7 + [2] * 7


def test_no_spec_stands_twice() -> None:
    made = design(design="full", micro_batch_size="same,1,2", batch_size="1,2,4")
    keys = [(trial.spec.spec_id, trial.replicate) for trial in made.trials]
    assert len(keys) == len(set(keys))
