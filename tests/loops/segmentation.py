"""A segmentation in Lightning, as its examples are written, on images of different sizes that are drawn here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader, Dataset

from vnbench.batching import EpochSampler, PlanConfig
from vnbench.loops.observing.lightning import VnbenchCallback

IGNORED = 255

SIZES_N2 = np.random.default_rng(0).integers((32, 32), (65, 257), size=(20, 2))

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)


class Curves(Dataset[tuple[Tensor, Tensor]]):
    """White images with one dark curve, and masks of two classes."""

    def __len__(self) -> int:
        return len(SIZES_N2)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        height, width = (int(side) for side in SIZES_N2[index])
        rows = torch.linspace(index % 4, height - 1, width).long()
        mask = torch.zeros(height, width, dtype=torch.int64).scatter_(0, rows[None], 1)
        return mask.float(), mask


def collate(examples: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Return a batch that is padded to its largest sides, with the sizes that its images had."""
    height, width = (-(-max(image.shape[side] for image, _ in examples) // 32) * 32 for side in (0, 1))
    margins = [(0, width - image.shape[1], 0, height - image.shape[0]) for image, _ in examples]
    return {
        "images": torch.stack([pad(image, one) for (image, _), one in zip(examples, margins, strict=True)])[:, None],
        "masks": torch.stack([pad(mask, one, value=IGNORED) for (_, mask), one in zip(examples, margins, strict=True)]),
        "sizes": [tuple(image.shape) for image, _ in examples],
    }


def make_network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))


def make_loader(*, batch_size: int = 2, micro_batch_size: int = 2, **settings: Any) -> Any:
    plan = PlanConfig(sampler="bucketed", batch_size=batch_size, micro_batch_size=micro_batch_size, seed=0)
    return DataLoader(Curves(), batch_sampler=EpochSampler(SIZES_N2, plan), collate_fn=collate, **settings)


class Segmenter(LightningModule):
    """Learns masks from images, with Lightning's own optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.network = make_network()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def loss_of(self, batch: dict[str, Any]) -> Tensor:
        return cross_entropy(self.network(batch["images"]), batch["masks"], ignore_index=IGNORED)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        return self.loss_of(batch)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.loss_of(batch)


class ByHand(Segmenter):
    """The same with steps by hand, of two passes each."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        self.manual_backward(self.loss_of(batch) / 2)
        if batch_idx % 2:
            optimizer.step()
            optimizer.zero_grad()


class Cleared(Segmenter):
    """The same with a bug: each pass clears the gradients of those before it."""

    def on_before_backward(self, loss: Tensor) -> None:
        self.zero_grad()


def train(
    watching: VnbenchCallback,
    *,
    module: Segmenter | None = None,
    loader: Any = None,
    others: Sequence[Callback] = (),
    folder: Path | None = None,
    **settings: Any,
) -> None:
    """Train with a callback; settings are those of a Trainer."""
    settings = {"max_epochs": 2, "enable_checkpointing": False, **settings}
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[watching, *others],
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **settings,
    )
    validation = DataLoader(Curves(), batch_size=1, collate_fn=collate)
    trainer.fit(module or Segmenter(), make_loader() if loader is None else loader, validation)
