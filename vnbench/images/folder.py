"""A folder of one's own images and masks, without a manifest: paired by name, their sizes read from headers alone.

Two ways of naming are known: ``images/a/b.png`` with ``masks/a/b.png``, and ``b.png`` beside ``b_mask.png``; the ending
of the name may differ. What was read of a header is kept in the user's cache with the file's size and time, so that an
archive of many thousand files is looked through once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vnbench.batching.sizes import SizeArray, read_sizes_csv
from vnbench.errors import InputError, readable
from vnbench.images.gray_files import FILE_KINDS
from vnbench.images.headers import read_headers
from vnbench.images.manifest import ManifestRow
from vnbench.images.splits import validation_indices
from vnbench.units import count

IMAGES, MASKS = "images", "masks"
MASK_ENDING = "_mask"

MAX_NAMED = 3
"""Files that a message names; of more it tells the number."""


def pair_folder(root: Path) -> tuple[ManifestRow, ...]:
    """Return the examples of a folder in the order of their names, every fifth in the order of widths for validation.

    Raises:
        InputError: the folder cannot be read, holds no pairs, an image has no mask or one of another size, or a file's
            header cannot be read; files are named.
    """
    pairs = dict(_pairs(root))
    if not pairs:
        raise InputError(
            "--images",
            root,
            allowed="there are no images with masks",
            remedy=f"name them {IMAGES}/x.png and {MASKS}/x.png, or x.png and x{MASK_ENDING}.png",
        )
    lost = [str(image.relative_to(root)) for image, mask in pairs.items() if mask is None]
    if lost:
        raise _of_files(root, lost, problem="without a mask", remedy="add the masks, or take the images out")
    files = [*pairs, *(mask for mask in pairs.values() if mask is not None)]
    sizes = dict(zip(files, header_sizes(files, root=root).tolist(), strict=True))
    unequal = [
        f"{image.relative_to(root)} ({_told(sizes[image])}, its mask {_told(sizes[mask])})"
        for image, mask in pairs.items()
        if mask is not None and sizes[image] != sizes[mask]
    ]
    if unequal:
        raise _of_files(root, unequal, problem="with a mask of another size", remedy="mend or remove them")
    sizes_N2 = np.array([sizes[image] for image in pairs], dtype=np.int64)
    validation = validation_indices(sizes_N2)
    return tuple(
        ManifestRow(
            index=index,
            split="validation" if index in validation else "train",
            width=sizes[image][1],
            height=sizes[image][0],
            image=image.relative_to(root).as_posix(),
            mask=mask.relative_to(root).as_posix(),
        )
        for index, (image, mask) in enumerate(pairs.items())
        if mask is not None
    )


def has_images(root: Path) -> bool:
    """Return whether a folder holds image files that are no masks."""
    return root.is_dir() and next(_images(root), None) is not None


@readable("--sizes")
def read_sizes(path: Path) -> SizeArray:
    """Return the sizes that a CSV file lists or that the images of a folder have, as ``read_sizes_csv`` does.

    Raises:
        InputError: as ``read_sizes_csv``; or the folder cannot be read, holds no images, or one has no header.
    """
    if not path.is_dir():
        return read_sizes_csv(path)
    files = list(_images(path))
    if not files:
        raise InputError(
            "--sizes", path, allowed="there are no images in it", remedy="name a folder of images, or a CSV file"
        )
    return header_sizes(files, root=path)


def header_sizes(files: list[Path], *, root: Path) -> SizeArray:
    """Return height and width in pixels of each image file, from its header, or from the cache where it is the same.

    Raises:
        InputError: a header cannot be read; the first few files are named.
    """
    return np.array(
        [(one.height, one.width) for one in read_headers([str(path.relative_to(root)) for path in files], root=root)],
        dtype=np.int64,
    )


def _pairs(root: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield each image with its mask, by name; None for a missing one."""
    images, masks = root / IMAGES, root / MASKS
    if images.is_dir() and masks.is_dir():
        by_name = {path.relative_to(masks).with_suffix(""): path for path in _files(masks)}
        for image in _files(images):
            yield image, by_name.get(image.relative_to(images).with_suffix(""))
        return
    files = {path.with_suffix(""): path for path in _files(root)}
    for name, path in files.items():
        if not name.name.endswith(MASK_ENDING):
            yield path, files.get(name.with_name(name.name + MASK_ENDING))


def _images(root: Path) -> Iterator[Path]:
    """Yield the image files of a folder that are no masks."""
    images = root / IMAGES
    for path in _files(images if images.is_dir() and (root / MASKS).is_dir() else root):
        if not path.stem.endswith(MASK_ENDING):
            yield path


def _files(folder: Path) -> Iterator[Path]:
    """Yield all image files below a folder, by name. Links to folders are not followed: they may lead in a ring.

    Raises:
        OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in FILE_KINDS:
                yield path


def _told(size: list[int]) -> str:
    return f"{size[1]} x {size[0]} px"


def _of_files(root: Path, names: list[str], *, problem: str, remedy: str, option: str = "--images") -> InputError:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    told = f"{', '.join(names[:MAX_NAMED])}{more}"
    return InputError(option, root, allowed=f"holds {count(len(names), 'file')} {problem}: {told}", remedy=remedy)
