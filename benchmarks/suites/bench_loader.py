"""The loader's data path compared with the plain way, and the growth of its supply with workers.

Run with: python benchmarks/suites/bench_loader.py [--device cuda] [--pairs 5]

The plain way is what a project usually starts with: each example becomes a float32 image, an int64 target and a float32
mask, and a collate function pads them in torch's DataLoader with its defaults: 16 bytes per pixel. Ours moves 2 and
converts them on the device. So there are two ratios: of what workers supply, and like for like, with the copy and the
conversion to what network and loss take. Blocks of both ways alternate in one run, in random order within each pair:
read the ratios, not the seconds. The exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import random
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vnbench.analysis.statistics.means import mean
from vnbench.batching.plan import MicroBatch
from vnbench.batching.sizes import SizeDistribution
from vnbench.images.corpus import Corpus
from vnbench.images.synthesis import CorpusSpec, build_corpus
from vnbench.loading.collate import Batch, Example, collate, device_tensors, to_device
from vnbench.loading.loader import make_loader, process_loader
from vnbench.units import PixelRange

HEIGHT, WIDTH, BATCH_SIZE, NUM_WORKERS = 640, 12_800, 4, 2
PREFETCH = 2

TARGETS = {("memory", False): 8.0, ("memory", True): 2.0, ("files", False): 1.5, ("files", True): 1.2}
"""Minimum ratio of examples per second, for decoded examples in memory and for PNG files: as workers supply them
(False), and ready for network and loss (True)."""

NUM_TURNS = 8
"""Batches of each way whose CPU time is taken."""

LEAST_GROWTH = 0.8
"""Minimum supply of n workers over n times that of one, up to the number of cores."""

Plain = tuple[Tensor, Tensor, Tensor]
"""Image float32, target int64 and mask float32 of an example, (C, H, W) or (H, W), or of a batch."""


class InMemory(Dataset[Batch]):
    """Our way, from decoded examples."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __getitem__(self, micro_batch: MicroBatch) -> Batch:
        return collate([self._examples[index] for index in micro_batch.examples], canvas=micro_batch.canvas)


class PlainDataset(Dataset[Plain]):
    """The plain way, from examples that a function returns."""

    def __init__(self, example: Callable[[int], Example], *, size: int) -> None:
        self._example = example
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Plain:
        image_HW, mask_HW = self._example(index)
        image = torch.from_numpy(np.array(image_HW)).float().div(255)[None]
        target = torch.from_numpy(np.array(mask_HW)).long()
        return image, target, torch.ones(target.shape)


def plain_collate(examples: Sequence[Plain]) -> Plain:
    """Return a batch padded to its largest example."""
    height = max(target.shape[0] for _, target, _ in examples)
    width = max(target.shape[1] for _, target, _ in examples)
    images = torch.zeros(len(examples), 1, height, width)
    targets = torch.zeros(len(examples), height, width, dtype=torch.int64)
    masks = torch.zeros(len(examples), height, width)
    for row, (image, target, mask) in enumerate(examples):
        h, w = target.shape
        images[row, :, :h, :w], targets[row, :h, :w], masks[row, :h, :w] = image, target, mask
    return images, targets, masks


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of blocks, one of each way")
    options = parser.parse_args(arguments)
    if options.pairs < 2:
        parser.error(f"--pairs {options.pairs}: an interval needs two")
    device = torch.device(options.device)
    num_cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        corpus = worst_case_corpus(Path(folder))
        examples = [read_plain(corpus, index) for index in range(BATCH_SIZE)]
        print(
            f"{BATCH_SIZE} x {HEIGHT} x {WIDTH} px, {NUM_WORKERS} workers, {num_cores} cores, {options.pairs} pairs\n"
        )
        print("| examples from | ready | plain, ex/s | ours, ex/s | ratio | least |\n|---|---|---:|---:|---:|---:|")
        is_met = [
            *compare("memory", in_memory(examples), plain(lambda i: examples[i % BATCH_SIZE]), options.pairs, device),
            *compare(
                "files", from_files(corpus, NUM_WORKERS), plain(lambda i: read_plain(corpus, i)), options.pairs, device
            ),
        ]
        show_cpu_time(examples)
        is_met += show_growth(corpus, num_cores, num_pairs=options.pairs)
    return 0 if all(is_met) else 1


def worst_case_corpus(folder: Path) -> Corpus:
    """Return a corpus of one batch of worst-case examples."""
    sizes = SizeDistribution(widths=PixelRange(start=WIDTH, stop=WIDTH), heights=PixelRange(start=HEIGHT, stop=HEIGHT))
    spec = CorpusSpec(num_examples=BATCH_SIZE, sizes=sizes, task="multiclass", seed=0)
    return build_corpus(spec, folder / "corpus")


def read_plain(corpus: Corpus, index: int) -> Example:
    """Return image and mask, read in the plain way."""
    index %= BATCH_SIZE
    return np.asarray(Image.open(corpus.image_path(index))), np.asarray(Image.open(corpus.mask_path(index)))


def worst_case_batches() -> Iterator[MicroBatch]:
    return itertools.repeat(MicroBatch(tuple(range(BATCH_SIZE)), (HEIGHT, WIDTH)), 1000)


def in_memory(examples: Sequence[Example]) -> Iterator[Batch]:
    return iter(
        process_loader(
            InMemory(examples),
            list(worst_case_batches()),
            num_workers=NUM_WORKERS,
            pin_memory=False,
            prefetch_factor=PREFETCH,
            timeout_s=120.0,
            seed=0,
        )
    )


def from_files(corpus: Corpus, num_workers: int) -> Iterator[Batch]:
    return iter(make_loader(corpus, list(worst_case_batches()), num_workers=num_workers, pin_memory=False))


def plain(example: Callable[[int], Example]) -> Iterator[Plain]:
    dataset = PlainDataset(example, size=1000 * BATCH_SIZE)
    loader: Iterable[Plain] = DataLoader(
        dataset,
        batch_size=BATCH_SIZE,
        num_workers=NUM_WORKERS,
        prefetch_factor=PREFETCH,
        collate_fn=plain_collate,
        multiprocessing_context="fork",
    )
    return iter(loader)


def ready(batch: Batch, *, device: torch.device) -> tuple[Tensor, ...]:
    """Return what network and loss take of our batch, on the device."""
    return waited_for(device_tensors(to_device(batch, device, non_blocking=False)))


def plainly_ready(batch: Plain, *, device: torch.device) -> tuple[Tensor, ...]:
    """Return what network and loss take of a plain batch, on the device: it is converted already."""
    return waited_for(tuple(tensor.to(device) for tensor in batch))


def waited_for(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if tensors[0].is_cuda:
        torch.cuda.synchronize()
    return tensors


def compare(
    source: str, ours: Iterator[Batch], theirs: Iterator[Plain], num_pairs: int, device: torch.device
) -> Iterator[bool]:
    """Print the ratios of two loaders and their intervals; yield whether each meets its target.

    While one is measured, the other's workers are idle, because they have prefetched as much as they may.
    """
    ways: list[tuple[bool, Iterator[object], Iterator[object]]] = [
        (False, ours, theirs),
        (True, map(partial(ready, device=device), ours), map(partial(plainly_ready, device=device), theirs)),
    ]
    for is_ready, first, second in ways:
        ratio, (ours_s, theirs_s) = paired(first, second, num_pairs)
        told = f"{source} | {'yes' if is_ready else 'no'} | {BATCH_SIZE / theirs_s:.3g} | {BATCH_SIZE / ours_s:.3g}"
        print(f"| {told} | {ratio} | {TARGETS[source, is_ready]:g} |", flush=True)
        yield ratio.value >= TARGETS[source, is_ready]


class Ratio:
    """Geometric mean of paired ratios with a 95 % interval."""

    def __init__(self, logs: Sequence[float]) -> None:
        estimate = mean(logs)
        self.value = math.exp(estimate.value)
        half_width = estimate.half_width or 0.0
        self.low, self.high = (math.exp(estimate.value + sign * half_width) for sign in (-1, 1))

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def paired(first: Iterator[object], second: Iterator[object], num_pairs: int) -> tuple[Ratio, tuple[float, float]]:
    """Return the ratio of the second's seconds to the first's, and the mean seconds per batch of each."""
    logs, seconds = [], ([], [])  # type: tuple[list[float], tuple[list[float], list[float]]]
    for pair in range(num_pairs):
        order = random.Random(pair).sample((0, 1), 2)
        took = [0.0, 0.0]
        for which in order:
            took[which] = steady_seconds((first, second)[which])
            seconds[which].append(took[which])
        logs.append(math.log(took[1] / took[0]))
    return Ratio(logs), (sum(seconds[0]) / num_pairs, sum(seconds[1]) / num_pairs)


def steady_seconds(batches: Iterator[object]) -> float:
    """Return the seconds per batch after the prefetched batches are used up."""
    for _ in range(NUM_WORKERS * PREFETCH + NUM_WORKERS):
        next(batches)
    count = 3 * NUM_WORKERS
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    seconds = (time.perf_counter() - start) / count
    # Let the workers prefetch again before another loader is measured.
    time.sleep(2 * seconds * PREFETCH * NUM_WORKERS)
    return seconds


def show_cpu_time(examples: Sequence[Example]) -> None:
    """Print the CPU time of making one batch in one thread, in turn: other programs change it less than the clock."""
    dataset = PlainDataset(lambda index: examples[index], size=BATCH_SIZE)
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_collate([dataset[index] for index in range(BATCH_SIZE)]),
        "ours": lambda: collate(examples),
        "ours, ready": lambda: device_tensors(collate(examples)),
    }
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(NUM_TURNS):
        for name, make in ways.items():
            seconds[name].append(timeit.timeit(make, number=1, timer=time.process_time))
    torch.set_num_threads(num_threads)
    print("\n| a batch in one thread | CPU time, s | plain takes times as long |\n|---|---:|---:|")
    for name, taken_s in seconds.items():
        ratio = Ratio([math.log(plain_s / own_s) for plain_s, own_s in zip(seconds["plain"], taken_s, strict=True)])
        print(f"| {name} | {sum(taken_s) / NUM_TURNS:.3g} | {ratio} |", flush=True)


def show_growth(corpus: Corpus, num_cores: int, *, num_pairs: int) -> list[bool]:
    """Print the supply of 2, 4, ... workers over that of one, up to the number of cores; return which meet the
    target."""
    print("\n| workers | times one | of linear | least |\n|---|---:|---:|---:|")
    met = []
    for num_workers in itertools.takewhile(lambda count: count <= num_cores, (2, 4, 8, 16)):
        one, many = from_files(corpus, 1), from_files(corpus, num_workers)
        ratio, _ = paired(many, one, num_pairs)
        print(f"| {num_workers} | {ratio} | {ratio.value / num_workers:.2f} | {LEAST_GROWTH} |")
        met.append(ratio.value >= LEAST_GROWTH * num_workers)
    return met


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
