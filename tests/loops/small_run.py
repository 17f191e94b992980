"""A run of a few steps that draws random numbers of every kind, with a plan of ragged sizes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from vnbench.batching import EpochSampler, PlanConfig
from vnbench.loops.snapshot import Position, Run, Snapshots
from vnbench.records.spec.words import SnapshotMode

SIZES_N2 = np.random.default_rng(0).integers([32, 64], [65, 321], size=(13, 2))
NUM_EPOCHS = 3


class Examples(torch.utils.data.Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return len(SIZES_N2)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((1, 8, 8), float(index) / len(SIZES_N2))


def small_run(*, width: int = 4, sampler: str = "bucketed", micro_batch_size: int = 2, precision: str = "fp32") -> Run:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Dropout(0.5), nn.Conv2d(width, 3, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    plan = PlanConfig(
        sampler=sampler,  # type: ignore[arg-type]  # its name comes from a test
        batch_size=4,
        micro_batch_size=4 if sampler == "pixel-budget" else micro_batch_size,
        pixel_budget=40_000 if sampler == "pixel-budget" else None,
        seed=0,
    )
    return Run(
        model=model,
        optimizer=optimizer,
        sampler=EpochSampler(SIZES_N2, plan),
        scheduler=torch.optim.lr_scheduler.MultiStepLR(optimizer, [1]),
        scaler=torch.amp.GradScaler("cpu"),
        settings={"precision": precision},
    )


def train(
    run: Run, folder: Path, *, mode: SnapshotMode = "sync", stop_after: int | None = None, num_workers: int = 0
) -> int:
    """Train from the last snapshot, with a snapshot after each step; return the number of steps that ran."""
    num_steps = 0
    sampler = run.sampler
    assert sampler is not None
    loader = DataLoader(Examples(), batch_sampler=sampler, num_workers=num_workers, generator=torch.Generator())
    with Snapshots(folder, mode=mode) as snapshots:
        position = snapshots.restore(run)
        for epoch in range(position.epoch, NUM_EPOCHS):
            sampler.set_epoch(epoch)
            batches = iter(loader)
            for step, passes in enumerate(sampler.remaining_steps, start=sampler.first_step + 1):
                run.optimizer.zero_grad()
                for _ in passes:
                    images_B1HW = next(batches) + random.random() + float(np.random.rand())
                    run.model(images_B1HW).square().mean().backward()
                run.optimizer.step()
                num_steps += 1
                snapshots.save(run, Position(epoch=epoch, next_step=step, counters={"steps": num_steps}))
                if num_steps == stop_after:
                    return num_steps
            run.scheduler.step()  # type: ignore[union-attr]  # a scheduler steps
    return num_steps


def state_digest(run: Run) -> list[float]:
    """Return numbers that are equal for equal states, and for hardly any others."""
    tensors = [*run.model.state_dict().values()]
    tensors += [value for state in run.optimizer.state.values() for value in state.values()]
    return [float(tensor.double().abs().sum()) for tensor in tensors]
