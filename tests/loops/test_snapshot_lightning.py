from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import SIZES_N2, Examples
from torch.utils.data import DataLoader

import vnbench
from vnbench.batching import EpochSampler, PlanConfig

GUIDE = Path(vnbench.__file__).parent / "guide"

pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore"),  # what Lightning warns about is its own
]


def classes_of_guide(lightning: Any) -> dict[str, Any]:
    """Return what the guide shows to keep with a checkpoint of Lightning."""
    place: dict[str, Any] = {"lightning": lightning}
    for page in ("loop", "interruptions"):
        text = (GUIDE / f"{page}.md").read_text(encoding="utf-8")
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S):
            if "lightning.Callback" in block:
                exec(block, place)
    return place


def weights_of(folder: Path, *, callbacks: tuple[str, ...], stop_after: int | None = None) -> list[float]:
    """Train a network with dropout from the checkpoint of a folder, or until one is saved after so many steps."""
    lightning = pytest.importorskip("lightning")
    checkpoint = folder / "last.ckpt"
    plan = PlanConfig(sampler="bucketed", batch_size=4, micro_batch_size=4, seed=0)
    sampler = EpochSampler(SIZES_N2, plan, has_length=False)

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.steps_of_epoch = 0
            self.network = torch.nn.Sequential(
                torch.nn.Conv2d(1, 4, 3), torch.nn.Dropout(0.5), torch.nn.Conv2d(4, 1, 1)
            )

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.01)

        def training_step(self, images_B1HW: Any, _: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.network(images_B1HW + torch.rand(1)).square().mean())
            optimizer.step()
            self.steps_of_epoch += 1

        def on_train_batch_end(self, *_: Any) -> None:
            if self.steps_of_epoch == stop_after:
                self.trainer.save_checkpoint(checkpoint)
                self.trainer.should_stop = True
                self.trainer.fit_loop.epoch_loop.max_steps = self.trainer.global_step

    place = classes_of_guide(lightning)
    made = {"Planned": lambda: place["Planned"](sampler), "Repeatable": lambda: place["Repeatable"]()}
    trainer = lightning.Trainer(
        accelerator="cpu",
        callbacks=[made[name]() for name in callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=2,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    torch.manual_seed(0)
    module = Module()
    loader = DataLoader(Examples(), batch_sampler=sampler, generator=torch.Generator())
    trainer.fit(module, loader, ckpt_path=checkpoint if checkpoint.exists() else None)
    return [float(tensor.detach().double().sum()) for tensor in module.parameters()]


@pytest.mark.parametrize(("callbacks", "is_equal"), [(("Planned", "Repeatable"), True), (("Planned",), False)])
def test_with_its_random_generators_a_checkpoint_of_lightning_repeats_to_the_bit(
    tmp_path: Path, callbacks: tuple[str, ...], is_equal: bool
) -> None:
    (tmp_path / "whole").mkdir()
    whole = weights_of(tmp_path / "whole", callbacks=callbacks)
    weights_of(tmp_path, callbacks=callbacks, stop_after=2)
    assert (tmp_path / "last.ckpt").exists()
    assert (weights_of(tmp_path, callbacks=callbacks) == whole) is is_equal
