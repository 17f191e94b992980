"""Synthetic logs with their masks, and the cost of drawing, encoding and decoding their files.

Run with: python benchmarks/experiments/corpus_report.py --results results/cpu-amd-epyc/corpus.json --out reports

It uses one CPU thread on every machine, as a loader's worker does. Everything is timed in turn, so that disturbances
affect all alike; read ratios. Decoders that are not installed are left out and named;
``pip install -e '.[decoders]'`` installs them.
"""

from __future__ import annotations

import argparse
import importlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from markdown_page import page_name, write_document, write_page
from numpy.typing import NDArray
from PIL import Image

from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.images.decoding.gray_files import encode, read_gray
from vnbench.images.decoding.gray_png import encode_mask
from vnbench.images.drawing.raster import draw_example
from vnbench.output.words.numbers import significant
from vnbench.output.words.provenance import CPU_LABEL, Provenance, measured_on
from vnbench.records.spec.words import IMAGE_FORMATS, ImageFormat
from vnbench.trial.instruments.environment import describe_environment
from vnbench.units import PixelRange, mpx

MEAN_SIZE = (560, 8000)
"""Height and width in pixels of the mean log."""

NUM_TIMED = 6
"""Number of examples to time, each NUM_ROUNDS times."""

NUM_ROUNDS = 5

SIZES = SizeDistribution(widths=PixelRange(start=3200, stop=12_800), heights=PixelRange(start=480, stop=640))
NUM_COUNTED = 40
"""Number of examples whose foreground is counted."""

SHOWN = (43, 22, 29, 33)
"""Examples on the contact sheet: with and without a heading, each scale, each line style."""

STRIP = (520, 4800)
"""Height and width in pixels of the strips that are shown whole; below the first ones, a part of each is shown."""

PART = (700, 1500)
"""Columns of the part that is shown at full resolution."""

SHEET_WIDTH = 1600
GAP = 14
CLASS_GRAYS = (255, 0, 140)
"""Grays of background, first and second curve on a sheet."""

RAW = "raw, uint8"

DEFAULT = "Pillow"
"""Library that vnbench reads with."""

NOTABLE = 0.9
"""A library that takes less than this share of the default's time is named below the table."""

Decode = Callable[[bytes, Path], NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Times of one way to read one format."""

    image_format: str
    decoder: str
    bytes_per_pixel: float
    s_per_mpx: list[float]
    """Median of the rounds of each example."""
    to_png: float
    """Time relative to PNG with Pillow on the same images, in the same rounds."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """Times to make an example of the mean size."""

    draw_s: float
    encode_s: float
    """Seconds to encode the image as PNG."""
    encode_mask_s: float


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="file for the measurements")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)

    decoders, left_out = find_decoders()
    timings = time_decoding(decoders)
    making = time_making()
    shares = [foreground(index, size) for index, size in enumerate(draw_sizes(SIZES, NUM_COUNTED, seed=0).tolist())]
    environment = describe_environment("cpu")
    document = {
        "environment": environment,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "decoding": [asdict(timing) for timing in timings],
        "making": asdict(making),
        "foreground": shares,
    }
    write_document(document, options.results)
    origin = measured_on(environment, date=str(document["date"]))
    name = page_name("corpus", machine=options.results.parent.name, date=str(document["date"]))
    options.out.mkdir(parents=True, exist_ok=True)
    contact_sheet(SHOWN).save(options.out / f"{name}.png", optimize=True)
    contact_sheet(SHOWN[1:2]).save(options.out / f"{name}_example.png", optimize=True)
    text = report_text(timings, making, shares, left_out=left_out, name=name, origin=origin)
    write_page([text], options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def find_decoders() -> tuple[dict[tuple[str, str], Decode], list[str]]:
    """Return a decoder for each format and installed library, and the names of missing libraries."""
    decoders: dict[tuple[str, str], Decode] = {
        (one, DEFAULT): lambda _, path: read_gray(path, expected_size=MEAN_SIZE) for one in IMAGE_FORMATS
    }
    left_out = []
    tifffile, cv2, imagecodecs = (_module(name) for name in ("tifffile", "cv2", "imagecodecs"))
    if tifffile is not None:
        # It uses imagecodecs if installed; without it, deflate is the only one of these formats that it reads.
        name, known = ("tifffile", IMAGE_FORMATS[2:3])
        if imagecodecs is not None:
            name, known = ("tifffile with imagecodecs", IMAGE_FORMATS[1:])
        decoders |= {(one, name): lambda content, _: tifffile.imread(io.BytesIO(content)) for one in known}
    if cv2 is None:
        left_out.append("OpenCV")
    else:
        # Its libtiff has no zstd.
        decoders |= {
            (one, "OpenCV"): lambda _, path: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for one in IMAGE_FORMATS[:3]
        }
    if imagecodecs is None:
        left_out.append("imagecodecs")
    else:
        decoders["png", "imagecodecs"] = lambda content, _: imagecodecs.png_decode(content)
    decoders[RAW, "numpy"] = lambda content, _: np.frombuffer(content, dtype=np.uint8).copy()
    return decoders, left_out


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def time_decoding(decoders: dict[tuple[str, str], Decode]) -> list[Timing]:
    with TemporaryDirectory() as folder:
        times: dict[tuple[str, str], list[list[float]]] = {key: [] for key in decoders}
        num_bytes: dict[str, int] = {}
        for index in range(NUM_TIMED):
            image_HW, _ = draw_example(seed=0, index=index, height=MEAN_SIZE[0], width=MEAN_SIZE[1], task="multiclass")
            files: dict[str, tuple[bytes, Path]] = {}
            for image_format in (*IMAGE_FORMATS, RAW):
                content = image_HW.tobytes() if image_format == RAW else encode(image_HW, _known(image_format))
                path = Path(folder) / ("image.png" if image_format == "png" else f"{image_format[:8]}.tif")
                path.write_bytes(content)
                files[image_format] = (content, path)
                num_bytes[image_format] = num_bytes.get(image_format, 0) + len(content)
            rounds: dict[tuple[str, str], list[float]] = {key: [] for key in decoders}
            for _ in range(NUM_ROUNDS):
                for key, decode in decoders.items():
                    rounds[key].append(seconds(partial(decode, *files[key[0]])))
            for key, values in rounds.items():
                times[key].append(values)
    pixels = MEAN_SIZE[0] * MEAN_SIZE[1]
    base = [median(values) for values in times["png", DEFAULT]]
    return [
        Timing(
            image_format=image_format,
            decoder=decoder,
            bytes_per_pixel=num_bytes[image_format] / NUM_TIMED / pixels,
            s_per_mpx=[median(values) / mpx(pixels) for values in found],
            to_png=fmean(median(values) / one for values, one in zip(found, base, strict=True)),
        )
        for (image_format, decoder), found in times.items()
    ]


def _known(name: str) -> ImageFormat:
    return next(one for one in IMAGE_FORMATS if one == name)


def time_making() -> Making:
    """Return the medians over examples that are drawn and encoded in turn."""
    draws, encodes, masks = [], [], []
    for _ in range(NUM_ROUNDS):
        for index in range(NUM_TIMED):
            draws.append(seconds(partial(drawn, index, MEAN_SIZE)))
            image_HW, mask_HW = drawn(index, MEAN_SIZE)
            encodes.append(seconds(partial(encode, image_HW, "png")))
            masks.append(seconds(partial(encode_mask, mask_HW)))
    return Making(draw_s=median(draws), encode_s=median(encodes), encode_mask_s=median(masks))


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this thread for some work, which exclude other work on the machine."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def drawn(index: int, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return draw_example(seed=0, index=index, height=size[0], width=size[1], task="multiclass")


def foreground(index: int, size: Sequence[int]) -> float:
    _, mask_HW = drawn(index, (int(size[0]), int(size[1])))
    return float((mask_HW > 0).mean())


def contact_sheet(shown: Sequence[int]) -> Image.Image:
    """Return a sheet of strips: each whole, and below it a part at full resolution beside its mask."""
    rows: list[NDArray[np.uint8]] = []
    width = (SHEET_WIDTH - GAP) // 2
    for index in shown:
        image_HW, mask_HW = drawn(index, STRIP)
        whole = Image.fromarray(image_HW).resize(
            (SHEET_WIDTH, STRIP[0] * SHEET_WIDTH // STRIP[1]), Image.Resampling.BOX
        )
        part = slice(PART[0], PART[0] + width) if index % 2 else slice(0, width)
        shown_HW = np.array(CLASS_GRAYS, dtype=np.uint8)[mask_HW]
        beside = np.full((STRIP[0], GAP), 255, dtype=np.uint8)
        rows += [np.asarray(whole), np.full((GAP // 2, SHEET_WIDTH), 255, dtype=np.uint8)]
        rows += [np.hstack((image_HW[:, part], beside, shown_HW[:, part]))]
        rows += [np.full((2 * GAP, SHEET_WIDTH), 255, dtype=np.uint8)]
    return Image.fromarray(np.vstack(rows[:-1]))


def spread(timing: Timing) -> str:
    mean, low, high = (
        significant(1e3 * value, digits=2)
        for value in (fmean(timing.s_per_mpx), min(timing.s_per_mpx), max(timing.s_per_mpx))
    )
    return f"{mean} ({low} to {high})"


def choice_text(timings: Sequence[Timing], *, left_out: Sequence[str]) -> str:
    """Return which library reads which format, and which others would read a format notably faster."""
    own = {one.image_format: one.to_png for one in timings if one.decoder == DEFAULT}
    faster = [
        f"{one.decoder} reads {one.image_format} in {one.to_png / own[one.image_format]:.2f} of its time"
        for one in timings
        if one.image_format in own and one.to_png < NOTABLE * own[one.image_format]
    ]
    sentences = [f"vnbench reads all of them with {DEFAULT}, which it needs for JPEG and palettes in any case."]
    if faster:
        sentences.append(
            f"Of the others, {'; '.join(faster)}. They are no dependencies: whoever trains without them should be "
            "measured without them."
        )
    else:
        sentences.append(f"No other library here takes less than {NOTABLE:.1f} of its time.")
    if left_out:
        sentences.append(f"Not installed, and left out: {', '.join(left_out)}.")
    sentences.append("Group 4 keeps one bit per pixel; the others keep all.")
    return " ".join(sentences)


def report_text(
    timings: Sequence[Timing],
    making: Making,
    shares: Sequence[float],
    *,
    left_out: Sequence[str],
    name: str,
    origin: Provenance,
) -> str:
    size = f"{MEAN_SIZE[0]} x {MEAN_SIZE[1]:,} px"
    total_s = making.draw_s + making.encode_s + making.encode_mask_s
    drawing = making.draw_s / making.encode_s
    lines = [
        "# Synthetic logs, and what their files cost",
        "",
        "Strips of well logs as an archive holds them: the form is printed, two curves are plotted, each in a line "
        "that is coded by its dashes and wraps at the edge of its track, and decades and a scanner leave their marks. "
        "Each image below is shown whole, and under it a part of it pixel by pixel beside its mask (first curve black, "
        "second gray). Image i of a seed is the same on every machine.",
        "",
        f"![Strips, and parts of them beside their masks]({name}.png)",
        "",
        f"Curves are {100 * fmean(shares):.1f} % of the pixels ({100 * min(shares):.1f} to {100 * max(shares):.1f} % "
        f"in {len(shares)} images of the logs' sizes).",
        "",
        "## Making",
        "",
        f"An image of {size} with its mask, one thread: drawing takes {significant(1e3 * making.draw_s)} ms, encoding "
        f"the image as PNG {significant(1e3 * making.encode_s)} ms and its mask "
        f"{significant(1e3 * making.encode_mask_s)} ms: {significant(1 / total_s)} images per second. Drawing costs "
        f"{drawing:.2f} times what encoding the image does (medians of {NUM_ROUNDS * NUM_TIMED}, taken in turn).",
        "",
        "## Decoding",
        "",
        f"{NUM_TIMED} images of {size}, from files in the system's memory, one thread, all in turn, {NUM_ROUNDS} "
        "rounds: mean of the images with the fastest and the slowest.",
        "",
        "| format | read by | bytes per pixel | ms per Mpx | times PNG by Pillow |",
        "|---|---|---:|---:|---:|",
        *(
            f"| {one.image_format} | {one.decoder} | {one.bytes_per_pixel:.3f} | {spread(one)} | {one.to_png:.2f} |"
            for one in timings
        ),
        "",
        choice_text(timings, left_out=left_out),
        "",
        f"{origin.line(f'{len(timings)} ways of reading')}. {CPU_LABEL}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
