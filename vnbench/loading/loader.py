"""The loader of a trial, which decodes and collates given micro-batches in workers or in its own process."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeAlias

import torch
from torch.utils.data import DataLoader, Dataset

from vnbench.batching.plan import MicroBatch
from vnbench.errors import LoaderError
from vnbench.images.corpus import Corpus
from vnbench.images.decoding.mask_classes import MaskClasses
from vnbench.loading.collate import Batch
from vnbench.loading.decoded_cache import DecodedCache
from vnbench.loading.examples import MicroBatchDataset, RasterDataset
from vnbench.loading.thread_loader import ThreadLoader
from vnbench.loading.worker_watch import WorkerWatch
from vnbench.records.spec.words import DEFAULT_PREFETCH_FACTOR, NUM_CLASSES, WorkerKind

WORKER_TIMEOUT_S = 120.0
"""Silence after which a worker counts as hanging: a batch of the largest images takes a second or two."""

WORKER_FAILURES = ("DataLoader worker (pid", "DataLoader timed out")
"""Start of torch's messages about a worker's death or silence."""


SEVERED = (EOFError, ConnectionError, FileNotFoundError)
"""Errors on receiving a batch whose worker has died: a socket of the worker hands over its memory."""


class RasterLoader(DataLoader[Batch]):
    """A DataLoader that yields ``Batch`` and ends its workers at once when one of them fails."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch promises its own iterator class
        """Start the workers; return the batches of one pass."""
        return _release_on_error(super().__iter__())


Loader: TypeAlias = RasterLoader | ThreadLoader
"""Yields the batches of its micro-batches in their order, once per iteration."""


def make_loader(
    corpus: Corpus,
    micro_batches: Sequence[MicroBatch],
    *,
    num_workers: int,
    pin_memory: bool,
    classes: MaskClasses | None = None,
    worker_kind: WorkerKind = "processes",
    prefetch_factor: int = DEFAULT_PREFETCH_FACTOR,
    timeout_s: float = WORKER_TIMEOUT_S,
    cache: DecodedCache | None = None,
    watch: WorkerWatch | None = None,
    seed: int = 0,
) -> Loader:
    """Return a loader that yields the given micro-batches as tensors, in order, once per iteration.

    ``classes`` says what the numbers in masks mean. If it is None, the corpus's task decides; without a task, masks are
    not checked. ``cache`` stores decoded pixels; ``watch`` notes which example each worker is at.

    A CorpusError in a worker process is raised here as a CorpusError whose message is the worker's traceback, with the
    file in its last line. In a thread or in this process it is raised unchanged.
    """
    if classes is None and corpus.task is not None:
        classes = MaskClasses(num_classes=NUM_CLASSES[corpus.task])
    examples = RasterDataset(corpus, classes=classes, cache=cache, watch=watch)
    # Without CUDA, torch only warns and pins nothing.
    pin_memory = pin_memory and torch.cuda.is_available()
    if num_workers and worker_kind == "threads":
        return ThreadLoader(
            MicroBatchDataset(examples, pin_memory=pin_memory),
            micro_batches,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            timeout_s=timeout_s,
        )
    return process_loader(
        # The dataset makes whole batches, because torch's batching has no canvas.
        MicroBatchDataset(examples),
        micro_batches,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch_factor=prefetch_factor,
        timeout_s=timeout_s,
        seed=seed,
    )


def process_loader(
    dataset: Dataset[Batch],
    micro_batches: Sequence[MicroBatch],
    *,
    num_workers: int,
    pin_memory: bool,
    prefetch_factor: int,
    timeout_s: float,
    seed: int,
) -> RasterLoader:
    """Return a loader for a dataset of whole batches, in ``num_workers`` worker processes or, if 0, in this one."""
    return RasterLoader(
        dataset,
        batch_size=None,
        sampler=micro_batches,
        num_workers=num_workers,
        # Forked workers start in milliseconds; spawned ones would import torch first (1.4 s and 200 MB each). Forking
        # is safe here even with a CUDA context: a worker uses neither CUDA nor a thread pool.
        multiprocessing_context="fork" if num_workers else None,
        prefetch_factor=prefetch_factor if num_workers else None,
        timeout=timeout_s if num_workers else 0,
        worker_init_fn=_init_worker,
        pin_memory=pin_memory,
        # Workers get their seeds from this generator: the state of the trial's global generator would depend on the
        # number of loaders made before.
        generator=torch.Generator().manual_seed(seed),
    )


@contextmanager
def naming_examples(corpus: Corpus, watch: WorkerWatch) -> Iterator[None]:
    """Turn torch's error about a worker's death or silence into one that names the examples in progress.

    torch may raise its error anywhere in this process, not only while it waits for a batch.

    Raises:
        LoaderError: a worker died or hangs.
    """
    try:
        yield
    except (RuntimeError, LoaderError, *SEVERED) as error:
        message = str(error)
        if isinstance(error, SEVERED):
            message = f"{WORKER_FAILURES[0]} unknown) ended while it handed over a batch"
        if not any(start in message for start in WORKER_FAILURES):
            raise
        # The message may name another worker, which torch ended because of the first death.
        found = watch.examples_of(message) or watch.examples_of("")
        at = [f"example {index} ({corpus.image_files[index]})" for index in found]
        told = f"at {' and '.join(at)}" if at else "between two examples"
        raise LoaderError(f"{message.strip().rstrip('.')}: {told}") from error


def _release_on_error(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield from ``batches``; if it raises an exception, end its workers and release it first."""
    try:
        yield from batches
    except Exception as error:
        # The exception is a local variable in a frame of its own traceback (torch 2.13). That cycle would keep the
        # iterator alive until garbage collection, which then waits 5 s for each worker.
        traceback.clear_frames(error.__traceback__)
        end_workers = getattr(batches, "_shutdown_workers", None)
        if end_workers is not None:
            # torch's signal handler may report a worker's death again here.
            with suppress(RuntimeError):
                end_workers()
        del batches
        raise


def _init_worker(worker_id: int) -> None:
    """Limit a forked worker to one thread: OpenMP's pool does not survive a fork, and a parallel region would hang.

    torch does this, too, but does not promise it. torch also seeds Python, numpy and torch in each worker.
    """
    torch.set_num_threads(1)
