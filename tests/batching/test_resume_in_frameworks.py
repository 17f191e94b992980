from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

import vnbench
from vnbench.batching import EpochSampler, PlanConfig
from vnbench.batching.resume import PlanState
from vnbench.errors import InputError

torch = pytest.importorskip("torch")

SIZES_N2 = np.random.default_rng(0).integers((480, 3200), (641, 12801), size=(41, 2))
KINDS = ((0, False), (1, False), (1, True), (4, False), (4, True))
"""Numbers of workers, and whether they live on between epochs."""

GUIDE = Path(vnbench.__file__).parent / "guide" / "loop.md"
PLANNED = next(
    block
    for block in re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), flags=re.M | re.S)
    if "lightning.Callback" in block
)
"""What the guide shows to keep the position of the plan with a checkpoint."""

pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore"),  # what these libraries warn about is theirs
]


def sampler_at(state: PlanState | None = None, *, has_length: bool = True) -> EpochSampler:
    config = PlanConfig(sampler="bucketed", batch_size=8, micro_batch_size=2, seed=3)
    sampler = EpochSampler(SIZES_N2, config, has_length=has_length)
    if state is not None:
        sampler.resume(state)
    return sampler


def loader_of(sampler: EpochSampler, *, num_workers: int, persistent: bool) -> Any:
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.arange(len(SIZES_N2))),
        batch_sampler=sampler,
        num_workers=num_workers,
        persistent_workers=persistent,
    )


class Trained(Protocol):
    """Trains epochs through a framework and returns the batches of each."""

    def __call__(self, loader: Any, *, epochs: range) -> list[list[list[int]]]: ...


def by_fabric(loader: Any, *, epochs: range) -> list[list[list[int]]]:
    fabric = pytest.importorskip("lightning").Fabric(accelerator="cpu", devices=1)
    prepared = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    return [[batch.tolist() for (batch,) in prepared] for _ in epochs]


def by_accelerate(loader: Any, *, epochs: range) -> list[list[list[int]]]:
    prepared = pytest.importorskip("accelerate").Accelerator(cpu=True).prepare(loader)
    if epochs.start:
        prepared.set_epoch(epochs.start)
    return [[batch.tolist() for (batch,) in prepared] for _ in epochs]


def by_trainer(
    sampler: EpochSampler, loader: Any, *, epochs: range, folder: Path, stop_after: int | None = None
) -> Any:
    """Train by Lightning; with ``stop_after`` save a checkpoint after so many steps of the first epoch, and end there.

    Where the folder holds a checkpoint, training goes on from it.
    """
    lightning = pytest.importorskip("lightning")
    found: dict[int, list[list[int]]] = {}
    steps = [len(step) for step in sampler.plan.steps]
    last_pass = sum(steps[:stop_after]) if stop_after else None
    checkpoint = folder / "last.ckpt"

    planned: dict[str, Any] = {"lightning": lightning}
    exec(PLANNED, planned)

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.steps_of_epoch = stop_after  # the checkpoint is saved there
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def training_step(self, batch: Any, _: int) -> None:
            found.setdefault(self.trainer.current_epoch, []).append(batch[0].tolist())
            self.manual_backward(self.weight.sum())
            self.optimizers().step()

        def on_train_batch_end(self, *_: Any) -> None:
            if last_pass is not None and len(found[0]) == last_pass:
                self.trainer.save_checkpoint(checkpoint)
                self.trainer.should_stop = True
                self.trainer.fit_loop.epoch_loop.max_steps = self.trainer.global_step

    trainer = lightning.Trainer(
        accelerator="cpu",
        callbacks=[planned["Planned"](sampler)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=epochs.stop,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    trainer.fit(Module(), loader, ckpt_path=checkpoint if checkpoint.exists() else None)
    return list(found.values())


def stopped_in(*, epoch: int) -> PlanState:
    sampler = sampler_at()
    sampler.set_epoch(epoch)
    return sampler.state(next_step=2)


def planned(epoch: int) -> list[list[int]]:
    sampler = sampler_at()
    sampler.set_epoch(epoch)
    return [list(micro_batch.examples) for micro_batch in sampler.plan.micro_batches]


@pytest.mark.parametrize(("num_workers", "persistent"), KINDS)
@pytest.mark.parametrize("train", [by_fabric, by_accelerate])
def test_frameworks_go_through_the_plan_of_each_epoch(train: Trained, num_workers: int, persistent: bool) -> None:
    loader = loader_of(sampler_at(), num_workers=num_workers, persistent=persistent)
    assert train(loader, epochs=range(3)) == [planned(epoch) for epoch in range(3)]


@pytest.mark.parametrize(("num_workers", "persistent"), KINDS)
def test_accelerate_goes_on_within_an_epoch(num_workers: int, persistent: bool) -> None:
    stopped = stopped_in(epoch=1)
    loader = loader_of(sampler_at(stopped), num_workers=num_workers, persistent=persistent)
    rest = planned(1)[len(planned(1)) - len(loader) :]
    assert by_accelerate(loader, epochs=range(1, 4)) == [rest, planned(2), planned(3)]


@pytest.mark.parametrize("train", [by_fabric, by_accelerate])
def test_a_framework_that_counts_a_resumed_run_from_0_is_stopped_and_told_how(train: Trained) -> None:
    loader = loader_of(sampler_at(stopped_in(epoch=1)), num_workers=0, persistent=False)
    with pytest.raises(InputError, match=r"epoch 0: the sampler was resumed in epoch 1.*loader\.set_epoch\(1\)"):
        train(loader, epochs=range(3))


@pytest.mark.parametrize(("num_workers", "persistent"), KINDS)
def test_lightning_goes_through_the_plan_of_each_epoch_also_from_a_checkpoint_within_one(
    num_workers: int, persistent: bool, tmp_path: Path
) -> None:
    sampler = sampler_at()
    loader = loader_of(sampler, num_workers=num_workers, persistent=persistent)
    assert by_trainer(sampler, loader, epochs=range(3), folder=tmp_path) == [planned(epoch) for epoch in range(3)]
    stopped = sampler_at(has_length=False)
    loader = loader_of(stopped, num_workers=num_workers, persistent=persistent)
    (first,) = by_trainer(stopped, loader, epochs=range(1), folder=tmp_path, stop_after=2)
    resumed = sampler_at(has_length=False)
    loader = loader_of(resumed, num_workers=num_workers, persistent=persistent)
    rest, second = by_trainer(resumed, loader, epochs=range(2), folder=tmp_path)
    assert first + rest == planned(0)
    assert sorted(chain.from_iterable(first + rest)) == list(range(len(SIZES_N2)))
    assert second == planned(1)
