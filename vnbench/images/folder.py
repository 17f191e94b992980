"""Manifest rows for a folder of images and masks that has no manifest, with sizes read from headers alone.

Headers are kept in the user's cache with each file's size and times, so that an archive of many thousand files is read
once.
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
    """Return the examples of a folder, ordered by name, and how they were found.

    Folder names choose the validation examples; without such names every fifth example by width is for validation.

    Raises:
        InputError: no image can be read, an image has no mask or a mask of another size, a header cannot be read, or
            the folder's layout is ambiguous; the message names the files.
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
    """Return the sizes listed in a CSV file or found in the images of a folder, in the form of ``read_sizes_csv``.

    Raises:
        InputError: as ``read_sizes_csv``; or the folder cannot be read, holds no images, or has an unreadable header.
    """
    return read_sizes_with_notes(path)[0]


def _remedy(found: Found, root: Path) -> str:
    """Return advice about images without a mask."""
    if any(left_out.what == MASKS_ALONE for left_out in found.left_out):
        return "give each mask the name of its image"
    beside = None if any(pair.mask for pair in found.pairs) else folder_beside(root)
    if beside is not None:
        return f"name {beside.parent} if their {read_folder_name(beside.name).role}s lie in {beside}"
    return "add the masks, or remove the images"


@readable("--sizes")
def read_sizes_with_notes(path: Path) -> tuple[SizeArray, tuple[str, ...]]:
    """Return what ``read_sizes`` does, and a line for each kind of file that was skipped.

    Masks do not count as images, and may be missing.
    """
    if not path.is_dir():
        return read_sizes_csv(path), ()
    is_of_masks = _is_named_as_of_masks(path)
    found = find_pairs(path, counts_masks=is_of_masks)
    # If mask and image share a name, the "mask" may be the scan and the image its preview: only sizes can tell.
    headers = _image_headers(found.pairs, compares=lambda pair: pair.has_one_name, root=path)
    num_masks = sum(pair.mask is not None for pair in found.pairs)
    masks = (f"masks, not counted: {num_masks:,}",) if num_masks else ()
    if is_of_masks and not masks:
        masks = ("by its name this folder holds masks; their sizes are counted",)
    pages = pages_left_out([pair.image for pair in found.pairs], headers)
    return _sizes_of(headers), tuple(f"{path}: {line}" for line in (*masks, *found.left_out, *pages))


def _is_named_as_of_masks(path: Path) -> bool:
    """Return whether a folder's name says that it holds masks. If it names only a split, the parent's name counts."""
    inner = Path(os.path.abspath(path))
    own = read_folder_name(inner.name)
    return (own if own.role or own.rest else read_folder_name(inner.parent.name)).role == "mask"


def _image_headers(pairs: Sequence[Pair], *, compares: Callable[[Pair], bool], root: Path) -> list[Header]:
    """Return the headers of images. Where ``compares`` is true of a pair, its mask must have the size of its image.

    Raises:
        InputError: a header cannot be read, or a mask has another size than its image; the message names the files.
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
        remedy = "repair or remove them; if they are previews, move them elsewhere"
        raise _of_files(root, unequal, problem="with a mask of another size", remedy=remedy)
    return headers[: len(pairs)]


def pages_left_out(names: Sequence[str], headers: Sequence[Header]) -> tuple[LeftOut, ...]:
    """Return the later pages of image files, which are not read: only the first page is the image."""
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
