"""Training loops that are right, each in a way that loops are written in: an audit must find nothing in them."""

from __future__ import annotations

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from small_loop import mean_loss, pixel_loss, share, windows
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, get_total_norm, parameters_to_vector
from torch.utils.checkpoint import checkpoint


def plain(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        optimizer.step()


def stepped_then_zeroed(model, optimizer, batches):
    for batch in batches:
        mean_loss(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()


def zeroed_between_forward_and_backward(model, optimizer, batches):
    for batch in batches:
        loss = mean_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def zeroed_in_place(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad(set_to_none=False)
        mean_loss(model, batch).backward()
        optimizer.step()


def gradients_set_to_none_by_hand(model, optimizer, batches):
    for batch in batches:
        for parameter in model.parameters():
            parameter.grad = None
        mean_loss(model, batch).backward()
        optimizer.step()


def plain_mean_without_a_mask(model, optimizer, batches):
    criterion = nn.CrossEntropyLoss()
    for images, targets, _ in batches:
        optimizer.zero_grad()
        criterion(model(images), targets).backward()
        optimizer.step()


def accumulated_over_valid_pixels(model, optimizer, batches):
    for window in windows(batches, 4):
        for batch in window:
            share(model, batch, window).backward()
        optimizer.step()
        optimizer.zero_grad()


def accumulated_over_examples(model, optimizer, batches):
    for window in windows(batches, 3):
        num_examples = sum(len(images) for images, _, _ in window)
        for images, targets, valid in window:
            losses = F.cross_entropy(model(images), targets, reduction="none") * valid
            (losses.sum(dim=(1, 2)) / valid.sum(dim=(1, 2))).sum().div(num_examples).backward()
        optimizer.step()
        optimizer.zero_grad()


def sums_accumulated_and_gradients_divided(model, optimizer, batches):
    for window in windows(batches, 2):
        for batch in window:
            pixel_loss(model(batch[0]), batch).backward()
        num_pixels = sum(valid.sum() for _, _, valid in window)
        for parameter in model.parameters():
            parameter.grad /= num_pixels
        optimizer.step()
        optimizer.zero_grad()


def window_carried_over_the_end_of_an_epoch(model, optimizer, batches):
    seen = []
    for batch in itertools.chain(batches, batches[:1]):
        seen.append(batch)
        if len(seen) == 3:
            for one in seen:
                share(model, one, seen).backward()
            optimizer.step()
            optimizer.zero_grad()
            seen = []


def incomplete_window_left_out(model, optimizer, batches):
    for window in windows(batches[: len(batches) // 4 * 4], 4):
        for batch in window:
            share(model, batch, window).backward()
        optimizer.step()
        optimizer.zero_grad()


def one_window_for_the_whole_epoch(model, optimizer, batches):
    for batch in batches:
        share(model, batch, batches).backward()
    optimizer.step()
    optimizer.zero_grad()


def long_windows_of_sixteen(model, optimizer, batches):
    for window in windows(batches, 16):
        for batch in window:
            share(model, batch, window).backward()
        optimizer.step()
        optimizer.zero_grad()


def clipped_by_norm(model, optimizer, batches):
    for window in windows(batches, 2):
        for batch in window:
            share(model, batch, window).backward()
        clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
        optimizer.zero_grad()


def clipped_by_value(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        clip_grad_value_(model.parameters(), 1e-3)
        optimizer.step()


def clipped_by_hand(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        norm = get_total_norm([one.grad for one in model.parameters()])
        for parameter in model.parameters():
            parameter.grad.mul_(min(1.0, 1e-3 / float(norm)))
        optimizer.step()


def scaled_and_clipped_after_unscaling(model, optimizer, batches):
    scaler = torch.amp.GradScaler("cpu")
    for window in windows(batches, 2):
        for batch in window:
            scaler.scale(share(model, batch, window)).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), 1e-2)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


def scaled_in_fp16(model, optimizer, batches):
    scaler = torch.amp.GradScaler("cpu")
    for batch in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            logits = model(batch[0])
        scaler.scale(pixel_loss(logits, batch) / batch[2].sum()).backward()
        scaler.step(optimizer)
        scaler.update()


def overflowing_scale_that_skips_steps(model, optimizer, batches):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-60)
    for window in windows(batches, 2):
        for batch in window:
            scaler.scale(1e3 * share(model, batch, window)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


def scaler_that_is_switched_off(model, optimizer, batches):
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for batch in batches:
        optimizer.zero_grad()
        scaler.scale(mean_loss(model, batch)).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), 1e-2)
        scaler.step(optimizer)
        scaler.update()


def accumulated_in_bf16(model, optimizer, batches):
    for window in windows(batches, 4):
        for batch in window:
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(batch[0])
            (pixel_loss(logits, batch) / sum(valid.sum() for _, _, valid in window)).backward()
        optimizer.step()
        optimizer.zero_grad()


def with_a_schedule_and_warm_up(model, optimizer, batches):
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], milestones=[4])
    for batch in batches:
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        optimizer.step()
        schedule.step()


def several_groups_of_parameters(model, optimizer, batches):
    groups = [{"params": model.body.parameters(), "lr": 1e-4}, {"params": model.head.parameters()}]
    of_groups = torch.optim.SGD(groups, lr=1e-2, momentum=0.9, nesterov=True, weight_decay=1e-4)
    for window in windows(batches, 2):
        for batch in window:
            share(model, batch, window).backward()
        of_groups.step()
        of_groups.zero_grad()


def two_optimizers_for_one_loss(model, optimizer, batches):
    both = (torch.optim.AdamW(model.body.parameters()), torch.optim.SGD(model.head.parameters(), lr=1e-2))
    for batch in batches:
        for one in both:
            one.zero_grad()
        mean_loss(model, batch).backward()
        for one in both:
            one.step()


def adversary_and_network_in_turn(model, optimizer, batches):
    adversary = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    of_adversary = torch.optim.Adam(adversary.parameters())
    for batch in batches:
        logits = model(batch[0])
        truth = F.one_hot(batch[1], 3).movedim(-1, 1).float()
        adversary.zero_grad()
        F.softplus(-adversary(truth)).mean().backward()
        F.softplus(adversary(logits.softmax(1).detach())).mean().backward()
        of_adversary.step()
        optimizer.zero_grad()
        (pixel_loss(logits, batch) / batch[2].sum() + F.softplus(-adversary(logits.softmax(1))).mean()).backward()
        optimizer.step()


def frozen_body(model, optimizer, batches):
    model.body.requires_grad_(False)
    of_the_head = torch.optim.Adam(one for one in model.parameters() if one.requires_grad)
    for batch in batches:
        of_the_head.zero_grad()
        mean_loss(model, batch).backward()
        of_the_head.step()


def body_thawed_later(model, optimizer, batches):
    model.body.requires_grad_(False)
    for number, batch in enumerate(batches):
        if number == 4:
            model.body.requires_grad_(True)
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        optimizer.step()


def moving_average_of_the_weights(model, optimizer, batches):
    average = copy.deepcopy(model).requires_grad_(False)
    for batch in batches:
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        optimizer.step()
        with torch.no_grad():
            for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(parameter, 0.1)


def taught_by_a_moving_average(model, optimizer, batches):
    teacher = torch.optim.swa_utils.AveragedModel(model)
    for batch in batches:
        with torch.no_grad():
            target = teacher(batch[0]).softmax(1)
        optimizer.zero_grad()
        logits = model(batch[0])
        (pixel_loss(logits, batch) / batch[2].sum() + F.mse_loss(logits.softmax(1), target)).backward()
        optimizer.step()
        teacher.update_parameters(model)


def closure_of_lbfgs(model, optimizer, batches):
    of_closures = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    for batch in batches:

        def closure(batch=batch):
            of_closures.zero_grad()
            loss = mean_loss(model, batch)
            loss.backward()
            return loss

        of_closures.step(closure)


def closure_of_a_plain_optimizer(model, optimizer, batches):
    for batch in batches:

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = mean_loss(model, batch)
            loss.backward()
            return loss

        optimizer.step(closure)


def window_whose_last_pass_runs_in_a_closure(model, optimizer, batches):
    for window in windows(batches, 2):
        for batch in window[:-1]:
            share(model, batch, window).backward()

        def closure(window=window):
            loss = share(model, window[-1], window)
            loss.backward()
            return loss

        optimizer.step(closure)
        optimizer.zero_grad()


def penalty_on_the_gradient_of_the_images(model, optimizer, batches):
    for batch in batches:
        images = batch[0].requires_grad_(True)
        loss = pixel_loss(model(images), batch) / batch[2].sum()
        (slope,) = torch.autograd.grad(loss, images, create_graph=True)
        optimizer.zero_grad()
        (loss + slope.square().sum()).backward()
        optimizer.step()


def penalty_on_the_gradient_of_the_weights(model, optimizer, batches):
    parameters = list(model.parameters())
    for batch in batches:
        optimizer.zero_grad()
        loss = mean_loss(model, batch)
        slopes = torch.autograd.grad(loss, parameters, create_graph=True)
        (loss + 0.01 * sum(one.square().sum() for one in slopes)).backward()
        optimizer.step()


def recomputed_with_reentrant_checkpoints(model, optimizer, batches):
    for window in windows(batches, 2):
        num_pixels = sum(valid.sum() for _, _, valid in window)
        for batch in window:
            features = checkpoint(model.body, batch[0].requires_grad_(True), use_reentrant=True)
            logits = checkpoint(model.head, features, use_reentrant=True)
            (pixel_loss(logits, batch) / num_pixels).backward()
        optimizer.step()
        optimizer.zero_grad()


def recomputed_with_checkpoints(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        logits = model.head(checkpoint(model.body, batch[0], use_reentrant=False))
        (pixel_loss(logits, batch) / batch[2].sum()).backward()
        optimizer.step()


def two_losses_with_a_backward_pass_each(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        logits = model(batch[0])
        (pixel_loss(logits, batch) / batch[2].sum()).backward(retain_graph=True)
        (1e-3 * logits.square().mean()).backward()
        optimizer.step()


def penalty_on_the_weights_divided_among_passes(model, optimizer, batches):
    for window in windows(batches, 4):
        for batch in window:
            penalty = 1e-3 * parameters_to_vector(model.parameters()).square().sum()
            (share(model, batch, window) + penalty / len(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


def validated_in_between(model, optimizer, batches):
    for number, batch in enumerate(batches):
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        optimizer.step()
        if number % 4 == 3:
            model.eval()
            with torch.no_grad():
                mean_loss(model, batches[0])
            model.train()


def batches_without_a_finite_loss_left_out(model, optimizer, batches):
    for number, batch in enumerate(batches):
        optimizer.zero_grad()
        loss = mean_loss(model, batch) * (math.nan if number == 3 else 1.0)
        if not torch.isfinite(loss):
            continue
        loss.backward()
        optimizer.step()


def sharpness_aware(model, optimizer, batches):
    for batch in batches:
        mean_loss(model, batch).backward()
        moves = [0.05 * one.grad / (one.grad.norm() + 1e-12) for one in model.parameters()]
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter.add_(move)
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        with torch.no_grad():
            for parameter, move in zip(model.parameters(), moves, strict=True):
                parameter.sub_(move)
        optimizer.step()
        optimizer.zero_grad()


def stepped_within_the_backward_pass(model, optimizer, batches):
    optimizers = {one: torch.optim.SGD([one], lr=1e-2) for one in model.parameters()}

    def step(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    for batch in batches:
        mean_loss(model, batch).backward()


def gradients_with_noise(model, optimizer, batches):
    for window in windows(batches, 2):
        for batch in window:
            share(model, batch, window).backward()
        for parameter in model.parameters():
            parameter.grad.add_(1e-3 * torch.randn_like(parameter.grad))
        optimizer.step()
        optimizer.zero_grad()


def images_flipped_at_random(model, optimizer, batches):
    for window in windows(batches, 2):
        num_pixels = sum(valid.sum() for _, _, valid in window)
        for batch in window:
            images, targets, valid = (part.flip(-1) if torch.rand(()) < 0.5 else part for part in batch)
            (pixel_loss(model(images), (images, targets, valid)) / num_pixels).backward()
        optimizer.step()
        optimizer.zero_grad()


def batches_in_random_order(model, optimizer, batches):
    order = torch.randperm(len(batches)).tolist()
    for window in windows([batches[number] for number in order], 2):
        for batch in window:
            share(model, batch, window).backward()
        optimizer.step()
        optimizer.zero_grad()


def batches_of_padding_alone(model, optimizer, batches):
    for number, batch in enumerate(batches):
        optimizer.zero_grad()
        (pixel_loss(model(batch[0]), batch) * (number % 3 > 0)).backward()
        optimizer.step()


def batches_of_padding_alone_zeroed_in_place(model, optimizer, batches):
    for window in windows(batches, 2):
        for number, batch in enumerate(window):
            (share(model, batch, window) * (number > 0)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def accumulated_with_weights_in_bf16(model, optimizer, batches):
    model.bfloat16()
    for window in windows(batches, 4):
        num_pixels = sum(valid.sum() for _, _, valid in window)
        for batch in window:
            (pixel_loss(model(batch[0].bfloat16()), batch) / num_pixels).backward()
        optimizer.step()
        optimizer.zero_grad()


def yielding_after_each_step(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        mean_loss(model, batch).backward()
        optimizer.step()
        yield


CORRECT = [one for one in list(globals().values()) if callable(one) and getattr(one, "__module__", None) == __name__]
