"""Training loops with one bug each, with the code, step and passes that an audit must tell."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from small_loop import mean_loss, pixel_loss, share, windows
from torch import nn
from torch.nn.utils import clip_grad_norm_


def without_zero_grad(model, optimizer, batches):
    for batch in batches:
        mean_loss(model, batch).backward()
        optimizer.step()


def zeroed_once_an_epoch(model, optimizer, batches):
    optimizer.zero_grad()
    for window in windows(batches, 2):
        for batch in window:
            share(model, batch, window).backward()
        optimizer.step()


def zeroing_the_head_alone(model, optimizer, batches):
    for batch in batches:
        model.head.zero_grad()
        mean_loss(model, batch).backward()
        optimizer.step()


def zeroed_between_backward_and_step(model, optimizer, batches):
    for batch in batches:
        mean_loss(model, batch).backward()
        optimizer.zero_grad()
        optimizer.step()


def model_zeroed_before_step_in_place(model, optimizer, batches):
    for window in windows(batches, 3):
        for batch in window:
            share(model, batch, window).backward()
        model.zero_grad(set_to_none=False)
        optimizer.step()
        optimizer.zero_grad()


def zeroed_in_each_micro_batch(model, optimizer, batches):
    for window in windows(batches, 4):
        for batch in window:
            optimizer.zero_grad()
            share(model, batch, window).backward()
        optimizer.step()


def zeroed_in_place_in_each_micro_batch(model, optimizer, batches):
    for window in windows(batches, 2):
        for batch in window:
            loss = share(model, batch, window)
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
        optimizer.step()


def second_loss_after_zeroing(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        logits = model(batch[0])
        (pixel_loss(logits, batch) / batch[2].sum()).backward(retain_graph=True)
        optimizer.zero_grad()
        logits.square().mean().backward()
        optimizer.step()


def tail_left_at_the_end(model, optimizer, batches):
    for number, batch in enumerate(batches, start=1):
        first = (number - 1) // 4 * 4
        share(model, batch, batches[first : first + 4]).backward()
        if number % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


def tail_cleared_by_the_next_epoch(model, optimizer, batches):
    for _ in range(2):
        optimizer.zero_grad()
        for number, batch in enumerate(batches, start=1):
            first = (number - 1) // 3 * 3
            share(model, batch, batches[first : first + 3]).backward()
            if number % 3 == 0:
                optimizer.step()
                optimizer.zero_grad()


def step_before_backward(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        loss = mean_loss(model, batch)
        optimizer.step()
        loss.backward()


def step_before_backward_then_zeroed(model, optimizer, batches):
    for batch in batches:
        optimizer.step()
        optimizer.zero_grad()
        mean_loss(model, batch).backward()


def two_steps(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        optimizer.step()
        optimizer.step()


def stepped_in_the_window_and_after_it(model, optimizer, batches):
    for window in windows(batches, 2):
        for number, batch in enumerate(window):
            share(model, batch, window).backward()
            if number == len(window) - 1:
                optimizer.step()
        optimizer.step()
        optimizer.zero_grad()


def clipped_while_scaled(model, optimizer, batches):
    scaler = torch.amp.GradScaler("cpu")
    for batch in batches:
        optimizer.zero_grad()
        scaler.scale(mean_loss(model, batch)).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def clipped_by_hand_while_scaled(model, optimizer, batches):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for batch in batches:
        optimizer.zero_grad()
        scaler.scale(mean_loss(model, batch)).backward()
        norm = torch.stack([one.grad.norm() for one in model.parameters()]).norm()
        for one in model.parameters():
            one.grad.mul_(min(1.0, 0.5 / float(norm)))
        scaler.step(optimizer)
        scaler.update()


def clipped_before_dividing_by_a_scale_of_its_own(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        (mean_loss(model, batch) * 4096).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        for one in model.parameters():
            one.grad.div_(4096)
        optimizer.step()


def head_replaced_after_the_optimizer_was_made(model, optimizer, batches):
    model.head = nn.Conv2d(4, 3, 1)
    for batch in batches:
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        optimizer.step()


def optimizer_of_the_body_alone(model, optimizer, batches):
    of_the_body = torch.optim.SGD(model.body.parameters(), lr=0.01)
    for batch in batches:
        model.zero_grad()
        mean_loss(model, batch).backward()
        of_the_body.step()


def mean_of_means(model, optimizer, batches):
    for window in windows(batches, 4):
        for batch in window:
            (mean_loss(model, batch) / len(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


def mean_over_all_pixels_of_a_micro_batch(model, optimizer, batches):
    for window in windows(batches, 3):
        for images, targets, _ in window:
            (F.cross_entropy(model(images), targets) / len(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


def short_window_divided_by_the_full_number(model, optimizer, batches):
    for window in windows(batches, 4):
        for batch in window:
            (mean_loss(model, batch) / 4).backward()
        optimizer.step()
        optimizer.zero_grad()


def loss_divided_after_backward(model, optimizer, batches):
    for window in windows(batches, 2):
        for batch in window:
            loss = mean_loss(model, batch)
            loss.backward()
            loss = loss / len(window)
        optimizer.step()
        optimizer.zero_grad()


def mean_of_the_whole_epoch(model, optimizer, batches):
    for batch in batches:
        (mean_loss(model, batch) / len(batches)).backward()
    optimizer.step()


def mean_of_means_under_autocast(model, optimizer, batches):
    for window in windows(batches, 4):
        for batch in window:
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(batch[0])
            (pixel_loss(logits, batch) / batch[2].sum() / len(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


Told = tuple[str, int | None, tuple[int, ...]]
"""Code, step and passes; in a wrong scale those of the run with other batches."""

BROKEN: dict[Any, Told] = {
    without_zero_grad: ("never-zeroed", 2, (1,)),
    zeroed_once_an_epoch: ("never-zeroed", 2, (1, 2)),
    zeroing_the_head_alone: ("never-zeroed", 2, (1,)),
    zeroed_between_backward_and_step: ("zeroed-before-step", 1, (1,)),
    model_zeroed_before_step_in_place: ("zeroed-before-step", 1, (1, 2, 3)),
    zeroed_in_each_micro_batch: ("zeroed-each-pass", 1, (1, 2, 3)),
    zeroed_in_place_in_each_micro_batch: ("zeroed-each-pass", 1, (1,)),
    second_loss_after_zeroing: ("zeroed-each-pass", 1, (1,)),
    tail_left_at_the_end: ("dropped-passes", None, (9, 10, 11)),
    tail_cleared_by_the_next_epoch: ("dropped-passes", 4, (10, 11, 21, 22)),
    step_before_backward: ("stepped-before-backward", 1, tuple(range(1, 12))),
    step_before_backward_then_zeroed: ("stepped-before-backward", 1, (11,)),
    two_steps: ("stepped-twice", 2, (1,)),
    stepped_in_the_window_and_after_it: ("stepped-twice", 2, (1, 2)),
    clipped_while_scaled: ("clipped-before-unscale", 1, (1,)),
    clipped_by_hand_while_scaled: ("clipped-before-unscale", 1, (1,)),
    clipped_before_dividing_by_a_scale_of_its_own: ("clipped-before-unscale", 1, (1,)),
    head_replaced_after_the_optimizer_was_made: ("unheld-parameters", 1, tuple(range(1, 12))),
    optimizer_of_the_body_alone: ("unheld-parameters", 1, tuple(range(1, 12))),
    mean_of_means: ("wrong-scale", 3, (9, 10, 11, 12)),
    mean_over_all_pixels_of_a_micro_batch: ("wrong-scale", 3, (7, 8, 9)),
    short_window_divided_by_the_full_number: ("wrong-scale", 4, (13,)),
    loss_divided_after_backward: ("wrong-scale", 3, (5, 6)),
    mean_of_the_whole_epoch: ("wrong-scale", 1, tuple(range(1, 9))),
    mean_of_means_under_autocast: ("wrong-scale", 3, (9, 10, 11, 12)),
}
