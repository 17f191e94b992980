from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vnbench.batching.alignment import align
from vnbench.batching.plan import MicroBatch
from vnbench.errors import CorpusError, LoaderError
from vnbench.images.corpus import Corpus
from vnbench.images.decoding.gray_files import read_gray
from vnbench.images.decoding.gray_png import encode_mask
from vnbench.images.decoding.mask_classes import MaskClasses
from vnbench.loading.collate import Batch, Example, collate
from vnbench.loading.decoded_cache import DecodedCache
from vnbench.loading.examples import RasterDataset
from vnbench.loading.loader import Loader, make_loader, naming_examples
from vnbench.loading.worker_watch import WorkerWatch
from vnbench.records.spec.words import WorkerKind

# Python 3.12 and later warn of every fork of a process that has threads, as one that computed with torch has.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

THREE = MaskClasses(num_classes=3)
WORKERS = [(0, "processes"), (2, "processes"), (3, "threads")]
MICRO_BATCHES = [(3, 1), (0,), (2, 9, 4, 5), (3,), (7, 7)]


def padded(corpus: Corpus, *micro_batches: tuple[int, ...]) -> list[MicroBatch]:
    """Return micro-batches on the smallest canvases."""
    canvases = (align(corpus.sizes_N2[list(examples)].max(axis=0)).tolist() for examples in micro_batches)
    return [
        MicroBatch(examples, (height, width)) for examples, (height, width) in zip(micro_batches, canvases, strict=True)
    ]


def load(corpus: Corpus, *, num_workers: int, worker_kind: WorkerKind = "processes", **options: Any) -> Loader:
    micro_batches = padded(corpus, *MICRO_BATCHES)
    return make_loader(
        corpus, micro_batches, num_workers=num_workers, pin_memory=True, worker_kind=worker_kind, **options
    )


@pytest.mark.parametrize("prefetch_factor", [1, 2, 9])
@pytest.mark.parametrize(("num_workers", "worker_kind"), WORKERS)
def test_batches_are_the_given_micro_batches_in_order(
    built: Corpus, num_workers: int, worker_kind: WorkerKind, prefetch_factor: int
) -> None:
    dataset = RasterDataset(built, classes=THREE)
    loader = load(built, num_workers=num_workers, worker_kind=worker_kind, prefetch_factor=prefetch_factor)
    batches = list(loader)
    assert len(loader) == len(batches) == len(MICRO_BATCHES)
    for batch, micro_batch in zip(batches, MICRO_BATCHES, strict=True):
        assert isinstance(batch, Batch)
        expected = collate([dataset[index] for index in micro_batch])
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(batch, expected, strict=True))
        assert batch.sizes_B2.tolist() == built.sizes_N2[list(micro_batch)].tolist()


def test_workers_collate_into_shared_memory(built: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(examples: Sequence[Example], *, canvas: tuple[int, int] | None, pin_memory: bool) -> list[bool]:
        return [tensor.is_shared() for tensor in collate(examples, canvas=canvas, pin_memory=pin_memory)[:2]]

    monkeypatch.setattr("vnbench.loading.examples.collate", report)
    assert list(make_loader(built, padded(built, (0, 1)), num_workers=1, pin_memory=False)) == [[True, True]]
    assert list(make_loader(built, padded(built, (0, 1)), num_workers=0, pin_memory=False)) == [[False, False]]


def test_workers_start_before_the_first_batch_is_asked_for(built: Corpus) -> None:
    batches = iter(load(built, num_workers=2))
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert multiprocessing.active_children() == []


def test_the_canvas_is_that_of_the_plan(built: Corpus) -> None:
    micro_batches = [MicroBatch((0,), (96, 256)), MicroBatch((1, 2), (96, 256))]
    loader = make_loader(built, micro_batches, num_workers=0, pin_memory=False)
    assert [tuple(batch.images_BHW.shape) for batch in loader] == [(1, 96, 256), (2, 96, 256)]


def test_loading_leaves_the_global_generator_alone(built: Corpus) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make_loader(built, padded(built, (0,)), num_workers=1, pin_memory=False))
    assert torch.equal(torch.get_rng_state(), before)


class Probe(RasterDataset):
    """Reports in place of pixels what a worker's threads and generators are like."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        state = [torch.get_num_threads(), random.getrandbits(8), np.random.randint(256), int(torch.randint(256, ()))]
        pixels_HW = np.array([state], dtype=np.uint8)
        return pixels_HW, pixels_HW


def test_workers_have_one_thread_and_seeds_of_their_own(built: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnbench.loading.loader.RasterDataset", Probe)

    def reports(seed: int) -> list[list[int]]:
        loader = make_loader(built, padded(built, (0,), (1,)), num_workers=2, pin_memory=False, seed=seed)
        return [batch.images_BHW[0, 0, :4].tolist() for batch in loader]

    first, second = reports(0)
    assert first[0] == second[0] == 1
    assert first[1:] != second[1:]
    assert reports(0) == [first, second]
    assert reports(1) != [first, second]


@pytest.mark.parametrize(("num_workers", "worker_kind"), WORKERS)
def test_broken_file_is_named_from_whatever_worker(corpus: Corpus, num_workers: int, worker_kind: WorkerKind) -> None:
    path = corpus.image_path(9)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorpusError) as caught:
        list(load(corpus, num_workers=num_workers, worker_kind=worker_kind))
    assert str(caught.value).splitlines()[-1].endswith(f"{path}: does not decode: image file is truncated")
    assert multiprocessing.active_children() == [], "no worker outlives the error"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_missing_mask_is_named_from_whatever_process(corpus: Corpus, num_workers: int) -> None:
    corpus.mask_path(5).unlink()
    with pytest.raises(CorpusError, match=r"masks/000005\.png: is missing"):
        list(load(corpus, num_workers=num_workers))


def test_class_that_the_task_does_not_know_is_refused(corpus: Corpus) -> None:
    height, width = corpus.sizes_N2[1].tolist()
    mask_HW = np.zeros((height, width), dtype=np.uint8)
    mask_HW[0, 0] = 3
    corpus.mask_path(1).write_bytes(encode_mask(mask_HW))
    with pytest.raises(
        CorpusError,
        match=r"masks/000001\.png: holds 0,3, of which 3 is not a class; classes are 0 to 2; write --classes 4",
    ):
        list(make_loader(corpus, padded(corpus, (1,)), num_workers=0, pin_memory=False))
    list(make_loader(corpus, padded(corpus, (1,)), num_workers=0, pin_memory=False, classes=MaskClasses(num_classes=4)))
    with pytest.raises(CorpusError, match="classes are 0 to 1"):
        list(
            make_loader(
                corpus, padded(corpus, (0,)), num_workers=0, pin_memory=False, classes=MaskClasses(num_classes=2)
            )
        )


def test_without_torchs_private_way_batches_are_the_same_and_only_slower(
    built: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [batch.images_BHW.clone() for batch in load(built, num_workers=1)]
    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", None, raising=False)
    found = [batch.images_BHW.clone() for batch in load(built, num_workers=1)]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize(("num_workers", "worker_kind"), WORKERS)
def test_a_cache_gives_the_same_batches_and_reads_each_file_once(
    corpus: Corpus, num_workers: int, worker_kind: WorkerKind
) -> None:
    cache = DecodedCache(corpus.sizes_N2, examples=range(10), limit_bytes=10**9)
    loader = load(corpus, num_workers=num_workers, worker_kind=worker_kind, cache=cache)
    first = [batch.images_BHW.clone() for batch in loader]
    assert cache.num_filled == len({index for examples in MICRO_BATCHES for index in examples})
    for index in range(10):
        corpus.image_path(index).unlink()
    assert all(torch.equal(batch.images_BHW, seen) for batch, seen in zip(loader, first, strict=True))


def test_what_remains_of_an_epoch_is_loaded_as_if_nothing_had_stopped(built: Corpus) -> None:
    whole = [batch.images_BHW.clone() for batch in load(built, num_workers=2)]
    rest = make_loader(built, padded(built, *MICRO_BATCHES)[3:], num_workers=2, pin_memory=False)
    assert all(torch.equal(batch.images_BHW, seen) for batch, seen in zip(rest, whole[3:], strict=True))


def fail_at(index: int, corpus: Corpus, failure: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever decodes an example fail in some way."""
    path = corpus.image_path(index)

    def read(asked: Path, *, expected_size: tuple[int, int]) -> Any:
        if asked == path:
            failure()
        return read_gray(asked, expected_size=expected_size)

    monkeypatch.setattr("vnbench.loading.examples.read_gray", read)


# torch tells of the death wherever it is heard: once in a thousand while a socket is open, which nobody closes then.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_dies_is_told_with_its_example(built: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(4, built, lambda: os.kill(os.getpid(), signal.SIGKILL), monkeypatch)
    watch = WorkerWatch(2)
    with (
        pytest.raises(LoaderError, match=r"DataLoader worker .*: at example 4 \(images/000004\.png\)$"),
        naming_examples(built, watch),
    ):
        list(load(built, num_workers=2, watch=watch))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("worker_kind", ["processes", "threads"])
def test_a_worker_that_hangs_is_told_with_its_example(
    built: Corpus, monkeypatch: pytest.MonkeyPatch, worker_kind: WorkerKind
) -> None:
    fail_at(4, built, lambda: time.sleep(600), monkeypatch)
    watch = WorkerWatch(2)
    with (
        pytest.raises(LoaderError, match=r"timed out after 5(\.0)? seconds: at example 4 \(images/000004\.png\)$"),
        naming_examples(built, watch),
    ):
        list(load(built, num_workers=2, worker_kind=worker_kind, watch=watch, timeout_s=5.0))
    for child in multiprocessing.active_children():
        child.join(60)  # torch before 2.13 ends a worker that hangs, and does not wait for it
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    "error", [EOFError(), ConnectionResetError("reset by peer"), FileNotFoundError(2, "no socket")]
)
def test_a_worker_that_dies_while_it_hands_over_a_batch_is_told_as_well(built: Corpus, error: Exception) -> None:
    watch = WorkerWatch(1)
    watch.at(4, worker=0).__enter__()
    with (
        pytest.raises(
            LoaderError, match=r"DataLoader worker .*handed over a batch: at example 4 \(images/000004\.png\)"
        ),
        naming_examples(built, watch),
    ):
        raise error


def test_other_errors_pass_as_they_are(built: Corpus) -> None:
    with pytest.raises(RuntimeError, match=r"^something else$"), naming_examples(built, WorkerWatch(1)):
        raise RuntimeError("something else")


def test_threads_end_when_their_batches_are_let_go_of(built: Corpus) -> None:
    before = set(threading.enumerate())
    batches = iter(load(built, num_workers=3, worker_kind="threads"))
    next(batches)
    assert len(set(threading.enumerate()) - before) == 3
    del batches
    deadline = time.monotonic() + 60
    while set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, "a thread outlives its loader"
        time.sleep(0.01)


def test_dataset_is_small_to_pickle(built: Corpus) -> None:
    dataset = RasterDataset(built, classes=THREE)
    assert len(dataset) == len(built)
    assert len(pickle.dumps(dataset)) < 4000


@pytest.mark.gpu
@pytest.mark.parametrize(("num_workers", "worker_kind"), WORKERS)
def test_batches_are_pinned_where_cuda_is_there(built: Corpus, num_workers: int, worker_kind: WorkerKind) -> None:
    for batch in load(built, num_workers=num_workers, worker_kind=worker_kind):
        assert isinstance(batch, Batch)
        assert all(tensor.is_pinned() for tensor in batch)
