"""The loader that a trial's spec asks for, with its cache and worker notes."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from vnbench.batching.plan import MicroBatch
from vnbench.batching.transport import bytes_in_flight
from vnbench.errors import LoaderError
from vnbench.images.corpus import Corpus
from vnbench.images.decoding.mask_classes import MaskClasses
from vnbench.loading.collate import Batch
from vnbench.loading.decoded_cache import DecodedCache
from vnbench.loading.loader import Loader, make_loader, naming_examples
from vnbench.loading.worker_watch import WorkerWatch
from vnbench.records.spec.trial_spec import ImagesSpec
from vnbench.records.task import TrialTask
from vnbench.units import count, format_bytes

SHARED_MEMORY = "/dev/shm"
"""Mount point of the shared memory that holds the batches of worker processes."""

OPEN_FILES = "/proc/self/fd"
"""Directory with one entry for each file that this process has open."""

FILES_PER_WORKER = 5
"""Files per worker: pipes and the sentinel of its process."""

FILES_BESIDE = 8
"""Spare files for images and for torch; with 1 to 4 workers and 2 to 24 batches prefetched, none were needed."""


class Loading:
    """Makes the loaders of one trial; they share a cache."""

    def __init__(self, task: TrialTask[ImagesSpec], corpus: Corpus, chosen: NDArray[np.int64]) -> None:
        """``chosen`` holds the examples that the trial measures, as indices into the corpus.

        Raises:
            LoaderError: there is no room for the cache.
        """
        spec = task.spec
        self._spec = spec
        self._corpus = corpus
        self._num_workers = spec.num_workers
        self._timeout_s = task.worker_timeout_s
        self._watch = WorkerWatch(spec.num_workers)
        self.cache: DecodedCache | None = None
        if spec.cache_limit_bytes is not None:
            self.cache = DecodedCache(
                corpus.sizes_N2,
                examples=sorted(chosen.tolist()),
                limit_bytes=spec.cache_limit_bytes,
                folder=corpus.directory if spec.cache == "disk" else None,
            )

    @property
    def uses_processes(self) -> bool:
        """Whether batches come from worker processes."""
        return self._num_workers > 0 and self._spec.worker_kind == "processes"

    @property
    def num_ahead(self) -> int:
        """Number of batches that workers prefetch."""
        return self._num_workers * self._spec.prefetch_factor

    def loader(self, micro_batches: Sequence[MicroBatch], *, pin_memory: bool) -> Loader:
        """Return a loader for these micro-batches.

        Raises:
            LoaderError: /dev/shm has too little room for the prefetched batches, or the process may not open enough
                files.
        """
        if self.uses_processes:
            check_shared_memory(
                micro_batches, num_workers=self._num_workers, prefetch_factor=self._spec.prefetch_factor
            )
            allow_open_files(num_workers=self._num_workers, prefetch_factor=self._spec.prefetch_factor)
        return make_loader(
            self._corpus,
            micro_batches,
            num_workers=self._num_workers,
            pin_memory=pin_memory and self._spec.pin_memory == "on",
            classes=MaskClasses.of(self._spec),
            worker_kind=self._spec.worker_kind,
            prefetch_factor=self._spec.prefetch_factor,
            timeout_s=self._timeout_s,
            cache=self.cache,
            watch=self._watch,
        )

    def epochs(self, *epochs: Sequence[MicroBatch], pin_memory: bool) -> Iterator[Batch]:
        """Return the batches of several epochs in turn; unless workers persist, each epoch starts new ones."""
        if self._spec.persistent_workers == "on":
            return iter(self.loader([one for epoch in epochs for one in epoch], pin_memory=pin_memory))
        return (batch for epoch in epochs for batch in self.loader(epoch, pin_memory=pin_memory))

    def naming_examples(self) -> AbstractContextManager[None]:
        """Return a context that adds the example in progress to errors about a worker's death or silence."""
        return naming_examples(self._corpus, self._watch)


def check_shared_memory(micro_batches: Sequence[MicroBatch], *, num_workers: int, prefetch_factor: int) -> None:
    """Refuse to start workers if /dev/shm has no room for their queues or batches; they would die of a bus error.

    Raises:
        LoaderError: /dev/shm is too small, missing or not accessible.
    """
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as error:
        raise LoaderError(
            f"{SHARED_MEMORY} has no room for the queues of worker processes ({error.strerror}); "
            "write --num-workers 0 or --worker-kind threads, or mount it"
        ) from error
    padded_pixels_M = np.array([one.padded_pixels for one in micro_batches], dtype=np.int64)
    needed = bytes_in_flight(padded_pixels_M, num_workers=num_workers, prefetch_factor=prefetch_factor)
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return
    free = status.f_frsize * status.f_bavail
    if needed > free:
        raise LoaderError(
            f"{SHARED_MEMORY} has {format_bytes(free)} free, but {format_bytes(needed)} are needed by "
            f"{count(num_workers, 'worker')}; write fewer --num-workers, a smaller --prefetch-factor or --worker-kind "
            "threads, or enlarge it (docker run --shm-size)"
        )


def allow_open_files(*, num_workers: int, prefetch_factor: int) -> None:
    """Raise the limit of open files to what worker processes need: one file for each tensor of a batch.

    Beyond the limit, a worker seems to hang or to have died, or the exchange blocks forever.

    Raises:
        LoaderError: the hard limit is too low. Without /proc nothing is checked.
    """
    num_batches = num_workers * prefetch_factor + 2  # one in training, another one just received
    try:
        num_open = len(os.listdir(OPEN_FILES))
    except OSError:
        return
    needed = num_open + FILES_BESIDE + FILES_PER_WORKER * num_workers + len(Batch._fields) * num_batches
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise LoaderError(
            f"this process may have only {hard:,} files open (ulimit -Hn), and --num-workers {num_workers} with "
            f"--prefetch-factor {prefetch_factor} needs {needed:,}; write fewer --num-workers, a smaller "
            "--prefetch-factor or --worker-kind threads, or raise the limit"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
