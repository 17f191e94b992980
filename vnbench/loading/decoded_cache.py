"""Decoded images and masks kept for later epochs, in memory or in a file, up to a limit."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vnbench.batching.sizes import SizeArray
from vnbench.errors import LoaderError
from vnbench.units import format_bytes

Pixels = NDArray[np.uint8]


class DecodedCache:
    """Room for the decoded pixels of some examples, shared with every process forked after it was made.

    Which examples have room is settled beforehand: those first in order, until the limit is reached. So no process has
    to ask another, and two that decode the same example write the same bytes. A file is unlinked as soon as it is
    opened: nothing is left of it, however the process ends.
    """

    def __init__(
        self, sizes_N2: SizeArray, *, examples: Iterable[int], limit_bytes: int, folder: Path | None = None
    ) -> None:
        """Make room for ``examples``, rows of ``sizes_N2``; ``folder`` keeps them in a file there, None in memory.

        Raises:
            LoaderError: the folder cannot be written to, or has not so much space left.
        """
        self._sizes_N2 = sizes_N2
        self._places: dict[int, tuple[int, int]] = {}
        num_bytes = 0
        for slot, index in enumerate(dict.fromkeys(examples)):
            needed = 2 * int(sizes_N2[index].prod())
            if num_bytes + needed > limit_bytes:
                break
            self._places[index] = (slot, num_bytes)
            num_bytes += needed
        self.num_bytes = num_bytes
        """Bytes of pixels that there is room for."""
        # A mapping cannot be empty.
        self._is_filled = np.frombuffer(mmap.mmap(-1, max(1, len(self._places))), dtype=np.uint8)
        self._pixels = np.frombuffer(_map(max(1, num_bytes), folder), dtype=np.uint8)

    def __len__(self) -> int:
        """Return the number of examples that have room."""
        return len(self._places)

    @property
    def num_filled(self) -> int:
        """Examples that are kept so far."""
        return int(np.count_nonzero(self._is_filled))

    def get(self, index: int) -> tuple[Pixels, Pixels] | None:
        """Return image and mask of an example, uint8 (H, W), as views of the cache; None while they are not there."""
        place = self._places.get(index)
        if place is None or not self._is_filled[place[0]]:
            return None
        image_HW, mask_HW = self._views(index, place[1])
        return image_HW, mask_HW

    def put(self, index: int, image_HW: Pixels, mask_HW: Pixels) -> None:
        """Keep an example, if there is room for it."""
        place = self._places.get(index)
        if place is None or self._is_filled[place[0]]:
            return
        image_view_HW, mask_view_HW = self._views(index, place[1])
        image_view_HW[...] = image_HW
        mask_view_HW[...] = mask_HW
        # Last, so that nobody takes half an example: stores become visible in their order on x86, and elsewhere a
        # process switch lies between.
        self._is_filled[place[0]] = 1

    def _views(self, index: int, start: int) -> tuple[Pixels, Pixels]:
        height, width = self._sizes_N2[index].tolist()
        area = height * width
        both = self._pixels[start : start + 2 * area].reshape(2, height, width)
        return both[0], both[1]


def _map(num_bytes: int, folder: Path | None) -> mmap.mmap:
    if folder is None:
        return mmap.mmap(-1, num_bytes)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Taken at once: a mapping of a file on a disk that fills up later ends in a bus error.
            os.posix_fallocate(file.fileno(), 0, num_bytes)
            return mmap.mmap(file.fileno(), num_bytes)
    except OSError as error:
        raise LoaderError(
            f"--cache disk: {format_bytes(num_bytes)} cannot be kept in {folder} ({error.strerror}); "
            "write a smaller --cache-limit, or --cache memory"
        ) from error
