from __future__ import annotations

import dataclasses
import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from plans import LOGS, config_of, sizes_of

from vnbench.data.batching import MAX_EPOCH
from vnbench.data.plan import PlanConfig
from vnbench.data.resume import EpochSampler, PlanState, read_state
from vnbench.data.samplers import SAMPLERS
from vnbench.data.sizes import draw_sizes
from vnbench.errors import InputError
from vnbench.spec import SamplerName

SIZES_N2 = draw_sizes(LOGS, 103, seed=0)


def config(sampler: SamplerName = "bucketed", **changes: Any) -> PlanConfig:
    values = config_of(sampler, SIZES_N2, batch_size=8, micro_batch_size=2)
    return dataclasses.replace(values, **changes)


def resumed(state: PlanState, settings: PlanConfig) -> EpochSampler:
    sampler = EpochSampler(SIZES_N2, settings)
    sampler.resume(PlanState(**json.loads(state.to_json())))
    return sampler


@pytest.mark.parametrize("name", SAMPLERS)
def test_two_resumes_within_an_epoch_give_exactly_the_remaining_examples(name: SamplerName) -> None:
    settings = config(name)
    whole = EpochSampler(SIZES_N2, settings)
    whole.set_epoch(3)
    steps = whole.plan.steps
    first = resumed(whole.state(next_step=4), settings)
    assert first.remaining_steps == steps[4:]
    # The count goes on from the start of the epoch, not from where this process began.
    second = resumed(first.state(next_step=9), settings)
    assert second.remaining_steps == steps[9:]
    seen = [
        *chain.from_iterable(micro.examples for step in steps[:9] for micro in step),
        *chain.from_iterable(second),
    ]
    assert sorted(seen) == list(range(103))


def test_iterating_yields_the_examples_of_each_micro_batch() -> None:
    sampler = EpochSampler(SIZES_N2, config())
    batches = list(sampler)
    assert batches == [list(micro_batch.examples) for micro_batch in sampler.plan.micro_batches]
    assert len(sampler) == len(batches)


def test_a_finished_epoch_has_nothing_left() -> None:
    sampler = EpochSampler(SIZES_N2, config())
    num_steps = len(sampler.plan.steps)
    assert list(resumed(sampler.state(next_step=num_steps), config())) == []
    with pytest.raises(ValueError, match=f"next_step {num_steps + 1}"):
        sampler.state(next_step=num_steps + 1)


def test_an_epoch_counter_that_never_moves_is_an_error_and_no_repetition() -> None:
    sampler = EpochSampler(SIZES_N2, config())
    first = list(sampler)
    with pytest.raises(InputError, match=r"epoch 0: it was iterated already.*set_epoch\(1\)"):
        iter(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_the_next_epoch_begins_at_its_start_after_a_resume() -> None:
    sampler = resumed(EpochSampler(SIZES_N2, config()).state(next_step=5), config())
    list(sampler)
    sampler.set_epoch(1)
    assert sorted(chain.from_iterable(sampler)) == list(range(103))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sampler": "random"}, "sampler 'bucketed' there, 'random' here"),
        ({"batch_size": 16}, "batch_size 8 there, 16 here"),
        ({"micro_batch_size": 4}, "micro_batch_size 2 there, 4 here"),
        ({"shapes": 12}, "shapes None there, 12 here"),
        ({"seed": 1}, "seed 0 there, 1 here"),
        ({"seed": 1, "batch_size": 16}, "batch_size 8 there, 16 here, seed 0 there, 1 here"),
    ],
)
def test_a_state_of_other_settings_is_refused_and_names_them(changes: dict[str, Any], named: str) -> None:
    state = EpochSampler(SIZES_N2, config()).state(next_step=1)
    with pytest.raises(InputError, match=named):
        resumed(state, config(**changes))


def test_a_state_of_other_sizes_is_refused() -> None:
    state = EpochSampler(SIZES_N2, config()).state(next_step=1)
    other = EpochSampler(SIZES_N2[::-1].copy(), config())
    with pytest.raises(InputError, match=r"another plan: sizes '\w+' there, '\w+' here"):
        other.resume(state)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"version": 99}, "version 99 there, 1 here"),
        ({"plan_hash": "0" * 12}, "plan_hash '000000000000' there"),
        ({"config_hash": "0" * 12}, "config_hash"),
        ({"seed": 5}, "config_hash"),
        ({"next_step": 14}, "next_step 14 there, 13 steps here"),
        ({"next_step": -1}, "next_step -1 there"),
        ({"epoch": MAX_EPOCH + 1}, "no epoch 4294967296"),
        ({"epoch": 1}, "plan_hash"),
    ],
)
def test_a_state_that_was_tampered_with_is_refused(changes: dict[str, Any], named: str) -> None:
    state = EpochSampler(SIZES_N2, config()).state(next_step=1)
    with pytest.raises(InputError, match=named):
        EpochSampler(SIZES_N2, config()).resume(dataclasses.replace(state, **changes))


def test_a_refused_state_leaves_the_sampler_as_it_was() -> None:
    sampler = EpochSampler(SIZES_N2, config())
    sampler.set_epoch(2)
    state = sampler.state(next_step=3)
    with pytest.raises(InputError):
        sampler.resume(dataclasses.replace(state, plan_hash="0" * 12, epoch=7))
    assert sampler.state(next_step=3) == state
    assert len(sampler.remaining_steps) == 13


class TestFile:
    def test_a_state_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        state = EpochSampler(SIZES_N2, config()).state(next_step=4)
        path = tmp_path / "state.json"
        path.write_text(state.to_json())
        assert read_state(path) == state

    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", "{}", '{"version": 1}', "[" * 200_000, "\ud800".encode("utf-8", "surrogatepass")],
    )
    def test_what_is_no_state_is_refused(self, tmp_path: Path, content: str | bytes) -> None:
        path = tmp_path / "state.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(InputError, match=r"state\.json: the file holds no state of a plan"):
            read_state(path)

    def test_a_number_that_is_none_is_refused(self, tmp_path: Path) -> None:
        state = EpochSampler(SIZES_N2, config()).state(next_step=4)
        path = tmp_path / "state.json"
        path.write_text(json.dumps(json.loads(state.to_json()) | {"next_step": "4"}))
        with pytest.raises(InputError, match="next_step must be a whole number"):
            read_state(path)

    @pytest.mark.parametrize("epoch", [-1, MAX_EPOCH + 1])
    def test_an_epoch_that_there_is_not_is_refused(self, tmp_path: Path, epoch: int) -> None:
        state = EpochSampler(SIZES_N2, config()).state(next_step=4)
        path = tmp_path / "state.json"
        path.write_text(json.dumps(json.loads(state.to_json()) | {"epoch": epoch}))
        with pytest.raises(InputError, match=f"epoch {epoch} is not within"):
            read_state(path)

    def test_a_foreign_setting_is_told_in_one_line(self, tmp_path: Path) -> None:
        state = EpochSampler(SIZES_N2, config()).state(next_step=4)
        path = tmp_path / "state.json"
        path.write_text(json.dumps(json.loads(state.to_json()) | {"settings": {**state.settings, "a\nb": 1}}))
        with pytest.raises(InputError) as caught:
            EpochSampler(SIZES_N2, config()).resume(read_state(path))
        assert "\n" not in str(caught.value)

    def test_a_plan_file_begins_with_its_state(self, tmp_path: Path) -> None:
        state = EpochSampler(SIZES_N2, config()).state(next_step=0)
        path = tmp_path / "plan.jsonl"
        path.write_text(state.to_json() + '\n{"step": 0, "micro_batches": []}\n')
        assert read_state(path) == state

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="the file cannot be read"):
            read_state(tmp_path / "none.json")


def test_a_single_example_is_an_epoch() -> None:
    sizes_N2 = sizes_of((480, 3200))
    assert list(EpochSampler(sizes_N2, config_of("bucketed", sizes_N2, batch_size=1))) == [[0]]
