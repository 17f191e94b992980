"""Headers of the files of a folder, each read once, and the errors that they show."""

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
"""Version of the rules for reading a header. Raise it when they change, so that cached headers are read again."""


Check = Callable[[str, Header], str | None]
"""Takes a file's name and header; returns why its use as image or mask fails, beginning with the name, or None."""


def read_headers(names: Sequence[str], *, root: Path, check: Check | None = None) -> list[Header]:
    """Return the header of each image or mask file, from the cache if the file has not changed.

    Files are named relative to the folder ``root``. Without a ``check``, any readable header passes.

    Raises:
        InputError: a header cannot be read, claims a side above MAX_SIDE_PIXELS, or fails the check; the message names
            the first few files.
    """
    seen, problems = look_at_each(names, root=root, kind=f"headers-{RULES}-{PIL.__version__}", look=_look)
    headers = {name: Header(**values) for name, values in seen.items()}
    if problems and check is None:
        check = _broken  # report every broken file at once
    if check is not None:
        found = {name: check(name, header) for name, header in headers.items()}
        problems |= {name: problem for name, problem in found.items() if problem is not None}
    if problems:
        raise unusable_files(root, problems)
    return [headers[name] for name in names]


def check_files(rows: Sequence[ManifestRow], *, root: Path) -> list[Header]:
    """Return the headers of the images after checking all images and masks against a manifest.

    Raises:
        InputError: a file cannot be read, is of an unsupported kind, ends too early, or has another size than its row
            says; the message names the first few.
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
    """Return what makes a file unusable both as image and as mask; None if it can be one of them."""
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
        try:  # some files with an odd end still decode
            read_gray(path, expected_size=(height, width))
        except CorpusError as error:
            problem = str(error).removeprefix(f"{path}: ")
            header = replace(header, image_problem=problem, mask_problem=problem)
    return asdict(header)
