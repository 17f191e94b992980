"""What the images of a folder are, in lines for people."""

from __future__ import annotations

from typing import Any

from vnbench.units import count, format_bytes, format_percent

BAR_WIDTH = 30
"""Characters of the longest bar: its line has a place in 60."""


def corpus_lines(corpus: dict[str, Any]) -> list[str]:
    """Return the description of a corpus, as its JSON values say it, with a histogram of widths."""
    classes = corpus["class_shares"]
    low, high = corpus["foreground_range"]
    formats = ", ".join(f"{number} {kind}" for kind, number in corpus["formats"].items())
    curves = ", ".join(f"class {index} {format_percent(share)}" for index, share in enumerate(classes) if index)
    counted = count(corpus["num_counted"], "mask")
    most = max(bin["images"] for bin in corpus["histogram"])
    return [
        f"{count(corpus['num_examples'], 'image')} in {corpus['directory']}, {corpus['num_train']} to train on and "
        f"{corpus['num_validation']} for validation; corpus {corpus['corpus_id']}",
        f"widths {_spread(corpus['widths'])}; heights {_spread(corpus['heights'])}",
        f"files: {formats}; {format_bytes(corpus['num_bytes'])} with masks",
        f"foreground {format_percent(1 - classes[0])} ({format_percent(low)} to {format_percent(high)} of an image, "
        f"{counted}): {curves or 'none'}",
        "",
        *(_bar(bin, most=most) for bin in corpus["histogram"]),
    ]


def _bar(bin: dict[str, int], *, most: int) -> str:
    bar = "#" * round(BAR_WIDTH * bin["images"] / most)
    return f"{bin['first']:>7,} to {bin['last']:>7,} px {bar} {bin['images']}".replace("px  ", "px ")


def _spread(side: dict[str, float]) -> str:
    return f"{side['smallest']:,} to {side['largest']:,} px (median {side['median']:,.0f})"
