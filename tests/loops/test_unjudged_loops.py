"""Loops whose scale cannot be judged: a note says why, and nothing is found."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
from small_loop import SmallNetwork, audited, pixel_loss, share, windows
from torch import nn


def with_dropout_of_its_own(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any) -> None:
    for window in windows(batches, 2):
        for batch in window:
            logits = nn.functional.dropout(model(batch[0]), 0.5)
            (pixel_loss(logits, batch) / sum(valid.sum() for _, _, valid in window)).backward()
        optimizer.step()
        optimizer.zero_grad()


def without_finite_gradients(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any) -> None:
    for window in windows(batches, 2):
        for batch in window:
            (share(model, batch, window) * math.nan).backward()
        optimizer.step()
        optimizer.zero_grad()


def for_batches_of_two(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any) -> None:
    for window in windows(batches, 2):
        for batch in window:
            if len(batch[0]) != 2:
                raise ValueError("two images are wanted")
            share(model, batch, window).backward()
        optimizer.step()
        optimizer.zero_grad()


def with_a_closure_for_each_window(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any) -> None:
    of_closures = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    for window in windows(batches, 2):

        def closure(window: Any = window) -> torch.Tensor:
            of_closures.zero_grad()
            losses = [share(model, batch, window) for batch in window]
            for loss in losses:
                loss.backward()  # type: ignore[no-untyped-call]
            return torch.stack(losses).sum()

        of_closures.step(closure)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (with_dropout_of_its_own, "the gradient of the same batches changes by"),
        (without_finite_gradients, "a gradient is not finite"),
        (for_batches_of_two, "with batches of other sizes the loop fails (ValueError: two images are wanted)"),
        (with_a_closure_for_each_window, "the optimizer calls a closure several times a step"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_note_says_why_the_scale_of_a_loop_was_not_judged(function: Any, told: str) -> None:
    reading = audited(function)
    assert reading.findings == ()
    assert told in reading.notes[0]
    assert json.dumps(asdict(reading), allow_nan=False)


def test_the_scale_is_not_judged_with_a_norm_that_mixes_examples() -> None:
    def make_network() -> nn.Module:
        network = SmallNetwork()
        network.body[1] = nn.BatchNorm2d(4)
        return network

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Any) -> None:
        for window in windows(batches, 2):
            for batch in window:
                share(model, batch, window).backward()
            optimizer.step()
            optimizer.zero_grad()

    reading = audited(train, make_network=make_network)
    assert reading.findings == ()
    assert "a norm of the network mixes the examples of a pass" in reading.notes[0]
