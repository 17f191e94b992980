"""A corpus on disk: a directory of images and masks with a manifest, read by every trial.

DIR/images/000000.png   8-bit grayscale PNG
DIR/masks/000000.png    8-bit grayscale PNG, the class of each pixel
DIR/manifest.csv        sizes, splits and files of the examples
DIR/corpus.json         how the files were made; a corpus of real scans needs none
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
"""Who made the files of a corpus, as its facts say, where they were drawn."""

TIFF_SUFFIX = ".tif"
"""Of image files that are no PNG."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Corpus:
    """A corpus as its manifest describes it. Equal corpora have equal ``corpus_id``, wherever they lie."""

    directory: Path
    """Where it lies; no part of its identity."""
    sizes_N2: SizeArray
    """Height and width of each example in pixels, int64 (N, 2), read-only."""
    image_files: tuple[str, ...]
    """Image of each example, relative to ``directory``."""
    mask_files: tuple[str, ...]
    """Mask of each example, relative to ``directory``."""
    is_train: NDArray[np.bool_]
    """Whether each example is trained on, bool (N,), read-only; the others are for validation."""
    task: Task | None
    """Which masks it holds; None where nobody said."""
    corpus_id: str
    """Digest of the manifest's rows, of ``corpus.json``, and of the content of all files unless they were drawn."""
    split_by: SplitBy | None = None
    """What tells the examples for validation; None where a manifest does."""
    left_out: tuple[LeftOut, ...] = ()
    """What is not read; of a manifest's folder only pages, as it lists the files that are."""

    def __len__(self) -> int:
        return len(self.image_files)

    @property
    def train_indices(self) -> NDArray[np.int64]:
        """Indices of the examples to train on, int64, ascending."""
        return np.flatnonzero(self.is_train)

    def image_path(self, index: int) -> Path:
        """Return where the image of one example lies."""
        return self.directory / self.image_files[index]

    def mask_path(self, index: int) -> Path:
        """Return where the mask of one example lies."""
        return self.directory / self.mask_files[index]

    def in_format(self, image_format: ImageFormat) -> Corpus:
        """Return the same corpus with its images' files in a format: those beside the PNG files of the manifest."""
        return replace(self, image_files=tuple(file_in_format(name, image_format) for name in self.image_files))


def file_in_format(image: str, image_format: ImageFormat) -> str:
    """Return where the image of a manifest's row lies in a format, in a folder beside that of the PNG files."""
    if image_format == "png":
        return image
    path = PurePosixPath(image)
    return str(path.parent.with_name(f"{path.parent.name}.{image_format}") / f"{path.stem}{TIFF_SUFFIX}")


@readable("corpus")
def load_corpus(directory: Path | str, *, is_partial: bool = False, on_progress: Progress | None = None) -> Corpus:
    """Return the corpus of a directory, its manifest checked and its files found.

    The files of a corpus that was not drawn are read once, for its identity, and again when they change;
    ``on_progress`` is told how many of them are done. What headers tell against a file is found before that.

    A folder of images and masks without a manifest is paired by names, its sizes read from headers; one that a build
    was killed in is not. With ``is_partial`` files may be missing: of a synthetic corpus in the cache only those are
    written that some sweep has measured.

    Raises:
        InputError: the manifest or ``corpus.json`` cannot be used, or a file is missing or cannot be used as far as
            headers tell; files are named.
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
                problem = f"there is no file {path}" if kind is None else f"{path} is no regular file ({kind})"
                raise InputError(
                    f"{manifest}, index {row.index}:",
                    f"{column}={name!r}",
                    allowed=problem,
                    remedy="put it back, take the row out, or write the corpus again",
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
    """Return where the manifest of a directory lies, or would: people write its name in capitals, too."""
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
    """Return the corpus that these rows and facts describe, whether or not its files are there.

    ``contents`` are the digests of all files; None of drawn ones, whose pixels the facts determine.
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
    """Return a row in JSON values, its names as Linux writes them: macOS keeps a letter and its accent apart."""
    values = {column: getattr(row, column) for column in COLUMNS}
    return values | {column: unicodedata.normalize("NFC", values[column]) for column in ("image", "mask")}


def _names(rows: Sequence[ManifestRow]) -> list[str]:
    return [name for row in rows for name in (row.image, row.mask)]


def read_facts(directory: Path) -> Mapping[str, Any] | None:
    """Return what ``corpus.json`` says of the making of a corpus, None where there is no such file.

    Raises:
        InputError: it is no JSON object, or names an unknown task.
    """
    path = directory / FACTS_FILE
    kind = kind_of_no_file(path.stat()) if path.exists() else None
    if kind is not None:
        raise _unusable_facts(path, f"is no regular file ({kind})")
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unusable_facts(path, f"cannot be read as JSON ({error})") from error
    if not isinstance(facts, dict):
        raise _unusable_facts(path, "is no JSON object")
    if facts.get("task") not in (None, *TASKS):
        raise _unusable_facts(path, f"names the task {facts['task']!r}, which is none of {', '.join(TASKS)}")
    return facts


def _unusable_facts(path: Path, problem: str) -> InputError:
    return InputError(str(path), allowed=problem, remedy="correct or delete the file, or write the corpus again")
