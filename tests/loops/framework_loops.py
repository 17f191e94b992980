"""Training loops in Lightning, Fabric and Accelerate: right ones, and ones with a bug, each with its code."""

from __future__ import annotations

import logging
from typing import Any

import torch
from accelerate import Accelerator
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule, Trainer
from small_loop import mean_loss, pixel_loss, share, windows
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader

for name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)


def through_fabric(function):
    """Return a loop whose network and optimizer are Fabric's."""

    def loop(model, optimizer, batches):
        fabric = Fabric(accelerator="cpu", devices=1)
        function(*fabric.setup(model, optimizer), batches)

    loop.__name__ = f"{function.__name__}_in_fabric"
    return loop


def through_accelerate(function):
    """Return a loop whose network and optimizer are Accelerate's."""

    def loop(model, optimizer, batches):
        accelerator = Accelerator(cpu=True)
        function(*accelerator.prepare(model, optimizer), batches)

    loop.__name__ = f"{function.__name__}_in_accelerate"
    return loop


def fitted(module, batches, **settings):
    trainer = Trainer(accelerator="cpu", max_epochs=1, barebones=True, use_distributed_sampler=False, **settings)
    trainer.fit(module, train_dataloaders=DataLoader(list(batches), batch_size=None))


class Automatic(LightningModule):
    """A step for each batch."""

    def __init__(self, model: Any, optimizer: Any, batches: Any) -> None:
        super().__init__()
        self.model, self.optimizer, self.batches = model, optimizer, batches

    def configure_optimizers(self):
        return self.optimizer

    def training_step(self, batch, batch_idx):
        return mean_loss(self.model, batch)


class InWindows(Automatic):
    """Steps of several batches, each weighed by its pixels."""

    def training_step(self, batch, batch_idx):
        size = self.trainer.accumulate_grad_batches
        first = batch_idx // size * size
        return size * share(self.model, batch, self.batches[first : first + size])


class Manual(Automatic):
    """Steps of two batches, by hand."""

    size = 2

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        first = batch_idx // self.size * self.size
        window = self.batches[first : first + self.size]
        is_last = batch_idx == first + len(window) - 1
        self.pass_(self.optimizers(), batch, window, is_first=batch_idx == first, is_last=is_last)

    def pass_(self, optimizer, batch, window, *, is_first, is_last):
        if is_first:
            optimizer.zero_grad()
        self.manual_backward(share(self.model, batch, window))
        if is_last:
            optimizer.step()


def lightning(model, optimizer, batches):
    fitted(Automatic(model, optimizer, batches), batches)


def lightning_clipped(model, optimizer, batches):
    fitted(Automatic(model, optimizer, batches), batches, gradient_clip_val=1.0)


def lightning_in_windows(model, optimizer, batches):
    fitted(InWindows(model, optimizer, batches), batches, accumulate_grad_batches=3)


def lightning_by_hand(model, optimizer, batches):
    fitted(Manual(model, optimizer, batches), batches)


def fabric_in_windows(model, optimizer, batches):
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(model, optimizer)
    for window in windows(batches, 4):
        optimizer.zero_grad()
        for batch in window:
            with fabric.no_backward_sync(model, enabled=batch is not window[-1]):
                fabric.backward(share(model, batch, window))
        fabric.clip_gradients(model, optimizer, max_norm=10.0)
        optimizer.step()


def accelerate_in_windows(model, optimizer, batches):
    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    for window in windows(batches, 2):
        for batch in window:
            accelerator.backward(share(model, batch, window))
        accelerator.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()


CORRECT_IN_FRAMEWORKS = (
    lightning,
    lightning_clipped,
    lightning_in_windows,
    lightning_by_hand,
    fabric_in_windows,
    accelerate_in_windows,
)


def lightning_never_zeroed(model, optimizer, batches):
    class Module(Automatic):
        def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
            pass

    fitted(Module(model, optimizer, batches), batches)


def lightning_zeroed_before_step(model, optimizer, batches):
    class Module(Automatic):
        def on_before_optimizer_step(self, optimizer):
            optimizer.zero_grad()

    fitted(Module(model, optimizer, batches), batches)


def lightning_divided_by_its_window(model, optimizer, batches):
    fitted(Automatic(model, optimizer, batches), batches, accumulate_grad_batches=4)


def lightning_zeroed_in_each_pass(model, optimizer, batches):
    class Module(Manual):
        def pass_(self, optimizer, batch, window, *, is_first, is_last):
            super().pass_(optimizer, batch, window, is_first=True, is_last=is_last)

    fitted(Module(model, optimizer, batches), batches)


def lightning_zeroed_before_each_backward(model, optimizer, batches):
    class Module(Automatic):
        def on_before_backward(self, loss):
            self.zero_grad()

    fitted(Module(model, optimizer, batches), batches, accumulate_grad_batches=2)


def lightning_with_its_tail_dropped(model, optimizer, batches):
    class Module(Manual):
        size = 4

        def pass_(self, optimizer, batch, window, *, is_first, is_last):
            super().pass_(optimizer, batch, window, is_first=is_first, is_last=is_last and len(window) == self.size)

    fitted(Module(model, optimizer, batches), batches)


def lightning_stepped_before_backward(model, optimizer, batches):
    class Module(Manual):
        def pass_(self, optimizer, batch, window, *, is_first, is_last):
            optimizer.step()
            optimizer.zero_grad()
            self.manual_backward(mean_loss(self.model, batch))

    fitted(Module(model, optimizer, batches), batches)


def lightning_stepped_twice(model, optimizer, batches):
    class Module(Manual):
        def pass_(self, optimizer, batch, window, *, is_first, is_last):
            super().pass_(optimizer, batch, window, is_first=is_first, is_last=is_last)
            if is_last:
                optimizer.step()

    fitted(Module(model, optimizer, batches), batches)


def lightning_clipped_while_scaled(model, optimizer, batches):
    class Module(Manual):
        size = 1
        scaler = torch.amp.GradScaler("cpu")

        def pass_(self, optimizer, batch, window, *, is_first, is_last):
            optimizer.zero_grad()
            self.manual_backward(self.scaler.scale(mean_loss(self.model, batch)))
            clip_grad_norm_(self.model.parameters(), 1.0)
            self.scaler.step(optimizer.optimizer)
            self.scaler.update()

    fitted(Module(model, optimizer, batches), batches)


def lightning_without_the_head(model, optimizer, batches):
    fitted(Automatic(model, torch.optim.SGD(model.body.parameters(), lr=0.01), batches), batches)


def accelerate_dividing_by_its_window(model, optimizer, batches):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    model, optimizer = accelerator.prepare(model, optimizer)
    for window in windows(batches, 4):
        for batch in window:
            accelerator.backward(pixel_loss(model(batch[0]), batch) / batch[2].sum())
        optimizer.step()
        optimizer.zero_grad()


BROKEN_IN_FRAMEWORKS = {
    lightning_never_zeroed: "never-zeroed",
    lightning_zeroed_before_step: "zeroed-before-step",
    lightning_divided_by_its_window: "wrong-scale",
    lightning_zeroed_in_each_pass: "zeroed-each-pass",
    lightning_zeroed_before_each_backward: "zeroed-each-pass",
    lightning_with_its_tail_dropped: "dropped-passes",
    lightning_stepped_before_backward: "stepped-before-backward",
    lightning_stepped_twice: "stepped-twice",
    lightning_clipped_while_scaled: "clipped-before-unscale",
    lightning_without_the_head: "unheld-parameters",
    accelerate_dividing_by_its_window: "wrong-scale",
}
"""Loops with a bug, and its code."""
