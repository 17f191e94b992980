"""What Lightning makes of the last, short window of an epoch, and of passes of unequal size; and a remedy.

    python benchmarks/experiments/short_window_report.py --out reports

The published recipe trains on 15,000 examples in steps of 16, so the last step of each epoch has 8. The end of such an
epoch is trained by Lightning's Trainer, and the gradient that its optimizer sees is compared with that of the mean loss
over the examples of the step, which one pass over all of them gives. All in float64, so that nothing is rounding, on
one canvas, so that nothing is padding. It takes about a minute.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from exact_windows import Batch, ExactWindows, MeanLoss
from markdown_page import write_page
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader

from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import collate, device_tensors
from vnbench.model.loss import tversky_loss_sum
from vnbench.model.veernet import build_model
from vnbench.output.view import Column, View
from vnbench.output.words.numbers import significant
from vnbench.records.spec.words import USUAL_GROUPS
from vnbench.trial.step.network import without_dropout

CANVAS = (64, 160)
"""Height and width in pixels of every image."""

ROUNDING = 1e-9
"""Error below which two computations in float64 are the same."""

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": partial(torch.optim.SGD, lr=1e-3),
    "AdamW": partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.0),
}

MODULES = {MeanLoss: "the mean loss", ExactWindows: "the remedy"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """The end of an epoch."""

    name: str
    passes: tuple[int, ...]
    """Examples of each pass."""
    num_passes: int
    """Passes of a full window: ``accumulate_grad_batches``."""
    batch_size: int
    """Examples of a full window."""

    @property
    def windows(self) -> tuple[tuple[int, ...], ...]:
        """Passes of each optimizer step."""
        starts = range(0, len(self.passes), self.num_passes)
        return tuple(self.passes[start : start + self.num_passes] for start in starts)


CASES = (
    Case(name="the recipe, one example a pass", passes=(1,) * 24, num_passes=16, batch_size=16),
    Case(name="the recipe, four examples a pass", passes=(4,) * 6, num_passes=4, batch_size=16),
    Case(name="passes of 3 and 1 examples", passes=(3, 1), num_passes=2, batch_size=4),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """An optimizer step as Lightning took it."""

    weights_P: Tensor
    """Before it."""
    state: dict[str, Any]
    """Of the optimizer before it."""
    gradient_P: Tensor
    update_P: Tensor
    """What it added to the weights."""


class Row(NamedTuple):
    """An optimizer step beside the right one from the same weights."""

    case: str
    module: str
    window: str
    norm_ratio: float
    """Norm of the gradient over that of the right one."""
    gradient_error: float
    """Norm of the difference over that of the right one."""
    update_errors: Mapping[str, float]
    """The same of what the optimizer adds to the weights, by optimizer."""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of the page")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    rows = [row for case in CASES for module in (MeanLoss, ExactWindows) for row in compared(case, module)]
    date = f"{datetime.now(UTC):%Y%m}"
    write_page(blocks(rows), arguments.out / f"short_window_{date}.md", script=__file__, arguments=sys.argv[1:])


def compared(case: Case, module: type[MeanLoss]) -> list[Row]:
    """Return the optimizer steps of a case as Lightning takes them, beside the right ones."""
    network = new_network()
    images, targets = drawn(sum(case.passes))
    taken = {name: trained(case, module, name, images, targets) for name in OPTIMIZERS}
    edges = accumulate((sum(window) for window in case.windows), initial=0)
    rows = []
    for number, (window, (start, stop)) in enumerate(zip(case.windows, pairwise(edges), strict=True)):
        update_errors, norm_ratio, gradient_error = {}, 0.0, 0.0
        for name, steps in taken.items():
            one = steps[number]
            optimizer = OPTIMIZERS[name](network.parameters())
            vector_to_parameters(one.weights_P.clone(), network.parameters())
            if one.state["state"]:
                optimizer.load_state_dict(one.state)
            optimizer.zero_grad()
            loss = loss_sum(network(images[start:stop]), targets[start:stop]) / (stop - start)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            right_P = gradient_of(network)
            optimizer.step()
            update_P = parameters_to_vector(network.parameters()).detach() - one.weights_P
            update_errors[name] = error_of(one.update_P, update_P)
            norm_ratio, gradient_error = (
                float(one.gradient_P.norm() / right_P.norm()),
                error_of(one.gradient_P, right_P),
            )
        told = f"{len(window)} of {case.num_passes} passes, {sum(window)} examples"
        rows.append(Row(case.name, MODULES[module], told, norm_ratio, gradient_error, update_errors))
    return rows


def trained(case: Case, module: type[MeanLoss], name: str, images: Tensor, targets: Tensor) -> list[Taken]:
    """Return the optimizer steps that Lightning's Trainer takes at the end of an epoch."""
    network = new_network()
    optimizer = OPTIMIZERS[name](network.parameters())
    before: list[tuple[Tensor, dict[str, Any]]] = []
    taken: list[Taken] = []

    def remember(*_: Any) -> None:
        before.append((parameters_to_vector(network.parameters()).detach().clone(), deepcopy(optimizer.state_dict())))

    def compare(*_: Any) -> None:
        weights_P, state = before[-1]
        update_P = parameters_to_vector(network.parameters()).detach() - weights_P
        taken.append(Taken(weights_P=weights_P, state=state, gradient_P=gradient_of(network), update_P=update_P))

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(compare)
    run = module(network, loss_sum, optimizer)
    if isinstance(run, ExactWindows):
        run.num_train, run.batch_size = len(images), case.batch_size
    batches = list(zip(torch.split(images, list(case.passes)), torch.split(targets, list(case.passes)), strict=True))
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, accumulate_grad_batches=case.num_passes, precision="64-true", barebones=True
    )
    trainer.fit(run, train_dataloaders=DataLoader(batches, batch_size=None))  # type: ignore[arg-type]  # any sequence
    return taken


def new_network() -> nn.Module:
    torch.manual_seed(0)
    network = build_model(
        "veernet-tiny", num_classes=3, norm_groups=USUAL_GROUPS, norm_precision="fp32", checkpointing="none"
    )
    return without_dropout(network.double().train())


def drawn(number: int) -> Batch:
    """Return so many images, (N, 1, H, W), and their masks, (N, H, W)."""
    height, width = CANVAS
    examples = [
        draw_example(seed=0, index=index, height=height, width=width, task="multiclass") for index in range(number)
    ]
    tensors = device_tensors(collate(examples, canvas=CANVAS))
    return tensors.images_BCHW.double(), tensors.targets_BHW


def loss_sum(logits_BKHW: Tensor, targets_BHW: Tensor) -> Tensor:
    """Return the sum of the examples' losses; every pixel is valid."""
    return tversky_loss_sum(logits_BKHW, targets_BHW, torch.ones_like(targets_BHW, dtype=torch.bool))


def gradient_of(network: nn.Module) -> Tensor:
    """Return the gradient of all parameters in a row."""
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])


def error_of(found_P: Tensor, right_P: Tensor) -> float:
    return float((found_P - right_P).norm() / right_P.norm())


def blocks(rows: Sequence[Row]) -> list[str]:
    """Return the blocks of the page."""
    columns: tuple[Column[Row], ...] = (
        Column("end of the epoch", lambda row: row.case, align="left"),
        Column("training_step", lambda row: row.module, align="left"),
        Column("window", lambda row: row.window, align="left"),
        Column("norm of the gradient over the right one", lambda row: row.norm_ratio, text=significant),
        Column("error of the gradient", lambda row: row.gradient_error, text=told),
        *(
            Column(f"error of {name}'s update", lambda row, name=name: row.update_errors[name], text=told)  # type: ignore[misc]
            for name in OPTIMIZERS
        ),
    )
    remedy = Path(__file__).with_name("exact_windows.py").read_text(encoding="utf-8").partition("# The remedy.\n")[2]
    return [
        "# Lightning's last window",
        f"veernet-tiny, float64, CPU, lightning {version('lightning')}, torch {torch.__version__}. Each row is an "
        "optimizer step of `Trainer(accumulate_grad_batches=...)` beside the right one from the same weights and "
        "optimizer state: that of the mean loss over the step's examples. Errors are norms of differences over norms.",
        View(rows, columns).markdown(),
        "Lightning divides the loss of each pass by `accumulate_grad_batches`, in a window with fewer passes too, so "
        "the gradient of the recipe's last step (15,000 = 937 x 16 + 8) is half of what it should be. SGD makes half "
        "of the step. AdamW divides by the gradient's own scale, so its step is less wrong, but both of its moments "
        "take in the half gradient. Where passes hold different numbers of examples, the means of the passes are "
        "averaged, and each example of a small pass counts more: no optimizer divides that out. (That row is a first "
        "step, in which AdamW goes by little more than the sign of each entry.)",
        "The same holds for any loop that divides by a number of passes. `vnbench audit` finds it in a loop of your "
        "own, and `vnbench sweep --loop lightning-automatic` trains with the remedy, compared to the bit with the own "
        "loop before it is timed.",
        "## The remedy",
        "Give the module what it cannot know from a batch, the examples of an epoch and of a step (`MeanLoss` is the "
        "module above, whose `training_step` returns the mean). The loader must keep to `batch_size` examples in "
        "`accumulate_grad_batches` passes; a plan with other passes needs manual optimization (`--loop lightning`).",
        f"```python\n{remedy.strip()}\n```",
    ]


def told(error: float) -> str:
    """Return an error in percent; what is rounding of float64 is called 0."""
    return "0" if error < ROUNDING else f"{100 * error:.3g} %"


if __name__ == "__main__":
    main()
