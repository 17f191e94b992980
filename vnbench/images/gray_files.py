"""Reading of image and mask files: their size and kind are looked at before a pixel is decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from vnbench.errors import CorpusError
from vnbench.images.gray_png import encode_image, is_whole_png
from vnbench.images.gray_tiff import encode_tiff, is_whole_tiff
from vnbench.records.spec.words import ImageFormat

T = TypeVar("T")

FILE_KINDS: Mapping[str, type[ImageFile]] = {
    ".png": PngImageFile,
    ".tif": TiffImageFile,
    ".tiff": TiffImageFile,
    ".jpg": JpegImageFile,
    ".jpeg": JpegImageFile,
}
"""Pillow's class for each ending of a file's name."""

IMAGE_MODES: Mapping[str, str] = {
    "1": "1-bit",
    "L": "8-bit",
    "I;16": "16-bit",
    "I;16B": "16-bit",
    "RGB": "RGB",
}
"""Pixels of images that become 8-bit gray: black and white 0 and 255, 16 bits their upper 8, colours their luma."""

MASK_MODES: Mapping[str, str] = {"L": "8-bit", "P": "8-bit palette", "1": "1-bit"}
"""Pixels of masks that are classes as they are; of a palette its indices."""


def encode(image_HW: NDArray[np.uint8], image_format: ImageFormat) -> bytes:
    """Return the file of an image, uint8 (H, W)."""
    return encode_image(image_HW) if image_format == "png" else encode_tiff(image_HW, image_format)


def is_whole(path: Path, *, expected_size: tuple[int, int]) -> bool:
    """Return whether a file has the header of an image of (height, width) and does not end too early."""
    is_tiff = FILE_KINDS.get(path.suffix.lower()) is TiffImageFile
    return (is_whole_tiff if is_tiff else is_whole_png)(path, expected_size=expected_size)


def read_gray(path: Path, *, expected_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels of an image, uint8 (H, W), read-only; ``expected_size`` is (height, width) in pixels.

    The file is opened by Pillow's class for its kind and not by ``Image.open``, which warns above 89 million pixels and
    refuses above 179 for fear of decompression bombs: long logs have as many. The size that the manifest promises is
    the guard here, and it is compared before a pixel is decoded.

    Raises:
        CorpusError: the file is missing or unreadable, is of no kind in FILE_KINDS or IMAGE_MODES, has another size
            than expected, or does not decode to its end.
    """
    return _looked_at(path, _pixels, expected_size=expected_size, modes=IMAGE_MODES)


def read_mask(path: Path, *, expected_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the classes of a mask, uint8 (H, W), as ``read_gray`` does.

    Raises:
        CorpusError: as ``read_gray``, with MASK_MODES.
    """
    return _looked_at(
        path,
        lambda image: np.asarray(image).astype(np.uint8, copy=False),
        expected_size=expected_size,
        modes=MASK_MODES,
    )


def describe_file(path: Path, *, expected_size: tuple[int, int]) -> str:
    """Return what kind of file an image is in, from its header alone: ``8-bit PNG``, ``1-bit TIFF (group4)``.

    Raises:
        CorpusError: as ``read_gray`` does, but for what only decoding shows.
    """
    return _looked_at(path, _kind, expected_size=expected_size, modes=IMAGE_MODES)


def read_size(path: Path) -> tuple[int, int]:
    """Return height and width in pixels of an image, from its header alone.

    Raises:
        CorpusError: the file is missing, unreadable, or of no kind in FILE_KINDS.
    """
    return _looked_at(path, lambda image: (image.height, image.width), expected_size=None, modes=None)


def _pixels(image: ImageFile) -> NDArray[np.uint8]:
    if image.mode == "L":
        return np.asarray(image)
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    return np.asarray(image.convert("L"))


def _kind(image: ImageFile) -> str:
    compression = image.info.get("compression")
    return f"{IMAGE_MODES[image.mode]} {image.format}" + (f" ({compression})" if compression else "")


def _looked_at(
    path: Path,
    look: Callable[[ImageFile], T],
    *,
    expected_size: tuple[int, int] | None,
    modes: Mapping[str, str] | None,
) -> T:
    """Return what is seen of an opened file whose size and pixels are as expected; None expects nothing."""
    opens = FILE_KINDS.get(path.suffix.lower())
    if opens is None:
        raise CorpusError(f"{path}: is no image file; {', '.join(FILE_KINDS)} are read")
    try:
        with path.open("rb") as file, opens(file) as image:
            problem = _find_problem(image, expected_size=expected_size, modes=modes)
            if problem is None:
                return look(image)
    except FileNotFoundError:
        problem = "is missing"
    except PermissionError as error:
        problem = f"cannot be read ({error.strerror})"
    except Exception as error:  # a broken chunk surfaces as OSError, SyntaxError, ValueError, struct.error, zlib.error
        problem = f"does not decode: {error}"
    raise CorpusError(f"{path}: {problem}")


def _find_problem(
    image: ImageFile, *, expected_size: tuple[int, int] | None, modes: Mapping[str, str] | None
) -> str | None:
    if expected_size is not None and image.size != expected_size[::-1]:
        height, width = expected_size
        return f"is {image.width} x {image.height} px, its manifest row says {width} x {height} px (width x height)"
    if modes is not None and image.mode not in modes:
        return f"has pixels of mode {image.mode!r}; {', '.join(modes)} are read"
    return None
