"""Datasets of a corpus's examples and micro-batches, decoded, checked and padded on access."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext

from torch.utils.data import Dataset, get_worker_info

from vnbench.batching.plan import MicroBatch
from vnbench.errors import CorpusError
from vnbench.images.corpus import Corpus
from vnbench.images.decoding.gray_files import read_gray, read_mask
from vnbench.images.decoding.mask_classes import MaskClasses
from vnbench.loading.collate import Batch, Example, collate
from vnbench.loading.decoded_cache import DecodedCache
from vnbench.loading.worker_watch import WorkerWatch


class RasterDataset(Dataset[Example]):
    """The examples of a corpus, decoded on access. It holds file names and sizes, but no pixels."""

    def __init__(
        self,
        corpus: Corpus,
        *,
        classes: MaskClasses | None,
        cache: DecodedCache | None = None,
        watch: WorkerWatch | None = None,
    ) -> None:
        """``classes`` says what the numbers in masks mean; None leaves them unchecked.

        ``cache`` stores decoded examples; ``watch`` notes which example each worker is at.
        """
        self._corpus = corpus
        self._classes = classes
        self._cache = cache
        self._watch = watch

    def __len__(self) -> int:
        return len(self._corpus)

    def __getitem__(self, index: int) -> Example:
        """Return image and mask of one example, both uint8 (H, W); treat them as read-only.

        Raises:
            CorpusError: a file cannot be used, or the mask holds a number that is not a class.
        """
        with self._noted(index):
            kept = None if self._cache is None else self._cache.get(index)
            if kept is not None:
                return kept
            image_HW, mask_HW = self._decode(index)
            if self._cache is not None:
                self._cache.put(index, image_HW, mask_HW)
            return image_HW, mask_HW

    def _noted(self, index: int) -> AbstractContextManager[None]:
        worker = worker_number()
        if self._watch is None or worker is None:
            return nullcontext()
        return self._watch.at(index, worker=worker)

    def _decode(self, index: int) -> Example:
        height, width = self._corpus.sizes_N2[index].tolist()
        mask_path = self._corpus.mask_path(index)
        image_HW = read_gray(self._corpus.image_path(index), expected_size=(height, width))
        mask_HW = read_mask(mask_path, expected_size=(height, width))
        if self._classes is None:
            return image_HW, mask_HW
        # On a GPU an unknown class would fail an assertion in some kernel and make the process unusable.
        try:
            return image_HW, self._classes.decode(mask_HW)
        except CorpusError as error:
            raise CorpusError(f"{mask_path}: {error}") from None


class MicroBatchDataset(Dataset[Batch]):
    """The micro-batches of a plan, decoded and padded to their canvas on access."""

    def __init__(self, examples: RasterDataset, *, pin_memory: bool = False) -> None:
        """``pin_memory`` collates into pinned memory, which a worker process cannot do."""
        self._examples = examples
        self._pin_memory = pin_memory

    def __getitem__(self, micro_batch: MicroBatch) -> Batch:
        """Return a micro-batch as tensors."""
        examples = [self._examples[index] for index in micro_batch.examples]
        return collate(examples, canvas=micro_batch.canvas, pin_memory=self._pin_memory)


def worker_number() -> int | None:
    """Return the number of this loader worker, a process or thread, from 0; None outside of workers."""
    info = get_worker_info()
    if info is not None:
        return info.id
    number: int | None = getattr(threading.current_thread(), "worker_number", None)
    return number
