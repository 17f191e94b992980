"""The loader of a training trial: decodes and collates given micro-batches, in worker processes or in its own."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from vnbench.data.collate import Batch, Example, collate
from vnbench.data.corpus import Corpus
from vnbench.data.gray_png import read_gray
from vnbench.data.plan import MicroBatch
from vnbench.errors import CorpusError
from vnbench.spec import NUM_CLASSES

PREFETCH_FACTOR = 2
"""Micro-batches ahead per worker: one in work, one waiting, which evens out the unequal times of ragged batches. Each
more would hold up to 262 MB of shared memory (16 examples of 640 x 12,800)."""


class RasterDataset(Dataset[Example]):
    """The examples of a corpus, decoded when they are asked for. It holds file names and sizes, no pixels."""

    def __init__(self, corpus: Corpus, *, num_classes: int | None) -> None:
        self._corpus = corpus
        self._num_classes = num_classes

    def __len__(self) -> int:
        return len(self._corpus)

    def __getitem__(self, index: int) -> Example:
        """Return image and mask of one example, both uint8 (H, W), read-only.

        Raises:
            CorpusError: a file cannot be used, or the mask holds a class that the task does not know.
        """
        height, width = self._corpus.sizes_N2[index].tolist()
        mask_path = self._corpus.mask_path(index)
        image_HW = read_gray(self._corpus.image_path(index), expected_size=(height, width))
        mask_HW = read_gray(mask_path, expected_size=(height, width))
        # On a GPU an unknown class is an assertion somewhere in a kernel, after which the process is lost.
        if self._num_classes is not None and mask_HW.max() >= self._num_classes:
            raise CorpusError(f"{mask_path}: holds class {mask_HW.max()}; its task has {self._num_classes} classes")
        return image_HW, mask_HW


class MicroBatchDataset(Dataset[Batch]):
    """The micro-batches of a plan, decoded and padded to their canvas when they are asked for."""

    def __init__(self, examples: RasterDataset) -> None:
        self._examples = examples

    def __getitem__(self, micro_batch: MicroBatch) -> Batch:
        """Return the batch of a micro-batch."""
        return collate([self._examples[index] for index in micro_batch.examples], canvas=micro_batch.canvas)


class RasterLoader(DataLoader[Batch]):
    """A DataLoader that yields ``Batch`` and ends its workers at once when one of them fails."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch promises its own iterator class
        """Start the workers; return the batches of one pass."""
        return _release_on_error(super().__iter__())


def make_loader(
    corpus: Corpus,
    micro_batches: Sequence[MicroBatch],
    *,
    num_workers: int,
    pin_memory: bool,
    num_classes: int | None = None,
    seed: int = 0,
) -> RasterLoader:
    """Return a loader that yields the batches of the given micro-batches, in their order, once per iteration.

    Masks are checked against ``num_classes``, which is that of the corpus's task where it is None; a corpus without a
    task goes unchecked.

    A CorpusError of a worker is raised in this process as a CorpusError whose message is the worker's traceback: its
    last line names the file. With ``num_workers`` 0 it comes as it is.
    """
    if num_classes is None and corpus.task is not None:
        num_classes = NUM_CLASSES[corpus.task]
    return RasterLoader(
        MicroBatchDataset(RasterDataset(corpus, num_classes=num_classes)),
        # The dataset makes whole batches: torch's own batching knows no canvas.
        batch_size=None,
        sampler=micro_batches,
        num_workers=num_workers,
        # Forked workers start in milliseconds; spawned ones would each import torch first, 1.4 s and 200 MB. It is safe
        # here although the process may hold a CUDA context: a worker touches neither CUDA nor a thread pool.
        multiprocessing_context="fork" if num_workers else None,
        prefetch_factor=PREFETCH_FACTOR if num_workers else None,
        worker_init_fn=_init_worker,
        pin_memory=pin_memory and torch.cuda.is_available(),  # without CUDA torch pins nothing, and warns
        # Seeds of the workers are drawn from this one, and not from the global generator of the trial, whose state
        # would depend on the number of loaders made before.
        generator=torch.Generator().manual_seed(seed),
    )


def _release_on_error(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield what ``batches`` yields, and let go of it before an exception of its goes on."""
    try:
        yield from batches
    except Exception as error:
        # The exception is a local of a frame of its own traceback (torch 2.13). That cycle would keep the iterator
        # until the garbage collector comes, which then waits 5 s for each worker.
        traceback.clear_frames(error.__traceback__)
        del batches
        raise


def _init_worker(worker_id: int) -> None:
    """Leave a forked worker one thread: OpenMP's pool does not survive a fork, and a parallel region would wait for it.

    torch does the same today, but does not promise it. It also seeds Python, numpy and torch in each worker.
    """
    torch.set_num_threads(1)
