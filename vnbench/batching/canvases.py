"""The canvases of compute trials: sizes fixed beforehand, spread over what training will meet."""

from __future__ import annotations

from vnbench.records.spec.words import ALIGNMENT

Size = tuple[int, int]
"""Height and width in pixels."""


def canvas_grid(*, smallest: Size, largest: Size, count: int) -> tuple[Size, ...]:
    """Return up to ``count`` sizes from ``largest`` down to ``smallest``, both included, at even steps of area.

    A size between them has sides that are multiples of ALIGNMENT; its height is by turns the lowest and the highest
    that leaves a width between those of the ends, so that the sizes lie around the range and not on its diagonal, and
    what depends on the shape beyond its area shows. Sizes that fall together are returned once.

    Raises:
        ValueError: ``count`` below 2, or a side of ``smallest`` above that of ``largest``.
    """
    (low_height, low_width), (high_height, high_width) = smallest, largest
    if count < 2 or low_height > high_height or low_width > high_width:
        raise ValueError(f"no {count} sizes lie between {smallest} and {largest}")
    low_area, high_area = low_height * low_width, high_height * high_width
    sizes = [largest]
    for i in range(count - 2, 0, -1):
        area = low_area + (high_area - low_area) * i / (count - 1)
        heights = [
            height
            for height in _aligned(low_height, high_height)
            if low_width - ALIGNMENT / 2 <= area / height <= high_width + ALIGNMENT / 2
        ]
        if not heights:
            continue  # a range narrower than the alignment has no size there
        height = heights[0] if i % 2 else heights[-1]
        width = min(max(round(area / height / ALIGNMENT) * ALIGNMENT, ALIGNMENT), high_width)
        sizes.append((height, width))
    sizes.append(smallest)
    return tuple(dict.fromkeys(sorted(sizes, key=lambda size: size[0] * size[1], reverse=True)))


def _aligned(low: int, high: int) -> list[int]:
    """Return the multiples of ALIGNMENT from ``low`` to ``high``, and ``high`` itself."""
    first = -(-low // ALIGNMENT) * ALIGNMENT
    return sorted({*range(first, high + 1, ALIGNMENT), high})
