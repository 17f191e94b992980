"""The loader of a trial: decodes and collates given micro-batches, in workers or in its own process."""

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
"""Silence after which a worker is taken to hang: a batch of the largest images takes it a second or two."""

WORKER_FAILURES = ("DataLoader worker (pid", "DataLoader timed out")
"""How torch's messages begin that tell of a worker's death or silence."""


SEVERED = (EOFError, ConnectionError, FileNotFoundError)
"""What asking for the memory of a batch raises whose worker has died: it is handed over by a socket of the worker."""


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
    """Return a loader that yields the batches of the given micro-batches, in their order, once per iteration.

    ``classes`` tell what the numbers in masks mean; where they are None the corpus's task does, and a corpus without a
    task goes unchecked. ``cache`` keeps decoded pixels; ``watch`` tells afterwards which example a worker was at.

    A CorpusError of a worker process is raised in this process as a CorpusError whose message is the worker's
    traceback: its last line names the file. Otherwise it comes as it is.
    """
    if classes is None and corpus.task is not None:
        classes = MaskClasses(num_classes=NUM_CLASSES[corpus.task])
    examples = RasterDataset(corpus, classes=classes, cache=cache, watch=watch)
    # Without CUDA torch pins nothing, and warns.
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
        # The dataset makes whole batches: torch's own batching knows no canvas.
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
    """Return a loader of a dataset of whole batches, in worker processes or, with 0 of them, in this one."""
    return RasterLoader(
        dataset,
        batch_size=None,
        sampler=micro_batches,
        num_workers=num_workers,
        # Forked workers start in milliseconds; spawned ones would each import torch first, 1.4 s and 200 MB. It is safe
        # here although the process may hold a CUDA context: a worker touches neither CUDA nor a thread pool.
        multiprocessing_context="fork" if num_workers else None,
        prefetch_factor=prefetch_factor if num_workers else None,
        timeout=timeout_s if num_workers else 0,
        worker_init_fn=_init_worker,
        pin_memory=pin_memory,
        # Seeds of the workers are drawn from this one, and not from the global generator of the trial, whose state
        # would depend on the number of loaders made before.
        generator=torch.Generator().manual_seed(seed),
    )


@contextmanager
def naming_examples(corpus: Corpus, watch: WorkerWatch) -> Iterator[None]:
    """Turn torch's word of a worker's death or silence into one that names the examples which it was at.

    torch may raise it anywhere in this process, not only where a batch is waited for.

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
        # The death that is told may be that of another worker, which torch ended because of the first one.
        found = watch.examples_of(message) or watch.examples_of("")
        at = [f"example {index} ({corpus.image_files[index]})" for index in found]
        told = f"at {' and '.join(at)}" if at else "between two examples"
        raise LoaderError(f"{message.strip().rstrip('.')}: {told}") from error


def _release_on_error(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield what ``batches`` yields, and let go of it before an exception of its goes on."""
    try:
        yield from batches
    except Exception as error:
        # The exception is a local of a frame of its own traceback (torch 2.13). That cycle would keep the iterator
        # until the garbage collector comes, which then waits 5 s for each worker.
        traceback.clear_frames(error.__traceback__)
        end_workers = getattr(batches, "_shutdown_workers", None)
        if end_workers is not None:
            # torch's signal handler tells of a worker's death wherever it is heard, so perhaps here, once more.
            with suppress(RuntimeError):
                end_workers()
        del batches
        raise


def _init_worker(worker_id: int) -> None:
    """Leave a forked worker one thread: OpenMP's pool does not survive a fork, and a parallel region would wait for it.

    torch does the same today, but does not promise it. It also seeds Python, numpy and torch in each worker.
    """
    torch.set_num_threads(1)
