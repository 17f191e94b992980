"""A corpus on disk: images, masks and a manifest in one directory, which every trial reads.

DIR/images/000000.png   8-bit grayscale PNG
DIR/masks/000000.png    8-bit grayscale PNG with the class of each pixel
DIR/manifest.csv        size, split and files of each example
DIR/corpus.json         how the files were generated; absent for real scans
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vnbench.batching.sizes import SizeArray
from vnbench.errors import InputError, readable
from vnbench.images.finding.pairs import LeftOut, SplitBy
from vnbench.images.folder import pages_left_out, pair_folder
from vnbench.images.headers import check_files
from vnbench.images.known_files import Progress, content_digests, kind_of_no_file
from vnbench.images.manifest import COLUMNS, ManifestRow, read_manifest
from vnbench.records.spec.words import TASKS, ImageFormat, Task
from vnbench.records.values.identity import digest

MANIFEST_FILE = "manifest.csv"
FACTS_FILE = "corpus.json"

GENERATOR = "vnbench"
"""Value of ``generator`` in the ``corpus.json`` of a synthetic corpus."""

TIFF_SUFFIX = ".tif"
"""Suffix of every image file that is not a PNG."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Corpus:
    """A corpus as its manifest describes it. Equal corpora have the same ``corpus_id`` in any directory."""

    directory: Path
    """Directory of the corpus; not part of its identity."""
    sizes_N2: SizeArray
    """Height and width of each example in pixels, int64 (N, 2), read-only."""
    image_files: tuple[str, ...]
    """Image of each example, relative to ``directory``."""
    mask_files: tuple[str, ...]
    """Mask of each example, relative to ``directory``."""
    is_train: NDArray[np.bool_]
    """Whether each example is for training rather than validation, bool (N,), read-only."""
    task: Task | None
    """Task that the masks are for; None if ``corpus.json`` does not say."""
    corpus_id: str
    """Digest of the manifest's rows, of ``corpus.json`` and, unless the corpus is synthetic, of every file's
    content."""
    split_by: SplitBy | None = None
    """How the validation examples were chosen; None if the manifest lists them."""
    left_out: tuple[LeftOut, ...] = ()
    """Files that are not read; with a manifest only later pages, since it lists the files to read."""

    def __len__(self) -> int:
        return len(self.image_files)

    @property
    def train_indices(self) -> NDArray[np.int64]:
        """Indices of the training examples, int64, ascending."""
        return np.flatnonzero(self.is_train)

    def image_path(self, index: int) -> Path:
        """Return the path of one example's image."""
        return self.directory / self.image_files[index]

    def mask_path(self, index: int) -> Path:
        """Return the path of one example's mask."""
        return self.directory / self.mask_files[index]

    def in_format(self, image_format: ImageFormat) -> Corpus:
        """Return the same corpus with its images in another format, stored beside the manifest's PNG files."""
        return replace(self, image_files=tuple(file_in_format(name, image_format) for name in self.image_files))


def file_in_format(image: str, image_format: ImageFormat) -> str:
    """Return the path of a manifest's image in a format, in a folder beside the one of the PNG files."""
    if image_format == "png":
        return image
    path = PurePosixPath(image)
    return str(path.parent.with_name(f"{path.parent.name}.{image_format}") / f"{path.stem}{TIFF_SUFFIX}")


@readable("corpus")
def load_corpus(directory: Path | str, *, is_partial: bool = False, on_progress: Progress | None = None) -> Corpus:
    """Return the corpus in a directory after checking its manifest and the headers of its files.

    Unless the corpus is synthetic, each file is then read once for the corpus's identity, and again when it changes;
    ``on_progress`` is told how many of these files are done.

    Without a manifest, images and masks are paired by name and their sizes are read from headers. A directory that
    holds ``corpus.json`` needs its manifest: without it, an unfinished build would pass for a folder of images. With
    ``is_partial``, files may be missing: a cached synthetic corpus holds only the examples that some sweep needed.

    Raises:
        InputError: the manifest or ``corpus.json`` cannot be used, or a file is missing or has an unusable header; the
            message names the files.
    """
    directory = Path(directory)
    manifest = _manifest_of(directory)
    is_listed = manifest.exists() or (directory / FACTS_FILE).exists()
    rows, found = (read_manifest(manifest), None) if is_listed else pair_folder(directory)
    for row in () if is_partial else rows:
        for column, name in (("image", row.image), ("mask", row.mask)):
            path = directory / name
            if not path.is_file():
                kind = kind_of_no_file(path.stat()) if path.exists() else None
                problem = f"there is no file {path}" if kind is None else f"{path} is not a regular file ({kind})"
                raise InputError(
                    f"{manifest}, index {row.index}:",
                    f"{column}={name!r}",
                    allowed=problem,
                    remedy="restore it, remove the row, or write the corpus again",
                )
    left_out = found.left_out if found else ()
    if not is_partial:
        left_out += pages_left_out([row.image for row in rows], check_files(rows, root=directory))
    facts = read_facts(directory)
    is_drawn = facts is not None and facts.get("generator") == GENERATOR
    contents = None if is_drawn else content_digests(_names(rows), root=directory, on_progress=on_progress)
    corpus = describe_corpus(rows, directory=directory, facts=facts, contents=contents)
    return replace(corpus, split_by=found.split_by if found else None, left_out=left_out)


def _manifest_of(directory: Path) -> Path:
    """Return the path of a directory's manifest, whether or not it exists. Its name may be in capitals."""
    path = directory / MANIFEST_FILE
    if path.exists() or not directory.is_dir():
        return path
    return min((other for other in directory.iterdir() if other.name.lower() == MANIFEST_FILE), default=path)


def describe_corpus(
    rows: Sequence[ManifestRow],
    *,
    directory: Path,
    facts: Mapping[str, Any] | None,
    contents: Sequence[str] | None = None,
) -> Corpus:
    """Return the corpus that these rows and facts describe, whether or not its files exist.

    ``contents`` holds the digest of every file; None for a synthetic corpus, whose facts determine its pixels.
    """
    sizes_N2 = np.array([(row.height, row.width) for row in rows], dtype=np.int64)
    is_train = np.array([row.split == "train" for row in rows])
    for array in (sizes_N2, is_train):
        array.setflags(write=False)
    return Corpus(
        directory=directory,
        sizes_N2=sizes_N2,
        image_files=tuple(row.image for row in rows),
        mask_files=tuple(row.mask for row in rows),
        is_train=is_train,
        task=None if facts is None else facts.get("task"),
        corpus_id=digest(
            {"manifest": [_identity(row) for row in rows], "facts": facts}
            | ({} if contents is None else {"contents": list(contents)})
        ),
    )


def _identity(row: ManifestRow) -> dict[str, Any]:
    """Return a row in JSON values, with file names in Unicode NFC: macOS stores a letter and its accent apart."""
    values = {column: getattr(row, column) for column in COLUMNS}
    return values | {column: unicodedata.normalize("NFC", values[column]) for column in ("image", "mask")}


def _names(rows: Sequence[ManifestRow]) -> list[str]:
    return [name for row in rows for name in (row.image, row.mask)]


def read_facts(directory: Path) -> Mapping[str, Any] | None:
    """Return the content of ``corpus.json``, which says how a corpus was generated; None if there is no such file.

    Raises:
        InputError: the file is not a JSON object or names an unknown task.
    """
    path = directory / FACTS_FILE
    kind = kind_of_no_file(path.stat()) if path.exists() else None
    if kind is not None:
        raise _unusable_facts(path, f"is not a regular file ({kind})")
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unusable_facts(path, f"cannot be read as JSON ({error})") from error
    if not isinstance(facts, dict):
        raise _unusable_facts(path, "is not a JSON object")
    if facts.get("task") not in (None, *TASKS):
        raise _unusable_facts(path, f"names the unknown task {facts['task']!r}; known are {', '.join(TASKS)}")
    return facts


def _unusable_facts(path: Path, problem: str) -> InputError:
    return InputError(str(path), allowed=problem, remedy="correct or delete the file, or write the corpus again")
