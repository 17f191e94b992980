"""Choose the canvases of compute trials: fixed sizes spread over the range that training meets."""

from __future__ import annotations

from vnbench.records.spec.words import ALIGNMENT

Size = tuple[int, int]
"""Height and width in pixels."""


def canvas_grid(*, smallest: Size, largest: Size, count: int) -> tuple[Size, ...]:
    """Return up to ``count`` sizes from ``largest`` down to ``smallest``, both included, in equal steps of area.

    The sides of the sizes in between are multiples of ALIGNMENT. Their heights are alternately the lowest and the
    highest that allow a width within the range. So the sizes do not lie on the diagonal of the range, and effects of
    the shape show beside those of the area. Equal sizes are returned once.

    Raises:
        ValueError: ``count`` is below 2, or a side of ``smallest`` is above that of ``largest``.
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
            continue  # a range narrower than the alignment has no such size
        height = heights[0] if i % 2 else heights[-1]
        width = min(max(round(area / height / ALIGNMENT) * ALIGNMENT, ALIGNMENT), high_width)
        sizes.append((height, width))
    sizes.append(smallest)
    return tuple(dict.fromkeys(sorted(sizes, key=lambda size: size[0] * size[1], reverse=True)))


def _aligned(low: int, high: int) -> list[int]:
    """Return the multiples of ALIGNMENT from ``low`` to ``high``, and ``high`` itself."""
    first = -(-low // ALIGNMENT) * ALIGNMENT
    return sorted({*range(first, high + 1, ALIGNMENT), high})
