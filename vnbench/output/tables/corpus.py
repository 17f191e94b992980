"""What the images of a folder are, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vnbench.images.finding.pairs import LeftOut
from vnbench.units import count, format_bytes, format_percent

SPLIT_BY = {
    "folders": "by the names of folders",
    "widths": "every fifth image in the order of widths is for validation",
    "manifest": "by its manifest",
}
"""What tells the examples for validation, in words."""

BAR_WIDTH = 30
"""Characters of the longest bar: its line has a place in 60."""


def corpus_lines(corpus: dict[str, Any]) -> list[str]:
    """Return the description of a corpus, as its JSON values say it, with a histogram of widths."""
    classes, ignored_share = corpus["class_shares"], corpus["ignored_share"]
    low, high = corpus["foreground_range"]
    formats = ", ".join(f"{number} {kind}" for kind, number in corpus["formats"].items())
    curves = ", ".join(
        f"class {index} {format_percent(share)}" for index, share in enumerate(classes) if index and share
    )
    ignored = f"; ignored {format_percent(ignored_share)}" if ignored_share else ""
    counted = count(corpus["num_counted"], "mask")
    most = max(bin["images"] for bin in corpus["histogram"])
    return [
        f"{count(corpus['num_examples'], 'image')} in {corpus['directory']}, {corpus['num_train']} to train on and "
        f"{corpus['num_validation']} for validation; corpus {corpus['corpus_id']}",
        f"split: {SPLIT_BY[corpus['split_by']]}",
        *(str(LeftOut(**left_out)) for left_out in corpus["left_out"]),
        f"widths {_spread(corpus['widths'])}; heights {_spread(corpus['heights'])}",
        f"files: {formats}; {format_bytes(corpus['num_bytes'])} with masks",
        *_notes(corpus),
        f"foreground {format_percent(1 - classes[0] - ignored_share)} ({format_percent(low)} to {format_percent(high)} "
        f"of an image, {counted}): {curves or 'none'}{ignored}",
        "",
        *(_bar(bin, most=most) for bin in corpus["histogram"]),
    ]


def doubtful_masks(*, num_turned_alone: int, num_lossy_masks: int) -> Iterator[str]:
    """Yield what makes masks doubtful that are read all the same: to be known before a network learns from them."""
    if num_turned_alone:
        yield f"images that EXIF turns, and their masks not: {num_turned_alone:,}; check that they match"
    if num_lossy_masks:
        yield f"masks saved as JPEG, which changes pixel values: {num_lossy_masks:,}; save them as PNG"


def _notes(corpus: dict[str, Any]) -> Iterator[str]:
    """Yield how files are read that are not as they seem, and what a sweep has to be told of the masks."""
    if corpus["num_turned"]:
        yield f"turned as their EXIF orientation says: {corpus['num_turned']}"
    yield from doubtful_masks(num_turned_alone=corpus["num_turned_alone"], num_lossy_masks=corpus["num_lossy_masks"])
    if corpus["mask_problem"] is not None:
        yield "masks hold {}; for a sweep, {}".format(*corpus["mask_problem"])


def _bar(bin: dict[str, int], *, most: int) -> str:
    bar = "#" * round(BAR_WIDTH * bin["images"] / most)
    return f"{bin['first']:>7,} to {bin['last']:>7,} px {bar} {bin['images']}".replace("px  ", "px ")


def _spread(side: dict[str, float]) -> str:
    return f"{side['smallest']:,} to {side['largest']:,} px (median {side['median']:,.0f})"
