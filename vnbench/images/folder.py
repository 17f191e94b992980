"""A folder of one's own images and masks, without a manifest: its rows, their sizes read from headers alone.

What was read of a header is kept in the user's cache with the file's size and time, so that an archive of many thousand
files is looked through once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vnbench.batching.sizes import SizeArray, read_sizes_csv
from vnbench.errors import InputError, readable
from vnbench.images.decoding.gray_files import Header
from vnbench.images.finding.names import read_folder_name
from vnbench.images.finding.pairs import (
    MASKS_ALONE,
    Found,
    LeftOut,
    Pair,
    find_pairs,
    folder_beside,
)
from vnbench.images.headers import read_headers
from vnbench.images.manifest import ManifestRow
from vnbench.images.splits import validation_indices
from vnbench.units import MAX_NAMED, count, first_few


def pair_folder(root: Path) -> tuple[tuple[ManifestRow, ...], Found]:
    """Return the examples of a folder in the order of their names, and how they were found.

    For validation are those that folders say, otherwise every fifth in the order of widths.

    Raises:
        InputError: there are no images that are read, an image has no mask or one of another size, a header cannot be
            read, or the folder may be read in two ways; files are named.
    """
    found = find_pairs(root)
    lost = [pair.image for pair in found.pairs if pair.mask is None]
    if lost:
        others = "".join(f"; {left_out}" for left_out in found.left_out)
        raise _of_files(root, lost, problem="without a mask", remedy=_remedy(found, root), others=others)
    sizes_N2 = _sizes_of(_image_headers(found.pairs, compares=lambda _: True, root=root))
    by_width = validation_indices(sizes_N2) if found.split_by == "widths" else set()
    rows = tuple(
        ManifestRow(
            index=index,
            split="validation" if pair.split == "validation" or index in by_width else "train",
            width=width,
            height=height,
            image=pair.image,
            mask=pair.mask,
        )
        for index, (pair, (height, width)) in enumerate(zip(found.pairs, sizes_N2.tolist(), strict=True))
        if pair.mask is not None
    )
    return rows, found


def read_sizes(path: Path) -> SizeArray:
    """Return the sizes that a CSV file lists or that the images of a folder have, as ``read_sizes_csv`` does.

    Raises:
        InputError: as ``read_sizes_csv``; or the folder cannot be read, holds no images, or one has no header.
    """
    return read_sizes_with_notes(path)[0]


def _remedy(found: Found, root: Path) -> str:
    """Return what to do about images without a mask."""
    if any(left_out.what == MASKS_ALONE for left_out in found.left_out):
        return "name each mask as its image is"
    beside = None if any(pair.mask for pair in found.pairs) else folder_beside(root)
    if beside is not None:
        return f"name {beside.parent} if their {read_folder_name(beside.name).role}s lie in {beside}"
    return "add the masks, or take the images out"


@readable("--sizes")
def read_sizes_with_notes(path: Path) -> tuple[SizeArray, tuple[str, ...]]:
    """Return what ``read_sizes`` does, and a line for each kind of files that were passed over.

    Masks are no images, and need not be there.
    """
    if not path.is_dir():
        return read_sizes_csv(path), ()
    is_of_masks = _is_named_as_of_masks(path)
    found = find_pairs(path, counts_masks=is_of_masks)
    # A mask that has the very name of its image may be a scan, and the image its preview: only sizes tell.
    headers = _image_headers(found.pairs, compares=lambda pair: pair.has_one_name, root=path)
    num_masks = sum(pair.mask is not None for pair in found.pairs)
    masks = (f"masks, not counted: {num_masks:,}",) if num_masks else ()
    if is_of_masks and not masks:
        masks = ("by its name this folder holds masks; their sizes are counted",)
    pages = pages_left_out([pair.image for pair in found.pairs], headers)
    return _sizes_of(headers), tuple(f"{path}: {line}" for line in (*masks, *found.left_out, *pages))


def _is_named_as_of_masks(path: Path) -> bool:
    """Return whether a folder, or the one above where its own name is of a split alone, is named as one of masks."""
    inner = Path(os.path.abspath(path))
    own = read_folder_name(inner.name)
    return (own if own.role or own.rest else read_folder_name(inner.parent.name)).role == "mask"


def _image_headers(pairs: Sequence[Pair], *, compares: Callable[[Pair], bool], root: Path) -> list[Header]:
    """Return the headers of images, whose sizes are compared with those of their masks where ``compares`` says so.

    Raises:
        InputError: a header cannot be read, or a mask has another size than its image; files are named.
    """
    masks = {number: pair.mask for number, pair in enumerate(pairs) if pair.mask is not None and compares(pair)}
    names = [*(pair.image for pair in pairs), *masks.values()]
    headers = read_headers(names, root=root)
    unequal = [
        f"{pairs[number].image} ({_told(headers[number])}, its mask {_told(mask)})"
        for number, mask in zip(masks, headers[len(pairs) :], strict=True)
        if (headers[number].height, headers[number].width) != (mask.height, mask.width)
    ]
    if unequal:
        remedy = "mend or remove them; if they are previews, move them elsewhere"
        raise _of_files(root, unequal, problem="with a mask of another size", remedy=remedy)
    return headers[: len(pairs)]


def pages_left_out(names: Sequence[str], headers: Sequence[Header]) -> tuple[LeftOut, ...]:
    """Return the pages of image files that are not read: the first one is the image."""
    paged = [name for name, header in zip(names, headers, strict=True) if header.num_pages > 1]
    num_pages = sum(header.num_pages - 1 for header in headers)
    what = f"later pages of image files ({num_pages:,} pages)"
    pages = LeftOut(what=what, count=len(paged), first_files=tuple(paged[:MAX_NAMED]))
    return (pages,) if paged else ()


def _sizes_of(headers: Sequence[Header]) -> SizeArray:
    return np.array([(header.height, header.width) for header in headers], dtype=np.int64)


def _told(header: Header) -> str:
    return f"{header.width} x {header.height} px"


def _of_files(root: Path, names: list[str], *, problem: str, remedy: str, others: str = "") -> InputError:
    files = count(len(names), "file")
    return InputError(str(root), allowed=f"holds {files} {problem}: {first_few(names)}{others}", remedy=remedy)
