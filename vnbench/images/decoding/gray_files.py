"""Reading of image and mask files, whose size and kind are checked before a pixel is decoded."""

from __future__ import annotations

import errno
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from vnbench.errors import CorpusError
from vnbench.images.decoding.gray_png import encode_image, exif_behind_pixels, is_whole_png, without_remarks
from vnbench.images.decoding.gray_tiff import encode_tiff, is_whole_tiff
from vnbench.images.decoding.pixel_rules import (
    UPRIGHT,
    classes_of,
    depth_of,
    find_image_problem,
    find_mask_problem,
    gray_of,
    orientation_of,
    pages_of,
    upright_size,
)
from vnbench.images.decoding.whole_files import seems_whole
from vnbench.records.spec.words import ImageFormat

T = TypeVar("T")

# A file that Pillow warns about is either read or refused with a message.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")

FILE_KINDS: Mapping[str, type[ImageFile]] = {
    ".png": PngImageFile,
    ".tif": TiffImageFile,
    ".tiff": TiffImageFile,
    ".jpg": JpegImageFile,
    ".jpeg": JpegImageFile,
    ".jfif": JpegImageFile,
    ".bmp": BmpImageFile,
    ".webp": WebPImageFile,
    ".gif": GifImageFile,
}
"""Pillow's class for each file name suffix. JPEG 2000 and the PNM family are left out: Pillow stretches their pixels of
few bits to eight bits, which would change masks."""

UNKNOWN_LAYOUT = "has pixels of an unsupported depth or layout; save it as 8-bit or 16-bit gray"
"""Message in place of Pillow's ``unknown pixel mode``."""

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors on opening a file that are not the file's fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Content of an image file's header."""

    height: int
    """Height in pixels of the image once it is upright."""
    width: int
    """Width in pixels of the image once it is upright."""
    kind: str
    """Kind of pixels and format: ``8-bit PNG``, ``1-bit TIFF (group4)``."""
    orientation: int
    """EXIF orientation, 1 for an image that is stored upright."""
    num_pages: int
    """Number of images in the file; the first one is read."""
    image_problem: str | None
    """Why it cannot be read as an image; None if it can."""
    mask_problem: str | None
    """Why it cannot be read as a mask; None if the header shows no reason."""


def encode(image_HW: NDArray[np.uint8], image_format: ImageFormat) -> bytes:
    """Return the encoded file of an image, uint8 (H, W)."""
    return encode_image(image_HW) if image_format == "png" else encode_tiff(image_HW, image_format)


def is_whole(path: Path, *, expected_size: tuple[int, int]) -> bool:
    """Return whether a file has the header of an image of (height, width) and its expected end."""
    is_tiff = FILE_KINDS.get(path.suffix.lower()) is TiffImageFile
    return (is_whole_tiff if is_tiff else is_whole_png)(path, expected_size=expected_size)


def read_gray(path: Path, *, expected_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels of an image, uint8 (H, W), read-only; ``expected_size`` is (height, width) in pixels.

    The file is opened with Pillow's class for its kind. ``Image.open`` guards against decompression bombs: it warns
    above 89 million pixels and refuses above 179 million, which long logs reach. Here the manifest's size is the guard;
    it is compared before a pixel is decoded.

    Raises:
        CorpusError: the file is missing or unreadable, is of no kind in FILE_KINDS, cannot be converted to gray, has
            another size than expected, or cannot be decoded to its end.
    """
    return _looked_at(path, lambda image: _decoded(image, expected_size, find_image_problem, gray_of))


def read_mask(path: Path, *, expected_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels of a mask as stored, uint8 (H, W), under the conditions of ``read_gray``.

    Raises:
        CorpusError: as ``read_gray``, or its pixels cannot be classes.
    """
    return _looked_at(path, lambda image: _decoded(image, expected_size, find_mask_problem, classes_of))


def look_at(path: Path) -> Header:
    """Return the header of an image or mask file, with the problems that it shows.

    Raises:
        CorpusError: the file is missing, unreadable, or of no kind in FILE_KINDS.
    """
    return _looked_at(path, _header)


def check_header(header: Header, path: Path, *, expected_size: tuple[int, int], is_mask: bool = False) -> None:
    """Refuse a file whose header shows that it is not an image or mask of the expected (height, width).

    Raises:
        CorpusError: as ``read_gray`` or ``read_mask``, except for problems that only decoding shows.
    """
    turned = "" if header.orientation == UPRIGHT else f" when rotated by its EXIF orientation {header.orientation}"
    if (header.height, header.width) != expected_size:
        raise CorpusError(f"{path}: {_unequal((header.height, header.width), expected_size, turned)}")
    problem = header.mask_problem if is_mask else header.image_problem
    if problem is not None:
        raise CorpusError(f"{path}: {problem}")


def _header(image: ImageFile) -> Header:
    if isinstance(image, PngImageFile) and image.tile and image.fp is not None and "exif" not in image.info:
        late = exif_behind_pixels(image.fp, image.tile[0][2])
        if late is not None:
            image.info["exif"] = late
    orientation = orientation_of(image)
    height, width = upright_size(image, orientation)
    compression = image.info.get("compression") if isinstance(image, TiffImageFile) else None
    return Header(
        height=height,
        width=width,
        kind=f"{depth_of(image)} {image.format}" + (f" ({compression})" if compression else ""),
        orientation=orientation,
        num_pages=pages_of(image),
        image_problem=find_image_problem(image),
        mask_problem=find_mask_problem(image),
    )


def _decoded(
    image: ImageFile,
    expected_size: tuple[int, int],
    find_problem: Callable[[ImageFile], str | None],
    decode: Callable[[ImageFile], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Return the upright pixels of an opened file after checking its kind and size.

    A PNG may store its orientation behind its pixels, so before decoding, its sides are compared in either order.
    """
    size = (image.height, image.width)
    if size not in (expected_size, expected_size[::-1]):
        raise CorpusError(_unequal(size, expected_size))
    if (problem := find_problem(image)) is not None:
        raise CorpusError(problem)
    pixels_HW = decode(image)
    if pixels_HW.shape != expected_size:
        found: tuple[int, int] = pixels_HW.shape
        raise CorpusError(
            _unequal(found, expected_size, "" if found == size else " when rotated as its EXIF orientation says")
        )
    return pixels_HW


def _unequal(found: tuple[int, int], expected: tuple[int, int], turned: str = "") -> str:
    return (
        f"is {found[1]} x {found[0]} px{turned}, its manifest row says {expected[1]} x {expected[0]} px "
        "(width x height)"
    )


def _looked_at(path: Path, look: Callable[[ImageFile], T]) -> T:
    """Return the result of ``look`` for an opened file.

    Raises:
        CorpusError: the file cannot be opened or ``look`` fails; the message begins with the path.
    """
    ending = path.suffix.lower()
    if ending not in FILE_KINDS:
        raise CorpusError(f"{path}: is not an image file; supported are {', '.join(FILE_KINDS)}")
    try:
        with path.open("rb") as file:
            try:
                with _opened(file, ending) as image:
                    return look(image)
            except ValueError:  # a PNG's text or colour profile exceeds Pillow's limit; its pixels need neither
                bare = without_remarks(file)
                if bare is None:
                    raise
            with PngImageFile(io.BytesIO(bare)) as image:
                return look(image)
    except CorpusError as error:
        problem = str(error)
    except FileNotFoundError:
        problem = "is missing"
    except (MemoryError, OSError) as error:
        if isinstance(error, MemoryError) or error.errno in SHORTAGES:
            raise  # the machine's fault, not the file's
        problem = f"cannot be read ({error.strerror})" if error.errno else _undecoded(path, error)
    except Exception as error:  # a broken chunk surfaces as SyntaxError, ValueError, struct.error, zlib.error
        problem = UNKNOWN_LAYOUT if str(error) == "unknown pixel mode" else _undecoded(path, error)
    raise CorpusError(f"{path}: {problem}")


def _undecoded(path: Path, error: Exception) -> str:
    """Return why a file does not decode. Pillow's message may mislead if the file ends too early."""
    if "truncated" in str(error).lower() or seems_whole(path):
        return f"does not decode: {error}"
    return "does not decode: it ends too early"


def _opened(file: BinaryIO, ending: str) -> ImageFile:
    """Return an opened file as Pillow's image of its kind; the name's suffix may be that of another kind."""
    by_ending = FILE_KINDS[ending]
    try:
        image = by_ending(file)
    except SyntaxError:
        for opens in dict.fromkeys(FILE_KINDS.values()):
            if opens is not by_ending:
                file.seek(0)
                try:
                    image = opens(file)
                    break
                except SyntaxError:
                    continue
        else:
            raise
    return image
