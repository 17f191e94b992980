"""A cache of decoded images and masks for later epochs, in memory or in a file, up to a limit."""

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
    """Decoded pixels of some examples, shared with every process that is forked after the cache was made.

    The examples with room are fixed in advance: the first in order, up to the limit. So processes need no locks, and
    two that decode the same example write the same bytes. The file is unlinked as soon as it is open, so that it
    disappears however the process ends.
    """

    def __init__(
        self, sizes_N2: SizeArray, *, examples: Iterable[int], limit_bytes: int, folder: Path | None = None
    ) -> None:
        """Make room for ``examples``, indices into ``sizes_N2``, in a file in ``folder`` or, if it is None, in memory.

        Raises:
            LoaderError: the folder is not writable or lacks the space.
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
        """Capacity in bytes of pixels."""
        # An empty mapping is not allowed.
        self._is_filled = np.frombuffer(mmap.mmap(-1, max(1, len(self._places))), dtype=np.uint8)
        self._pixels = np.frombuffer(_map(max(1, num_bytes), folder), dtype=np.uint8)

    def __len__(self) -> int:
        """Return the number of examples that have room."""
        return len(self._places)

    @property
    def num_filled(self) -> int:
        """Number of examples in the cache so far."""
        return int(np.count_nonzero(self._is_filled))

    def get(self, index: int) -> tuple[Pixels, Pixels] | None:
        """Return image and mask of an example, uint8 (H, W), as views of the cache; None if they are not in it yet."""
        place = self._places.get(index)
        if place is None or not self._is_filled[place[0]]:
            return None
        image_HW, mask_HW = self._views(index, place[1])
        return image_HW, mask_HW

    def put(self, index: int, image_HW: Pixels, mask_HW: Pixels) -> None:
        """Store an example if there is room for it."""
        place = self._places.get(index)
        if place is None or self._is_filled[place[0]]:
            return
        image_view_HW, mask_view_HW = self._views(index, place[1])
        image_view_HW[...] = image_HW
        mask_view_HW[...] = mask_HW
        # Last, so that no process reads half an example: on x86 stores become visible in order, and elsewhere a process
        # switch comes between.
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
            # Allocate now: if the disk fills up later, access to the mapping ends in a bus error.
            os.posix_fallocate(file.fileno(), 0, num_bytes)
            return mmap.mmap(file.fileno(), num_bytes)
    except OSError as error:
        raise LoaderError(
            f"--cache disk: {format_bytes(num_bytes)} cannot be kept in {folder} ({error.strerror}); "
            "write a smaller --cache-limit, or --cache memory"
        ) from error
