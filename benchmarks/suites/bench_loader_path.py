"""One epoch of the loader without workers, compared with plain loops over the same files.

Run with: pytest benchmarks/suites/bench_loader_path.py --benchmark-only

The ratio of the loader to the first loop shows the cost of everything except decoding; the ratio to the second loop,
which also pads, shows the cost of the loader's own machinery. ``bench_loader.py`` shows the effect of workers at real
sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import MicroBatch, PlanConfig
from vnbench.batching.sizes import SizeDistribution
from vnbench.images.corpus import Corpus
from vnbench.images.synthesis import CorpusSpec, build_corpus
from vnbench.loading.collate import Batch, Example, collate
from vnbench.loading.loader import make_loader
from vnbench.units import PixelRange

SMALL = SizeDistribution(widths=PixelRange(start=400, stop=1600), heights=PixelRange(start=120, stop=160))
NUM_EXAMPLES = 32

one_epoch = pytest.mark.benchmark(group="one epoch of 32 examples, 0 workers", max_time=0.5, warmup=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    spec = CorpusSpec(num_examples=NUM_EXAMPLES, sizes=SMALL, task="multiclass", seed=0)
    return build_corpus(spec, tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def micro_batches(corpus: Corpus) -> Sequence[MicroBatch]:
    settings = PlanConfig(sampler="bucketed", batch_size=4, micro_batch_size=4)
    return plan_epoch(corpus.sizes_N2, settings, epoch=0).micro_batches


def decode_plainly(corpus: Corpus, index: int) -> Example:
    """Return image and mask, read in the plain way."""
    return np.asarray(Image.open(corpus.image_path(index))), np.asarray(Image.open(corpus.mask_path(index)))


def decoded(corpus: Corpus, micro_batches: Sequence[MicroBatch]) -> list[list[Example]]:
    return [[decode_plainly(corpus, index) for index in micro_batch.examples] for micro_batch in micro_batches]


def padded(corpus: Corpus, micro_batches: Sequence[MicroBatch]) -> list[Batch]:
    return [
        collate([decode_plainly(corpus, index) for index in micro_batch.examples], canvas=micro_batch.canvas)
        for micro_batch in micro_batches
    ]


def loaded(corpus: Corpus, micro_batches: Sequence[MicroBatch]) -> list[Batch]:
    """Make a loader and return the batches of one epoch."""
    return list(make_loader(corpus, micro_batches, num_workers=0, pin_memory=False))


def cropped(batch: Batch) -> list[Example]:
    """Return the examples of a batch without their padding."""
    return [
        (image_HW[:height, :width].numpy(), mask_HW[:height, :width].numpy())
        for image_HW, mask_HW, (height, width) in zip(
            batch.images_BHW, batch.masks_BHW, batch.sizes_B2.tolist(), strict=True
        )
    ]


def assert_equal(found: Sequence[Batch], expected: Sequence[Batch]) -> None:
    for batches in zip(found, expected, strict=True):
        assert all(torch.equal(*tensors) for tensors in zip(*batches, strict=True))


@one_epoch
def test_loader(benchmark: BenchmarkFixture, corpus: Corpus, micro_batches: Sequence[MicroBatch]) -> None:
    assert_equal(benchmark(loaded, corpus, micro_batches), padded(corpus, micro_batches))


@one_epoch
def test_plain_loop_that_decodes(
    benchmark: BenchmarkFixture, corpus: Corpus, micro_batches: Sequence[MicroBatch]
) -> None:
    groups = benchmark(decoded, corpus, micro_batches)
    for examples, batch in zip(groups, loaded(corpus, micro_batches), strict=True):
        for pair in zip(examples, cropped(batch), strict=True):
            assert all(np.array_equal(*pixels) for pixels in zip(*pair, strict=True))


@one_epoch
def test_plain_loop_that_decodes_and_pads(
    benchmark: BenchmarkFixture, corpus: Corpus, micro_batches: Sequence[MicroBatch]
) -> None:
    assert_equal(benchmark(padded, corpus, micro_batches), loaded(corpus, micro_batches))
