from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_loop import SmallNetwork, mean_loss, share
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vnbench.errors import InputError
from vnbench.loops.audit import watch
from vnbench.loops.examples import Batch, draw_batch


def batches(number: int) -> Iterator[Batch]:
    for one in range(number):
        yield draw_batch((2 * one, 2 * one + 1), num_classes=3, seed=0)


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = SmallNetwork()
    return model, torch.optim.SGD(model.parameters(), lr=0.01)


def test_a_watched_loop_tells_what_flows_into_its_steps() -> None:
    model, optimizer = made()
    with watch(optimizer) as watched:
        for first, second in zip(*[batches(6)] * 2, strict=True):
            for one in (first, second):
                share(model, one, (first, second)).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert watched.findings == ()
    assert watched.contributions == ((1, 1, 0, 0, 0, 0), (0, 0, 1, 1, 0, 0), (0, 0, 0, 0, 1, 1))


def test_a_watched_loop_tells_what_is_wrong() -> None:
    model, optimizer = made()
    with watch(optimizer) as watched:
        for batch in batches(3):
            mean_loss(model, batch).backward()
            optimizer.step()
    (finding,) = watched.findings
    assert (finding.code, finding.step, finding.passes) == ("never-zeroed", 2, (1,))
    assert finding.line().startswith("step 2, pass 1: never-zeroed: ")
    assert watched.contributions[2] == (1, 1, 1)


def test_only_so_many_steps_are_watched_and_what_is_pending_then_is_not_lost() -> None:
    model, optimizer = made()
    with watch(optimizer, steps=2) as watched:
        for number, batch in enumerate(batches(9)):
            mean_loss(model, batch).backward()
            if number % 2 == 1:
                optimizer.step()
                optimizer.zero_grad()
    assert (watched.num_steps, len(watched.history.passes)) == (2, 4)
    assert watched.findings == ()


def test_nothing_of_a_watched_loop_is_changed_and_no_hook_stays() -> None:
    ends = []
    for is_watched in (False, True):
        torch.manual_seed(0)
        model, optimizer = made()
        with watch(optimizer) if is_watched else torch.enable_grad():
            for batch in batches(3):
                optimizer.zero_grad()
                mean_loss(model, batch).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
        ends.append(torch.cat([one.detach().flatten() for one in model.parameters()]))
    assert torch.equal(*ends)
    assert not any(one._backward_hooks or one._post_accumulate_grad_hooks for one in model.parameters())


def test_an_error_of_the_loop_passes_through_and_what_it_left_undone_is_no_finding() -> None:
    model, optimizer = made()
    first, second = batches(2)
    watched = watch(optimizer)

    def fail() -> None:
        with watched:
            mean_loss(model, first).backward()
            optimizer.step()
            optimizer.zero_grad()
            mean_loss(model, second).backward()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert watched.findings == ()


def test_an_optimizer_that_steps_later_than_the_watch_lasts_holds_its_parameters() -> None:
    model, _ = made()
    often = torch.optim.SGD(model.body.parameters(), lr=0.01)
    seldom = torch.optim.SGD(model.head.parameters(), lr=0.01)
    with watch(often, steps=3) as watched:
        for number, batch in enumerate(batches(6)):
            often.zero_grad()
            mean_loss(model, batch).backward()
            often.step()
            if number == 5:
                seldom.step()
    assert watched.findings == ()


@pytest.mark.parametrize(
    ("optimizers", "steps", "told"),
    [
        ((), 20, "watch: it needs an optimizer; write watch(optimizer)"),
        ((SmallNetwork(),), 20, "watch SmallNetwork: this is no torch.optim.Optimizer; write watch(optimizer)"),
        ((made()[1],), 0, "watch steps=0: it needs a step; write steps=20"),
    ],
)
def test_what_cannot_be_watched_is_refused(optimizers: tuple[Any, ...], steps: int, told: str) -> None:
    with pytest.raises(InputError) as caught:
        watch(*optimizers, steps=steps)
    assert str(caught.value) == told


def test_a_watch_without_a_step_is_refused_at_its_end() -> None:
    model, optimizer = made()
    with pytest.raises(InputError, match="no optimizer stepped while it watched"), watch(optimizer):
        mean_loss(model, next(batches(1))).backward()


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize(("called", "code"), [("wrapper", None), ("module", "no-gradient-exchange")])
def test_a_module_that_is_called_instead_of_its_wrapper_exchanges_no_gradients(called: str, code: str | None) -> None:
    model, _ = made()
    wrapper = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(wrapper.parameters(), lr=0.01)
    with watch(optimizer) as watched:
        for batch in batches(3):
            optimizer.zero_grad()
            mean_loss(wrapper if called == "wrapper" else model, batch).backward()
            optimizer.step()
    assert [(one.code, one.step, one.passes) for one in watched.findings] == ([(code, 1, (1,))] if code else [])


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("is_last_exchanged", [True, False])
def test_passes_without_exchange_are_right_if_the_last_of_a_window_exchanges(is_last_exchanged: bool) -> None:
    model, _ = made()
    wrapper = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(wrapper.parameters(), lr=0.01)
    with watch(optimizer) as watched:
        for window in zip(*[batches(4)] * 2, strict=True):
            with wrapper.no_sync():
                share(wrapper, window[0], window).backward()
            if is_last_exchanged:
                share(wrapper, window[1], window).backward()
            else:
                with wrapper.no_sync():
                    share(wrapper, window[1], window).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert [one.code for one in watched.findings] == ([] if is_last_exchanged else ["no-gradient-exchange"])
