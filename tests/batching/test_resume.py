from __future__ import annotations

import dataclasses
import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from plans import LOGS, config_of, sizes_of
from torch.utils.data import DataLoader, TensorDataset

from vnbench.batching.plan import PlanConfig
from vnbench.batching.resume import EpochSampler, PlanState, read_state
from vnbench.batching.samplers import SAMPLERS
from vnbench.batching.sizes import draw_sizes
from vnbench.errors import InputError
from vnbench.records.spec.words import MAX_EPOCH, SamplerName

pytestmark = pytest.mark.torch

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
    with pytest.raises(InputError, match=r"epoch 0: it was already iterated.*set_epoch\(1\)"):
        next(iter(sampler))
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_an_iterator_that_is_never_advanced_uses_nothing_up() -> None:
    sampler = EpochSampler(SIZES_N2, config())
    unused, used = iter(sampler), iter(sampler)
    assert sorted(chain.from_iterable(used)) == list(range(103))
    with pytest.raises(InputError, match="epoch 0: it was already iterated"):
        next(unused)


def test_an_iterator_yields_the_epoch_in_which_it_is_first_advanced() -> None:
    sampler = EpochSampler(SIZES_N2, config())
    early = iter(sampler)
    sampler.set_epoch(2)
    assert list(early) == [list(micro_batch.examples) for micro_batch in sampler.plan.micro_batches]


def test_an_iterator_under_way_stays_in_its_epoch_when_another_is_set() -> None:
    sampler = EpochSampler(SIZES_N2, config())
    batches = [list(micro_batch.examples) for micro_batch in sampler.plan.micro_batches]
    under_way = iter(sampler)
    first = next(under_way)
    sampler.set_epoch(1)
    assert [first, *under_way] == batches
    assert sorted(chain.from_iterable(sampler)) == list(range(103))


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


@pytest.mark.processes
@pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning", "ignore:This DataLoader will create 4:UserWarning"
)
class TestDataLoader:
    """The sampler as the ``batch_sampler`` of torch's DataLoader, which makes two iterators at its start."""

    KINDS = ((0, False), (1, False), (1, True), (4, False), (4, True))
    """Numbers of workers, and whether they live on between epochs."""

    @staticmethod
    def loader(sampler: EpochSampler, *, num_workers: int, persistent: bool = False) -> DataLoader[torch.Tensor]:
        return DataLoader(
            TensorDataset(torch.arange(len(SIZES_N2))),
            batch_sampler=sampler,
            num_workers=num_workers,
            persistent_workers=persistent,
            collate_fn=lambda examples: torch.stack([example for (example,) in examples]),
        )

    @pytest.mark.parametrize(("num_workers", "persistent"), KINDS)
    def test_three_epochs_hold_every_example_once_each_in_the_order_of_the_plan(
        self, num_workers: int, persistent: bool
    ) -> None:
        sampler = EpochSampler(SIZES_N2, config())
        loader = self.loader(sampler, num_workers=num_workers, persistent=persistent)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            batches = [batch.tolist() for batch in loader]
            assert batches == [list(micro_batch.examples) for micro_batch in sampler.plan.micro_batches]
            assert len(loader) == len(batches)
            assert sorted(chain.from_iterable(batches)) == list(range(103))

    @pytest.mark.parametrize(("num_workers", "persistent"), KINDS)
    def test_a_resumed_epoch_holds_what_remains_and_those_after_it_everything(
        self, num_workers: int, persistent: bool
    ) -> None:
        stopped = EpochSampler(SIZES_N2, config())
        stopped.set_epoch(1)
        steps = stopped.plan.steps
        sampler = resumed(stopped.state(next_step=5), config())
        loader = self.loader(sampler, num_workers=num_workers, persistent=persistent)
        done = [index for step in steps[:5] for micro_batch in step for index in micro_batch.examples]
        assert len(loader) == sum(map(len, steps[5:]))
        rest = [batch.tolist() for batch in loader]
        assert len(rest) == len(loader)
        assert sorted([*done, *chain.from_iterable(rest)]) == list(range(103))
        for epoch in (2, 3):
            sampler.set_epoch(epoch)
            assert sorted(chain.from_iterable(batch.tolist() for batch in loader)) == list(range(103))

    @pytest.mark.parametrize(("num_workers", "persistent"), KINDS)
    def test_a_loader_goes_back_to_a_step_in_the_middle(self, num_workers: int, persistent: bool) -> None:
        sampler = EpochSampler(SIZES_N2, config())
        loader = self.loader(sampler, num_workers=num_workers, persistent=persistent)
        batches = [batch.tolist() for batch in loader]
        sampler.resume(sampler.state(next_step=7))
        assert [batch.tolist() for batch in loader] == batches[-len(loader) :]

    @pytest.mark.parametrize(("num_workers", "persistent"), KINDS)
    def test_a_second_pass_over_an_epoch_is_refused(self, num_workers: int, persistent: bool) -> None:
        sampler = EpochSampler(SIZES_N2, config())
        loader = self.loader(sampler, num_workers=num_workers, persistent=persistent)
        assert len(list(loader)) == len(loader)
        with pytest.raises(InputError, match=r"epoch 0: it was already iterated.*set_epoch\(1\)"):
            list(loader)
        sampler.set_epoch(1)
        assert sorted(chain.from_iterable(batch.tolist() for batch in loader)) == list(range(103))

    @pytest.mark.parametrize(("num_workers", "persistent"), KINDS)
    def test_an_epoch_abandoned_half_way_is_refused_until_it_is_set_or_resumed(
        self, num_workers: int, persistent: bool
    ) -> None:
        sampler = EpochSampler(SIZES_N2, config())
        loader = self.loader(sampler, num_workers=num_workers, persistent=persistent)
        for _ in zip(range(3), loader, strict=False):
            pass
        with pytest.raises(InputError, match="epoch 0: it was already iterated"):
            list(loader)
        sampler.resume(sampler.state(next_step=0))
        assert sorted(chain.from_iterable(batch.tolist() for batch in loader)) == list(range(103))


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
        with pytest.raises(InputError, match=r"state\.json: the file does not hold the state of a plan"):
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
