from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from vnbench.loading.collate import Batch, blank_batch
from vnbench.trial.frameworks.feed import Feed, HandedPass
from vnbench.trial.instruments.timing import WallTimer

NO_UPDATES = torch.zeros(())


def batches(*sizes: int) -> Iterator[Batch]:
    return (blank_batch(size, height=32, width=32) for size in sizes)


def feed_of(train: Callable[[Feed], None], *, num_passes: int | None = None) -> Feed:
    return Feed(train, device=torch.device("cpu"), num_passes=num_passes)


@pytest.fixture
def seen() -> list[HandedPass]:
    return []


@pytest.fixture
def feed(seen: list[HandedPass]) -> Iterator[Feed]:
    def train(feed: Feed) -> None:
        for one in feed:
            seen.append(one)
            feed.add_loss(torch.tensor(float(len(seen))))
            if one.is_last:
                feed.end_step(NO_UPDATES)

    feed = feed_of(train)
    yield feed
    feed.close()


def test_passes_know_their_place_in_steps_of_different_lengths(feed: Feed, seen: list[HandedPass]) -> None:
    results, times, wall_time_s = feed.run_block(batches(2, 2, 1, 2), num_examples=[4, 1, 2], timer=WallTimer())
    assert [(one.is_first, one.is_last, one.num_examples) for one in seen] == [
        (True, False, 4),
        (False, True, 4),
        (True, True, 1),
        (True, True, 2),
    ]
    assert [float(result.loss) for result in results] == [1 + 2, 3, 4]
    assert len(times["step_time_s"]) == 3
    assert sum(times["step_time_s"]) <= wall_time_s


def test_blocks_follow_each_other_in_one_thread_and_functions_run_in_it(feed: Feed) -> None:
    threads: list[int] = []
    for _ in range(2):
        feed.run_block(batches(1), num_examples=[1], timer=WallTimer())
        feed.call(lambda: threads.append(threading.get_ident()))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_an_error_of_the_framework_is_raised_in_the_trial() -> None:
    def train(feed: Feed) -> None:
        next(iter(feed))
        raise ValueError("no such layer")

    with pytest.raises(ValueError, match="no such layer"):
        feed_of(train).run_block(batches(1), num_examples=[1], timer=WallTimer())


def test_an_error_of_the_loader_is_raised_in_the_trial() -> None:
    def broken() -> Iterator[Batch]:
        raise OSError("the file has changed")
        yield

    def train(feed: Feed) -> None:
        next(iter(feed))

    with pytest.raises(OSError, match="has changed"):
        feed_of(train).run_block(broken(), num_examples=[1], timer=WallTimer())


def test_a_framework_that_ends_too_early_is_an_error_and_not_a_wait_for_ever() -> None:
    with pytest.raises(RuntimeError, match="before the trial"):
        feed_of(lambda feed: None).run_block(batches(1), num_examples=[1], timer=WallTimer())


def test_a_framework_may_end_with_the_passes_that_it_was_told_of() -> None:
    def train(feed: Feed) -> None:
        assert len(feed) == 2
        for _ in range(len(feed)):
            next(iter(feed))
            feed.end_step(NO_UPDATES)

    results, *_ = feed_of(train, num_passes=2).run_block(batches(1, 1), num_examples=[1, 1], timer=WallTimer())
    assert len(results) == 2
