"""The meaning of an opened file's pixels: one rule each for orientation, gray and classes, for all formats.

An image is rotated according to its EXIF orientation, as viewers show it. It becomes 8-bit gray: black and white become
0 and 255, 12 and 16 bits their upper 8, colours their luma, transparent parts white paper. A mask is rotated in the
same way, and each pixel is the class as stored: the number, the palette index, or the gray of equal channels. In fax
compression, white is 1.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from vnbench.errors import CorpusError

UPRIGHT, MIRRORED_ABOUT_DIAGONAL = 1, 5
"""EXIF orientations: of an image stored upright, and the lowest one that swaps height and width."""

BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION = 258, 262, 274
"""TIFF tags (TIFF 6.0, section 8); EXIF has the third, too."""

SUBFILE_TYPE, NO_PAGE = 254, 0b101
"""TIFF tag for the role of an image in its file, and the bits for a smaller copy and a transparency mask."""

WHITE_IS_ZERO = 0
"""Value of TIFF's photometric interpretation for which Pillow inverts gray of up to 8 bits."""

COMPRESSION, FAX = 259, (2, 3, 4)
"""TIFF tag for the compression, and its values for fax, which defines white and black rather than numbers."""

SOFTWARE, WRITES_NUMBERS = 305, "tifffile"
"""TIFF tag for the program that wrote the file, and the program that marks every boolean mask as WHITE_IS_ZERO."""

SAMPLE_FORMAT, SIGNED = 339, 2
"""TIFF tag for the type of the pixels' numbers, and its value for signed ones."""

MP_ENTRIES, MP_PREVIEW = 0xB002, 1
"""Tag that lists the images in a JPEG file of several, and the kind of a smaller copy."""

GAIN_MAP = b"hdrgm:Version"
"""Found in the XMP of a JPEG whose second image is a gain map for HDR screens."""

WITH_EXIF = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Keys of Pillow's ``info`` that may hold an orientation."""

WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
"""Pillow's modes of pixels that may be transparent."""

PAPER = 255
"""Gray that shows through transparent pixels."""

GRAY_STEPS = {"L;2": 85, "L;4": 17}
"""Factor by which Pillow scales gray of 2 and 4 bits to reach 255, by the start of its raw mode."""

IMAGE_MODES: Mapping[str, str] = {
    "1": "1-bit",
    "L": "8-bit",
    "I;16": "16-bit",
    "I;16B": "16-bit",
    "I;16L": "16-bit",
    "P": "8-bit palette",
    "LA": "8-bit with alpha",
    "La": "8-bit with alpha",
    "PA": "8-bit palette with alpha",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
}
"""Pillow's modes that can become gray, with a name for people."""

CLASS_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I", "F", "LA", "RGB", "RGBA")
"""Pillow's modes whose pixels can be classes; in the last three the channels must be equal."""

NO_RANGE: Mapping[str, str] = {
    "I": "holds signed or 32-bit integers, and nothing says which number is white; save it as 8-bit or 16-bit gray",
    "F": "holds fractions, and nothing says which number is white; save it as 8-bit or 16-bit gray",
}
"""Why pixels of these modes cannot become gray."""

MAX_CLASS = 255
"""Largest class: decoded masks are bytes."""


def orientation_of(image: ImageFile) -> int:
    """Return the orientation from EXIF or TIFF tags, 1 to 8; 1 (upright) if there is none or it cannot be read."""
    try:
        if isinstance(image, TiffImageFile):
            found = image.tag_v2.get(ORIENTATION)
        elif any(name in image.info for name in WITH_EXIF):
            # The method of PNG files would decode them to look for EXIF behind the pixels.
            found = Image.Image.getexif(image).get(ORIENTATION)
        else:
            return UPRIGHT
    except Exception:  # broken EXIF makes Pillow raise almost any exception
        return UPRIGHT
    return found if isinstance(found, int) and found in range(UPRIGHT, 9) else UPRIGHT


def upright_size(image: ImageFile, orientation: int) -> tuple[int, int]:
    """Return height and width in pixels of an image once it is upright."""
    width, height = image.size
    # For a TIFF, Pillow already reports the upright size.
    is_swapped = orientation >= MIRRORED_ABOUT_DIAGONAL and not isinstance(image, TiffImageFile)
    return (width, height) if is_swapped else (height, width)


def pages_of(image: ImageFile) -> int:
    """Return the number of images in a file, without smaller copies of the same one."""
    if isinstance(image, JpegImageFile):
        return _images_of_jpeg(image)
    if not getattr(image, "is_animated", False):
        return 1
    num_frames = int(getattr(image, "n_frames", 1))
    if not isinstance(image, TiffImageFile):
        return num_frames
    return 1 + sum(not _subfile_type(image, number) & NO_PAGE for number in range(1, num_frames))


def _images_of_jpeg(image: JpegImageFile) -> int:
    """Return the number of images that a JPEG lists (CIPA DC-007, section 5.2.3), without previews and gain maps."""
    index = image.info.get("mp")
    if index is None or any(GAIN_MAP in content for _, content in image.applist):
        return 1
    try:
        tags = ImageFileDirectory_v2(index[:8])
        file = io.BytesIO(index)
        file.seek(tags.next)
        tags.load(file)
        entries = tags[MP_ENTRIES]
    except Exception:  # a broken list makes Pillow raise almost anything; the first image is readable
        return 1
    order: Literal["little", "big"] = "little" if index.startswith(b"II") else "big"
    kinds = [int.from_bytes(entries[place : place + 4], order) >> 16 & 0xFF for place in range(0, len(entries), 16)]
    return max(1, sum(kind != MP_PREVIEW for kind in kinds))


def _subfile_type(image: TiffImageFile, number: int) -> int:
    """Return the subfile type of one image of a TIFF file; afterwards the first image is open again."""
    try:
        image.seek(number)
        return int(image.tag_v2.get(SUBFILE_TYPE, 0))
    except Exception:  # a pixel type that Pillow does not know; this image's pixels are not needed
        return 0
    finally:
        image.seek(0)


def depth_of(image: ImageFile) -> str:
    """Return the kind of an image's pixels, such as ``8-bit`` or ``RGBA``. Call it before the image is decoded."""
    if gray_step(image) != 1:
        return f"{raw_mode(image)[2]}-bit"
    if image.mode.startswith("I;16") and bits_of(image) != 16:
        return f"{bits_of(image)}-bit"
    return IMAGE_MODES.get(image.mode, image.mode)


def find_image_problem(image: ImageFile) -> str | None:
    """Return why an image cannot become gray, None if it can."""
    if (problem := _sign_of_bytes(image)) is not None:
        return problem
    if image.mode in IMAGE_MODES:
        return None
    return NO_RANGE.get(image.mode, f"has pixels of mode {image.mode}, which is not supported; save it as gray or RGB")


def find_mask_problem(image: ImageFile) -> str | None:
    """Return why a mask cannot be read as classes, None if the header shows no reason."""
    if (num_pages := pages_of(image)) > 1:
        return (
            f"has {num_pages} pages; a mask is one page with the class of each pixel; "
            "merge them into one (class k where page k is not 0)"
        )
    if image.mode not in CLASS_MODES or (image.mode in ("RGB", "RGBA") and ";16" in raw_mode(image)):
        return f"has pixels of mode {image.mode}, not classes; save the number of each pixel's class as gray"
    if image.mode == "1" and _is_inverted(image) and not (_is_fax(image) or _has_numbers(image)):
        return "is a 1-bit TIFF in which 0 is white, so class 1 may be its white or its number 1; save it as PNG"
    return _sign_of_bytes(image)


def gray_of(image: ImageFile) -> NDArray[np.uint8]:
    """Return the pixels of an image in IMAGE_MODES as gray, uint8 (H, W); read-only if nothing was converted."""
    step = gray_step(image)
    upright = _turned(image)
    if step != 1 and "transparency" in image.info:
        image.info["transparency"] *= step  # Pillow does not scale the transparent gray
    transparency = image.info.get("transparency")
    if upright.mode.startswith("I;16"):
        pixels_HW = np.asarray(upright)
        gray_HW: NDArray[np.uint8] = (pixels_HW >> (bits_of(image) - 8)).astype(np.uint8)
        if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            gray_HW = 255 - gray_HW
        return gray_HW if transparency is None else np.where(pixels_HW == transparency, np.uint8(PAPER), gray_HW)
    if transparency is not None or upright.mode in WITH_ALPHA:
        return _on_paper(upright)
    if upright.mode == "L":
        return np.asarray(upright)
    # Pillow assumes that every CMYK JPEG is inverted, as Adobe's are; without Adobe's marker it is not.
    if upright.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        upright = ImageChops.invert(upright)
    return np.asarray(upright.convert("L"))


def classes_of(image: ImageFile) -> NDArray[np.uint8]:
    """Return the numbers of a mask in CLASS_MODES, uint8 (H, W).

    Raises:
        CorpusError: the mask holds colours, transparent parts, fractions, NaN, or a number outside 0 to 255.
    """
    step = gray_step(image)
    pixels = np.asarray(_turned(image))
    if _is_inverted(image) and not _is_fax(image):
        pixels = ~pixels
    if pixels.ndim == 3:
        if image.mode in WITH_ALPHA:
            if (pixels[..., -1] != MAX_CLASS).any() and pixels[..., -1].any():
                raise CorpusError("is partly transparent; save it without an alpha channel")
            pixels = pixels[..., :-1]
        if (pixels != pixels[..., :1]).any():
            raise CorpusError("holds colours instead of classes; save the number of each pixel's class as gray")
        pixels = pixels[..., 0]
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise CorpusError("holds NaN or infinite pixels; write the class of each pixel")
    with np.errstate(invalid="ignore"):  # numbers that do not fit into a byte are reported below
        is_whole = pixels.dtype in (np.bool_, np.uint8) or bool((pixels == pixels.astype(np.uint8)).all())
    if not is_whole:
        raise CorpusError(
            f"holds numbers from {pixels.min():g} to {pixels.max():g}; classes are whole numbers from 0 to "
            f"{MAX_CLASS}; renumber them"
        )
    classes_HW: NDArray[np.uint8] = pixels.astype(np.uint8, copy=False)
    return classes_HW if step == 1 else classes_HW // np.uint8(step)


def gray_step(image: ImageFile) -> int:
    """Return the factor by which Pillow will multiply the gray of an image that is not decoded yet."""
    return GRAY_STEPS.get(raw_mode(image)[:3], 1)


def raw_mode(image: ImageFile) -> str:
    """Return Pillow's raw mode of the stored pixels; empty if it is unknown or the image is already decoded."""
    for _, _, _, arguments in image.tile:
        first = arguments if isinstance(arguments, str) else (arguments or ("",))[0]
        return first if isinstance(first, str) else ""
    return ""


def bits_of(image: ImageFile) -> int:
    """Return the number of bits of gray deeper than 8 bits."""
    return int(image.tag_v2[BITS_PER_SAMPLE][0]) if isinstance(image, TiffImageFile) else 16


def _is_inverted(image: ImageFile) -> bool:
    """Return whether Pillow inverts the stored numbers of a TIFF."""
    return (
        isinstance(image, TiffImageFile)
        and image.mode in ("1", "L")
        and image.tag_v2.get(PHOTOMETRIC, WHITE_IS_ZERO) == WHITE_IS_ZERO
    )


def _is_fax(image: ImageFile) -> bool:
    return isinstance(image, TiffImageFile) and image.tag_v2.get(COMPRESSION) in FAX


def _has_numbers(image: ImageFile) -> bool:
    return isinstance(image, TiffImageFile) and str(image.tag_v2.get(SOFTWARE, "")).startswith(WRITES_NUMBERS)


def _sign_of_bytes(image: ImageFile) -> str | None:
    """Return why signed 8-bit pixels cannot be read: Pillow would take negative numbers for those above 127."""
    if isinstance(image, TiffImageFile) and image.mode == "L" and SIGNED in image.tag_v2.get(SAMPLE_FORMAT, ()):
        return "holds signed 8-bit numbers; save it as unsigned 8-bit gray"
    return None


def _turned(image: ImageFile) -> Image.Image:
    """Return the decoded image, upright. Pillow rotates a TIFF itself when it decodes it."""
    image.load()
    if not isinstance(image, TiffImageFile) and orientation_of(image) != UPRIGHT:
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _on_paper(image: Image.Image) -> NDArray[np.uint8]:
    """Return the gray of an image, with white paper behind its transparent parts.

    Some programs fill an unused alpha channel with 0, so a fully transparent image is taken as opaque.
    """
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    colours = image.convert("RGBA")
    alpha = colours.getchannel("A")
    if alpha.getbbox() is None:
        return np.asarray(colours.convert("L"))
    paper = Image.new("L", image.size, PAPER)
    paper.paste(colours.convert("L"), mask=alpha)
    return np.asarray(paper)
