"""A folder of one's own images and masks, without a manifest: paired by name, their sizes read from headers alone.

Two ways of naming are known: ``images/a/b.png`` with ``masks/a/b.png``, and ``b.png`` beside ``b_mask.png``; the ending
of the name may differ. What was read of a header is kept in the user's cache with the file's size and time, so that an
archive of many thousand files is looked through once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from vnbench.batching.sizes import SizeArray, read_sizes_csv
from vnbench.errors import CorpusError, InputError, readable
from vnbench.images.cache_root import default_cache_root
from vnbench.images.gray_files import FILE_KINDS, read_size
from vnbench.images.manifest import ManifestRow
from vnbench.images.splits import validation_indices
from vnbench.records.identity import digest
from vnbench.units import MAX_SIDE_PIXELS, count

IMAGES, MASKS = "images", "masks"
MASK_ENDING = "_mask"

HEADERS = "headers-upright"
"""Folder in the user's cache of what was read of headers; ``headers`` has sizes of images that were not turned."""

MAX_THREADS = 8
"""Opening a file waits for the disk, which a thread can do while another decodes a header."""

MAX_NAMED = 3
"""Files that a message names; of more it tells the number."""

Headers = dict[str, list[int]]
"""By path: bytes and modification time (ns) of the file, height and width in pixels of its image."""


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
    return header_sizes(files, root=path, option="--sizes")


def header_sizes(files: list[Path], *, root: Path, option: str = "--images") -> SizeArray:
    """Return height and width in pixels of each image file, from its header, or from the cache where it is the same.

    ``option`` is the one that named the folder.

    Raises:
        InputError: a header cannot be read, or claims a side above MAX_SIDE_PIXELS; the first few files are named.
    """
    cache = default_cache_root() / HEADERS / f"{digest(str(root.resolve()))}.json"
    known = _read_cache(cache)
    problems: list[str] = []

    def look(path: Path) -> tuple[str, list[int]] | None:
        try:
            state = path.stat()
            stamp = [state.st_size, state.st_mtime_ns]
            entry = known.get(str(path))
            height, width = entry[2:] if entry is not None and entry[:2] == stamp else read_size(path)
        except (CorpusError, OSError) as error:
            problems.append(str(error).removeprefix(f"{root}/"))
            return None
        if max(height, width) > MAX_SIDE_PIXELS or min(height, width) < 1:
            problems.append(f"{path.relative_to(root)}: claims {width} x {height} px")
        return str(path), [*stamp, height, width]

    with ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        found = list(pool.map(look, files))
    if problems:
        raise _of_files(
            root, sorted(problems), problem="that cannot be used", remedy="mend or remove them", option=option
        )
    headers = dict(entry for entry in found if entry is not None)
    if headers != known:
        _write_cache(cache, headers)
    return np.array([headers[str(path)][2:] for path in files], dtype=np.int64)


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


def _read_cache(path: Path) -> Headers:
    with suppress(OSError, ValueError):
        values: Any = json.loads(path.read_bytes())
        if isinstance(values, dict) and all(isinstance(entry, list) and len(entry) == 4 for entry in values.values()):
            return values
    return {}


def _write_cache(path: Path, headers: Mapping[str, list[int]]) -> None:
    """Keep what was read; a cache that cannot be written costs nothing but time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(json.dumps(headers), encoding="utf-8")
        part.replace(path)


def _told(size: list[int]) -> str:
    return f"{size[1]} x {size[0]} px"


def _of_files(root: Path, names: list[str], *, problem: str, remedy: str, option: str = "--images") -> InputError:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    told = f"{', '.join(names[:MAX_NAMED])}{more}"
    return InputError(option, root, allowed=f"holds {count(len(names), 'file')} {problem}: {told}", remedy=remedy)
