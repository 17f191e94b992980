"""Reading of image and mask files: their size and kind are looked at before a pixel is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from vnbench.data.gray_png import encode_image, is_whole_png
from vnbench.data.gray_tiff import encode_tiff, is_whole_tiff
from vnbench.errors import CorpusError
from vnbench.spec import ImageFormat

TIFF_SUFFIXES = (".tif", ".tiff")


def encode(image_HW: NDArray[np.uint8], image_format: ImageFormat) -> bytes:
    """Return the file of an image, uint8 (H, W)."""
    return encode_image(image_HW) if image_format == "png" else encode_tiff(image_HW, image_format)


def is_whole(path: Path, *, expected_size: tuple[int, int]) -> bool:
    """Return whether a file has the header of an image of (height, width) and does not end too early."""
    return (is_whole_tiff if _is_tiff(path) else is_whole_png)(path, expected_size=expected_size)


def read_gray(path: Path, *, expected_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels of a file, uint8 (H, W), not to be written to. ``expected_size`` is (height, width) in pixels.

    The file is opened by Pillow's class for its kind and not by ``Image.open``, which warns above 89 million pixels and
    refuses above 179 for fear of decompression bombs: long logs have as many. The size that the manifest promises is
    the guard here, and it is compared before a pixel is decoded. Black and white become 0 and 255.

    Raises:
        CorpusError: the file is missing or unreadable, is no grayscale PNG or TIFF of 8 bits or (TIFF) of one, has
            another size than expected, or does not decode to its end.
    """
    opens: type[ImageFile] = TiffImageFile if _is_tiff(path) else PngImageFile
    try:
        with path.open("rb") as file, opens(file) as image:
            problem = _find_problem(image, expected_size=expected_size, modes=("L", "1") if _is_tiff(path) else ("L",))
            if problem is None:
                return np.asarray(image.convert("L") if image.mode == "1" else image)
    except FileNotFoundError:
        problem = "is missing"
    except Exception as error:  # a broken chunk surfaces as OSError, SyntaxError, ValueError, struct.error, zlib.error
        problem = f"does not decode: {error}"
    raise CorpusError(f"{path}: {problem}")


def describe_file(path: Path, *, expected_size: tuple[int, int]) -> str:
    """Return what kind of file an image is in, from its header alone: ``8-bit PNG``, ``1-bit TIFF (group4)``.

    Raises:
        CorpusError: as ``read_gray`` does, but for what only decoding shows.
    """
    opens: type[ImageFile] = TiffImageFile if _is_tiff(path) else PngImageFile
    try:
        with path.open("rb") as file, opens(file) as image:
            problem = _find_problem(image, expected_size=expected_size, modes=("L", "1") if _is_tiff(path) else ("L",))
            if problem is None:
                compression = image.info.get("compression")
                bits = "1-bit" if image.mode == "1" else "8-bit"
                return f"{bits} {image.format}" + (f" ({compression})" if compression else "")
    except FileNotFoundError:
        problem = "is missing"
    except Exception as error:  # as above
        problem = f"does not decode: {error}"
    raise CorpusError(f"{path}: {problem}")


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in TIFF_SUFFIXES


def _find_problem(image: ImageFile, *, expected_size: tuple[int, int], modes: tuple[str, ...]) -> str | None:
    height, width = expected_size
    if image.size != (width, height):
        return f"is {image.width} x {image.height} px, its manifest row says {width} x {height} px (width x height)"
    if image.mode not in modes:
        return f"has pixels of mode {image.mode!r}; 8-bit grayscale ('L') is needed"
    return None
