"""Headers of the files of a folder, each read once; and the files that cannot be used, as far as headers tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import PIL

from vnbench.errors import CorpusError
from vnbench.images.decoding.gray_files import Header, check_header, look_at, read_gray
from vnbench.images.decoding.whole_files import seems_whole, stand_in_of
from vnbench.images.known_files import look_at_each, unusable_files
from vnbench.images.manifest import ManifestRow
from vnbench.units import MAX_SIDE_PIXELS

RULES = 2
"""To be raised where something else is seen in the same header, so that nothing seen before counts any more."""


Check = Callable[[str, Header], str | None]
"""Returns why the file of a name cannot be used as what it is for, in a line that begins with the name; else None."""


def read_headers(names: Sequence[str], *, root: Path, check: Check | None = None) -> list[Header]:
    """Return the header of each image or mask file, or what is known of it where it is the same.

    Files are named relative to the folder ``root``. Without a ``check`` a header that can be read will do.

    Raises:
        InputError: a header cannot be read, claims a side above MAX_SIDE_PIXELS, or does not pass; the first few files
            are named.
    """
    seen, problems = look_at_each(names, root=root, kind=f"headers-{RULES}-{PIL.__version__}", look=_look)
    headers = {name: Header(**values) for name, values in seen.items()}
    if problems and check is None:
        check = _broken  # who mends one file wants to know of all
    if check is not None:
        found = {name: check(name, header) for name, header in headers.items()}
        problems |= {name: problem for name, problem in found.items() if problem is not None}
    if problems:
        raise unusable_files(root, problems)
    return [headers[name] for name in names]


def check_files(rows: Sequence[ManifestRow], *, root: Path) -> list[Header]:
    """Return the headers of the images, if none tells that a file cannot be used as what a manifest takes it for.

    Raises:
        InputError: a file cannot be read, is of a kind that is not, ends too early, or has another size than its row
            says; the first few are named.
    """
    uses = {row.image: (row, False) for row in rows} | {row.mask: (row, True) for row in rows}

    def check(name: str, header: Header) -> str | None:
        row, is_mask = uses[name]
        try:
            check_header(header, Path(name), expected_size=(row.height, row.width), is_mask=is_mask)
        except CorpusError as error:
            return str(error)
        return None

    headers = dict(zip(uses, read_headers(list(uses), root=root, check=check), strict=True))
    return [headers[row.image] for row in rows]


def _broken(name: str, header: Header) -> str | None:
    """Return what is wrong with a file whatever it is for."""
    is_broken = header.image_problem is not None and header.image_problem == header.mask_problem
    return f"{name}: {header.image_problem}" if is_broken else None


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
