from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import vnbench

lightning = pytest.importorskip("lightning")

pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning warns about is its own

GUIDE = Path(vnbench.__file__).parent / "guide" / "loop.md"
PASSES = (4, 4, 4, 4, 4, 4)
"""Examples of each pass: a window of four passes, and one of two."""


def loss_sum(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits, targets, reduction="sum")


def of_the_guide() -> Callable[..., Tensor]:
    page = GUIDE.read_text(encoding="utf-8")
    (code,) = (
        block
        for block in re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
        if "def training_step" in block
    )
    shown: dict[str, Any] = {"loss_sum": loss_sum}
    exec(code, shown)
    step: Callable[..., Tensor] = shown["training_step"]
    return step


def mean_loss(self: Any, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
    return loss_sum(self.network(batch[0]), batch[1]) / len(batch[0])


def ratios_to_the_right_gradient(training_step: Callable[..., Tensor]) -> Sequence[float]:
    """Return the gradient of each step over the right one, as the ratio of norms, where both have one direction."""
    torch.manual_seed(0)
    network = torch.nn.Linear(5, 3).double()
    images_ND, targets_N = torch.randn(sum(PASSES), 5).double(), torch.randint(3, (sum(PASSES),))
    found: list[float] = []

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        batch_size, num_train = 16, sum(PASSES)

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(network.parameters(), lr=0.1)

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            rows = slice(0, 16) if not found else slice(16, 24)
            loss = loss_sum(network(images_ND[rows]), targets_N[rows]) / (rows.stop - rows.start)
            right = torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(network.parameters()))])
            grads = [one.grad for one in network.parameters() if one.grad is not None]
            seen = torch.cat([one.flatten() for one in grads])
            ratio = float(seen.norm() / right.norm())
            assert torch.allclose(seen, ratio * right, rtol=1e-9, atol=1e-12)
            found.append(ratio)

    Module.training_step = training_step
    batches = list(zip(images_ND.split(4), targets_N.split(4), strict=True))  # type: ignore[no-untyped-call]
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=1, accumulate_grad_batches=4, barebones=True)
    trainer.fit(Module(), train_dataloaders=DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return found


def test_lightning_halves_the_gradient_of_a_window_that_is_half_as_long() -> None:
    assert ratios_to_the_right_gradient(mean_loss) == pytest.approx([1, 0.5])


def test_the_training_step_of_the_guide_is_right_in_every_window() -> None:
    assert ratios_to_the_right_gradient(of_the_guide()) == pytest.approx([1, 1])
