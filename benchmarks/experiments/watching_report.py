"""What it costs a training to be watched: epochs with the observer and without it, in turn.

    python benchmarks/experiments/watching_report.py --out reports

veernet-tiny trains on images that were drawn before, by hand and in Lightning's Trainer. Each round trains an epoch of
either sort, the first one another each time, and only passes are timed. On a GPU take ``--device cuda``. Two minutes.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from markdown_page import page_name, write_page
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.means import mean
from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import collate, device_tensors
from vnbench.loops.observing.lightning import VnbenchCallback
from vnbench.loops.observing.own import observe
from vnbench.model.loss import tversky_loss_sum
from vnbench.model.veernet import build_model
from vnbench.output.view import Column, View
from vnbench.output.words.numbers import significant
from vnbench.records.record import TrialRecord
from vnbench.records.spec.words import USUAL_GROUPS
from vnbench.request.results_folder import results_folder
from vnbench.trial.instruments.environment import describe_environment

SIZES = ((64, 448), (64, 480), (64, 416), (64, 512)) * 10
"""Height and width in pixels of the images, one a pass."""

NUM_ROUNDS = 16
"""The first is not counted."""

SHORT_STEP_S = 0.05
"""A step beside which the cost is told."""

BOUND = 0.005
"""Share of such a step that watching may take."""

Batch = tuple[Tensor, Tensor]
"""Images (1, 1, H, W) and masks (1, H, W)."""

Epoch = Callable[[Path | None], float]
"""Trains an epoch, watched where it is told a file, and returns the seconds of its passes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What watching a loop costs, in seconds a pass."""

    loop: str
    pass_s: float
    """Mean pass without the observer."""
    inside_s: Estimate
    """What the observer says that it took."""
    added_s: Estimate
    """Difference between watched passes and others, over pairs of epochs."""


def main(arguments: Sequence[str]) -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of the page")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where it trains")
    options = parser.parse_args(arguments)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    device = torch.device(options.device)
    epochs = {"by hand": by_hand(device), "lightning-automatic": by_lightning(device)}
    rows = [measured(loop, epoch) for loop, epoch in epochs.items()]
    machine = results_folder(describe_environment(options.device)).name
    name = page_name("watching", machine=machine, date=datetime.now(UTC).isoformat())
    write_page(blocks(rows, machine), options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def measured(loop: str, epoch: Epoch) -> Row:
    """Return what watching costs, from epochs in turn."""
    plain_s: list[float] = []
    watched_s: list[float] = []
    inside_s: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(NUM_ROUNDS):
            out = Path(folder, f"{number}.jsonl")
            order = (None, out) if number % 2 else (out, None)
            seconds = {one: epoch(one) / len(SIZES) for one in order}
            record = TrialRecord.from_json(out.read_bytes())
            assert record.observed is not None
            if number:
                plain_s.append(seconds[None])
                watched_s.append(seconds[out])
                inside_s.append(record.observed.observing_s / len(SIZES))
    added_s = [watched - plain for watched, plain in zip(watched_s, plain_s, strict=True)]
    return Row(loop=loop, pass_s=mean(plain_s).value, inside_s=mean(inside_s), added_s=mean(added_s))


def by_hand(device: torch.device) -> Epoch:
    network, optimizer, batches = made(device)

    def epoch(out: Path | None) -> float:
        with watched(out, network, optimizer) as take:
            start_s = time.perf_counter()
            for batch in take(batches):
                loss_of(network, batch).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimizer.step()
                optimizer.zero_grad()
            wait_for(device)
            return time.perf_counter() - start_s

    return epoch


@contextmanager
def watched(
    out: Path | None, network: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[Callable[[Sequence[Batch]], Iterator[Batch]]]:
    """Return a context with what gives the batches of an epoch, without the record that its end leaves."""
    if out is None:
        yield iter
        return
    with observe(network, optimizer, out=out, sizes="canvas", warm_up_steps=0) as run:
        # The loop ends with its last batch, before the epoch's end is noted.
        yield lambda batches: itertools.islice(run.epoch(batches), len(batches))


def by_lightning(device: torch.device) -> Epoch:
    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.optimizer, self.batches = made(device)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return self.optimizer

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            return loss_of(self.network, batch)

    class Timer(pl.Callback):
        start_s = end_s = 0.0

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                self.start_s = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            self.end_s = time.perf_counter()

        def on_train_epoch_end(self, *_: Any) -> None:
            wait_for(device)

    module = Module()

    def epoch(out: Path | None) -> float:
        timer = Timer()
        watching = [] if out is None else [VnbenchCallback(out, sizes="canvas", warm_up_steps=0)]
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=1,
            barebones=True,
            callbacks=[*watching, timer],
        )
        trainer.fit(module, train_dataloaders=DataLoader(module.batches, batch_size=None))  # type: ignore[arg-type]
        return timer.end_s - timer.start_s

    return epoch


def made(device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer, list[Batch]]:
    """Return a network, its optimizer and the batches of an epoch on a device."""
    torch.manual_seed(0)
    network = build_model(
        "veernet-tiny", num_classes=3, norm_groups=USUAL_GROUPS, norm_precision="fp32", checkpointing="none"
    ).to(device)
    batches = []
    for index, (height, width) in enumerate(SIZES):
        example = draw_example(seed=0, index=index, height=height, width=width, task="multiclass")
        tensors = device_tensors(collate([example], canvas=(height, width)))
        batches.append((tensors.images_BCHW.to(device), tensors.targets_BHW.to(device)))
    return network.train(), torch.optim.AdamW(network.parameters()), batches


def loss_of(network: nn.Module, batch: Batch) -> Tensor:
    images_BCHW, targets_BHW = batch
    return tversky_loss_sum(network(images_BCHW), targets_BHW, torch.ones_like(targets_BHW, dtype=torch.bool))


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def blocks(rows: Sequence[Row], machine: str) -> list[str]:
    """Return the blocks of the page."""

    def milliseconds(figure: Estimate) -> str:
        return f"{1e3 * figure.value:.2f} \N{PLUS-MINUS SIGN} {1e3 * (figure.half_width or 0.0):.2f}"

    columns: tuple[Column[Row], ...] = (
        Column("loop", lambda row: row.loop, align="left"),
        Column("a pass, ms", lambda row: 1e3 * row.pass_s, text=significant),
        Column("inside the observer, ms a pass", lambda row: milliseconds(row.inside_s)),
        Column("added to a pass, ms", lambda row: milliseconds(row.added_s)),
        Column("inside, of a step of 50 ms", lambda row: f"{100 * row.inside_s.value / SHORT_STEP_S:.2g} %"),
    )
    most = max(row.inside_s.value for row in rows) / SHORT_STEP_S
    return [
        "# What it costs to be watched",
        f"veernet-tiny, one image of 64 x 416 to 512 px a pass, fp32, {machine}, torch {torch.__version__}, lightning "
        f"{version('lightning')}: {NUM_ROUNDS - 1} pairs of epochs of {len(SIZES)} passes, with the observer and "
        "without it, in turn. Intervals are of 95 %.",
        View(rows, columns).markdown(),
        f"The bound was {100 * BOUND:g} % of a step of {1e3 * SHORT_STEP_S:g} ms, inside the callback: it "
        f"{'holds' if most < BOUND else 'does not hold'}. What is added to a pass also holds what a thread takes that "
        "reads the load of the machine five times a second, and the noise of the passes themselves. The record of an "
        "epoch is written between epochs and is not counted.",
    ]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
