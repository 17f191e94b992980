"""``vnbench corpus``, and the image files of a sweep: which they are, and that they are there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from vnbench.batching.canvases import Size
from vnbench.batching.sizes import SizeArray, SizeDistribution
from vnbench.batching.subset import choose_subset
from vnbench.errors import InputError
from vnbench.images.cache_root import cache_roots
from vnbench.images.corpus import Corpus, load_corpus
from vnbench.images.decoding.mask_classes import MaskClasses
from vnbench.images.first_masks import check_first_masks, count_odd_files
from vnbench.images.folder import read_sizes_with_notes
from vnbench.images.synthesis import (
    CorpusSpec,
    build_corpus,
    cached_directory,
    estimate_bytes,
    is_complete,
    planned_corpus,
)
from vnbench.output.console import say, stderr_console
from vnbench.output.reading_progress import ReadingProgress
from vnbench.output.tables.corpus import doubtful_masks
from vnbench.records.spec.trial_spec import ImagesSpec, TrialSpec
from vnbench.records.spec.words import ImageFormat, SizeLaw, Task
from vnbench.request.config import SweepConfig
from vnbench.request.option import parsed
from vnbench.request.options import CORPUS_OPTIONS, OF_MASKS, OPTIONS
from vnbench.units import PixelRange, count, format_bytes, parse_pixel_range

MIN_EXAMPLES = 2
"""One to train on and one for validation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusPlan:
    """The image files of a sweep, before they are there."""

    corpus_id: str
    """Digest that tells equal corpora."""
    train_sizes_N2: SizeArray
    """Height and width in pixels of each training example."""
    train_indices: NDArray[np.int64]
    """Index of each training example in the corpus."""
    smallest: Size
    """Smallest height and width in pixels."""
    worst_case: Size
    """Largest height and width in pixels."""
    directory: Path
    """Where the files lie, or will."""
    spec: CorpusSpec | None
    """How to make them; None where they are the user's own."""
    num_examples: int
    """Images of both splits."""
    formats: tuple[ImageFormat, ...] = ("png",)
    """Formats of the image files that the sweep reads, of a synthetic corpus."""
    notes: tuple[str, ...] = ()
    """What is not read of the user's folder, or is doubtful in its masks, a line each."""

    def measured_examples(self, specs: Iterable[TrialSpec]) -> frozenset[int]:
        """Return the examples that some trials read, as indices of the corpus."""
        subset_sizes = {spec.subset_size for spec in specs if isinstance(spec, ImagesSpec)}
        return frozenset(
            int(index)
            for size in subset_sizes
            for index in self.train_indices[choose_subset(self.train_sizes_N2, subset_size=size)]
        )

    def missing_pixels(self, examples: Collection[int]) -> int:
        """Return the pixels of those examples that are still to be written."""
        if self.spec is None or is_complete(self.spec, self.directory, self.formats, examples=examples):
            return 0
        return int(self.spec.sizes_N2()[sorted(examples)].prod(axis=1).sum())

    def describe(self, examples: Collection[int]) -> str:
        """Return the number of images, how many of them are measured, their place and size on disk in one line."""
        if self.spec is None:
            num_train = len(self.train_sizes_N2)
            split = f"{num_train:,} to train on and {self.num_examples - num_train:,} for validation"
            return f"{count(self.num_examples, 'image')} in {self.directory}, {split}"
        state = "to be written" if self.missing_pixels(examples) else "there already"
        size = format_bytes(estimate_bytes(self.spec, self.formats, examples=examples))
        return (
            f"{count(self.num_examples, 'synthetic image')}, {len(examples):,} of them measured (about {size}, "
            f"{state}), in {self.directory}"
        )


def plan_corpus(config: SweepConfig) -> CorpusPlan:
    """Return which image files a sweep will train on. Nothing is written.

    Raises:
        InputError: the user's corpus cannot be used: it is incomplete, of another task, larger than the ranges given,
            or has too few training examples.
    """
    spec: CorpusSpec | None = None
    notes: tuple[str, ...] = ()
    if config.corpus is not None:
        if config.axes["image_format"] != ("png",):
            raise InputError(
                "--image-format",
                ",".join(config.axes["image_format"]),
                allowed="the images of --corpus have a format already",
                remedy="leave one of them out",
            )
        with ReadingProgress(console=stderr_console()) as progress:
            corpus = load_corpus(config.corpus, on_progress=progress)
        _check_files(corpus, config)
        if {"training", "loader", "snapshot"} & set(config.kinds) and not config.find_max_batch:
            option = "--images" if "images" in config.asked else "--corpus"
            numbers = check_first_masks(corpus, masks_of(config), option=option)
            notes = tuple(_fewer_classes(numbers, config))
        odd = count_odd_files(corpus)
        doubts = doubtful_masks(num_turned_alone=odd.num_turned_alone, num_lossy_masks=odd.num_lossy_masks)
        notes = tuple(f"{corpus.directory}: {line}" for line in (*corpus.left_out, *doubts, *notes))
    else:
        spec = _synthetic_spec(
            widths=config.widths,
            heights=config.heights,
            size_law=config.size_law,
            sizes=config.sizes,
            num_examples=config.num_examples,
            task=config.task,
            seed=config.seed,
        )
        places = [cached_directory(spec, root) for root in cache_roots()]
        corpus = planned_corpus(spec, next((place for place in places if place.is_dir()), places[0]))
    low_height, low_width = (int(side) for side in corpus.sizes_N2.min(axis=0))
    height, width = (int(side) for side in corpus.sizes_N2.max(axis=0))
    heights, widths = config.heights, config.widths
    return CorpusPlan(
        corpus_id=corpus.corpus_id,
        train_sizes_N2=corpus.sizes_N2[corpus.train_indices],
        train_indices=corpus.train_indices,
        smallest=(heights.start if heights else low_height, widths.start if widths else low_width),
        worst_case=(heights.stop if heights else height, widths.stop if widths else width),
        directory=corpus.directory,
        spec=spec,
        num_examples=len(corpus),
        formats=config.axes["image_format"],
        notes=notes,
    )


def _fewer_classes(numbers: Collection[int], config: SweepConfig) -> Iterator[str]:
    """Yield what to write where a few masks hold fewer classes than a network has that nobody asked for."""
    most = max(numbers, default=0)
    if {"task", "classes", "mask_values"} & set(config.asked) or most + 1 >= config.num_classes:
        return
    remedy = "--task binary" if most <= 1 else f"--classes {most + 1}"
    yield (
        f"the masks checked hold classes up to {most}, and the network learns {config.num_classes}: write {remedy} "
        "if there are no others"
    )


def masks_of(config: SweepConfig) -> MaskClasses:
    """Return what the numbers in the masks of a sweep mean."""
    return MaskClasses(num_classes=config.num_classes, values=config.mask_values, ignored=config.ignore_value)


def prepare_corpus(plan: CorpusPlan, examples: Collection[int], *, console: Console) -> Path:
    """Return the folder of a sweep's image files, the given examples written first where they are not there yet."""
    say(console, f"corpus: {plan.describe(examples)}")
    if plan.spec is not None and plan.missing_pixels(examples):
        _build(plan.spec, plan.directory, plan.formats, examples=examples, console=console)
    return plan.directory


def write_corpus(directory: Path, flags: Mapping[str, str | None]) -> dict[str, Any]:
    """Write a synthetic corpus and return what it is.

    Raises:
        InputError: an option or the folder cannot be used.
    """
    values = parsed(CORPUS_OPTIONS, flags)
    if asked := [f"--{name}" for name in OF_MASKS if name in values]:
        raise InputError(
            asked[0],
            allowed="synthetic masks hold the classes of --task",
            remedy=f"leave {', '.join(asked)} out, or write --describe to look at your own",
        )
    if "sizes" not in values and "widths" not in values:
        raise InputError(
            "--widths",
            allowed="the sizes of the images are needed",
            remedy="write --widths A:B or --sizes FILE.csv, or --describe to look at a folder",
        )
    if "examples" not in values and "sizes" not in values:
        raise InputError(
            "--examples", allowed="the number of images is needed", remedy="write --examples 60, or --describe to look"
        )
    spec = _synthetic_spec(
        widths=values.get("widths"),
        heights=values.get("heights"),
        size_law=values.get("size-law", "uniform"),
        sizes=values.get("sizes"),
        num_examples=values.get("examples", 0),
        task=values.get("task", "multiclass"),
        seed=values.get("seed", 0),
    )
    console = stderr_console()
    formats = values.get("image-format", ("png",))
    say(
        console,
        f"{count(spec.num_examples, 'image')}, about {format_bytes(estimate_bytes(spec, formats))}, in {directory}",
    )
    corpus = _build(spec, directory, formats, console=console)
    return {"directory": str(directory), "num_examples": len(corpus), "corpus_id": corpus.corpus_id}


def _build(
    spec: CorpusSpec,
    directory: Path,
    formats: Sequence[ImageFormat],
    *,
    examples: Collection[int] | None = None,
    console: Console,
) -> Corpus:
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("writing images", total=spec.num_examples if examples is None else len(examples))
        return build_corpus(
            spec,
            directory,
            formats=formats,
            examples=examples,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )


def _synthetic_spec(
    *,
    widths: PixelRange | None,
    heights: PixelRange | None,
    size_law: SizeLaw,
    sizes: Path | None,
    num_examples: int,
    task: Task,
    seed: int,
) -> CorpusSpec:
    if sizes is not None:
        sizes_N2, notes = read_sizes_with_notes(sizes)
        for note in notes:
            say(stderr_console(), note)
        pairs = tuple((height, width) for height, width in sizes_N2.tolist())
        return CorpusSpec(num_examples=len(pairs), sizes=pairs, task=task, seed=seed)
    if num_examples < MIN_EXAMPLES:
        raise InputError(
            "--examples",
            num_examples,
            allowed=f"at least {MIN_EXAMPLES} are needed, one to train on and one to validate on",
            remedy="write 60",
        )
    assert widths is not None
    heights = heights or parse_pixel_range(str(OPTIONS["heights"].default), "--heights")
    distribution = SizeDistribution(widths=widths, heights=heights, law=size_law)
    return CorpusSpec(num_examples=num_examples, sizes=distribution, task=task, seed=seed)


def _check_files(corpus: Corpus, config: SweepConfig) -> None:
    """Refuse a corpus of another task than the sweep's, or with images beyond its ranges."""
    if corpus.task is not None and corpus.task != config.task:
        raise InputError(
            "--corpus", corpus.directory, allowed=f"its masks are {corpus.task}", remedy=f"write --task {corpus.task}"
        )
    height, width = (int(side) for side in corpus.sizes_N2.max(axis=0))
    for name, limits, largest in (("widths", config.widths, width), ("heights", config.heights, height)):
        if limits is not None and largest > limits.stop:
            index = int(corpus.sizes_N2[:, 1 if name == "widths" else 0].argmax())
            raise InputError(
                f"--{name}",
                limits,
                allowed=f"image {index} of the corpus ({corpus.image_files[index]}) has {largest} px",
                remedy=f"write --{name} {limits.start}:{largest}, or leave it out",
            )
