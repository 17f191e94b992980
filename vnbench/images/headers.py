"""Headers of the files of a folder, each read once; and the files that cannot be used, as far as headers tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import PIL

from vnbench.errors import CorpusError
from vnbench.images.gray_files import Header, check_header, look_at, read_gray
from vnbench.images.known_files import look_at_each, unusable_files
from vnbench.images.manifest import ManifestRow
from vnbench.images.whole_files import seems_whole, stand_in_of
from vnbench.units import MAX_SIDE_PIXELS

RULES = 1
"""To be raised where something else is seen in the same header, so that nothing seen before counts any more."""


def read_headers(names: Sequence[str], *, root: Path) -> list[Header]:
    """Return the header of each image or mask file, or what is known of it where it is the same.

    Files are named relative to the folder ``root``.

    Raises:
        InputError: a header cannot be read, or claims a side above MAX_SIDE_PIXELS; the first few files are named.
    """
    seen = look_at_each(names, root=root, kind=f"headers-{RULES}-{PIL.__version__}", look=_look)
    return [Header(**values) for values in seen]


def check_files(rows: Sequence[ManifestRow], *, root: Path) -> None:
    """Refuse files of which headers tell that they cannot be used as what a manifest takes them for.

    Raises:
        InputError: a file cannot be read, is of a kind that is not, ends too early, or has another size than its row
            says; the first few are named.
    """
    masks = [row.mask for row in rows]
    names = [*(row.image for row in rows), *masks]
    headers = read_headers(names, root=root)
    problems: dict[str, str] = {}
    for number, (name, header) in enumerate(zip(names, headers, strict=True)):
        row = rows[number % len(rows)]
        try:
            check_header(header, Path(name), expected_size=(row.height, row.width), is_mask=number >= len(rows))
        except CorpusError as error:
            problems.setdefault(name, str(error))
    if problems:
        raise unusable_files(root, sorted(problems.values()))


def _look(path: Path) -> dict[str, Any]:
    try:
        header = look_at(path)
    except CorpusError as error:
        instead = stand_in_of(path)
        raise error if instead is None else CorpusError(f"{path}: {instead}") from error
    height, width = header.height, header.width
    if max(height, width) > MAX_SIDE_PIXELS or min(height, width) < 1:
        raise CorpusError(f"{path}: claims {width} x {height} px")
    if header.image_problem is None and not seems_whole(path):
        try:  # some files that end oddly decode all the same
            read_gray(path, expected_size=(height, width))
        except CorpusError as error:
            problem = str(error).removeprefix(f"{path}: ")
            header = replace(header, image_problem=problem, mask_problem=problem)
    return asdict(header)
