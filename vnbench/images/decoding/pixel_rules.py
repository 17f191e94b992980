"""What the pixels of an opened file mean: one rule of orientation, one of gray and one of classes, for all formats.

An image is turned as its EXIF orientation says, as viewers show it. It becomes 8-bit gray: black and white 0 and 255,
12 and 16 bits their upper 8, colours their luma, transparent parts white paper. A mask is turned in the same way, and
each pixel of it is a class as it is written: the number, the index of a palette, or the gray of equal channels. Of fax
white is 1.
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
"""EXIF's orientation of an image as it lies in its file; from the second on, height and width change places."""

BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION = 258, 262, 274
"""TIFF's tags (TIFF 6.0, section 8); EXIF has the third."""

SUBFILE_TYPE, NO_PAGE = 254, 0b101
"""TIFF's tag of what an image of a file is, and the bits of a smaller copy and of a transparency mask."""

WHITE_IS_ZERO = 0
"""Value of TIFF's photometric interpretation, by which Pillow inverts gray of up to 8 bits."""

COMPRESSION, FAX = 259, (2, 3, 4)
"""TIFF's tag of how pixels are packed, and its values for those of fax, which has white and black and no numbers."""

SOFTWARE, WRITES_NUMBERS = 305, "tifffile"
"""TIFF's tag of the program that wrote it, and the one that marks every mask of truth values as WHITE_IS_ZERO."""

SAMPLE_FORMAT, SIGNED = 339, 2
"""TIFF's tag of what kind of numbers the pixels are, and its value for those with a sign."""

MP_ENTRIES, MP_PREVIEW = 0xB002, 1
"""Tag of the images in a JPEG file of several, and the kind of those that are smaller copies."""

GAIN_MAP = b"hdrgm:Version"
"""What the XMP of a JPEG has whose second image says how much brighter a screen may show the first."""

WITH_EXIF = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Where Pillow keeps what may tell an orientation."""

WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
"""Pillow's modes of pixels that may be transparent."""

PAPER = 255
"""Gray of what lies under transparent pixels."""

GRAY_STEPS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies gray of 2 and of 4 bits by, so that it reaches 255: by the beginning of its raw mode."""

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
"""Pixels that become gray, by Pillow's mode."""

CLASS_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I", "F", "LA", "RGB", "RGBA")
"""Pixels that can be classes; of the last three the channels have to be equal."""

NO_RANGE: Mapping[str, str] = {
    "I": "holds whole numbers with a sign, or of 32 bits, and nothing says which one is white; "
    "save it as gray of 8 or 16 bits",
    "F": "holds fractions, and nothing says which one is white; save it as gray of 8 or 16 bits",
}
"""Why pixels of a mode cannot become gray."""

MAX_CLASS = 255
"""Largest class: masks are bytes from here on."""


def orientation_of(image: ImageFile) -> int:
    """Return the orientation that EXIF or a TIFF tells, 1 (upright) to 8; what cannot be read tells none."""
    try:
        if isinstance(image, TiffImageFile):
            found = image.tag_v2.get(ORIENTATION)
        elif any(name in image.info for name in WITH_EXIF):
            # Not the method of PNG files, which decodes them to look for what stands behind their pixels.
            found = Image.Image.getexif(image).get(ORIENTATION)
        else:
            return UPRIGHT
    except Exception:  # EXIF comes broken in many ways, and Pillow raises whatever it stumbles over
        return UPRIGHT
    return found if isinstance(found, int) and found in range(UPRIGHT, 9) else UPRIGHT


def upright_size(image: ImageFile, orientation: int) -> tuple[int, int]:
    """Return height and width in pixels of an image that has been turned."""
    width, height = image.size
    # Pillow tells of a TIFF the turned size.
    is_swapped = orientation >= MIRRORED_ABOUT_DIAGONAL and not isinstance(image, TiffImageFile)
    return (width, height) if is_swapped else (height, width)


def pages_of(image: ImageFile) -> int:
    """Return how many images a file holds, smaller copies of the same one not counted."""
    if isinstance(image, JpegImageFile):
        return _images_of_jpeg(image)
    if not getattr(image, "is_animated", False):
        return 1
    num_frames = int(getattr(image, "n_frames", 1))
    if not isinstance(image, TiffImageFile):
        return num_frames
    return 1 + sum(not _subfile_type(image, number) & NO_PAGE for number in range(1, num_frames))


def _images_of_jpeg(image: JpegImageFile) -> int:
    """Return how many images a JPEG file lists (CIPA DC-007, section 5.2.3), previews and gain maps not counted."""
    index = image.info.get("mp")
    if index is None or any(GAIN_MAP in content for _, content in image.applist):
        return 1
    try:
        tags = ImageFileDirectory_v2(index[:8])
        file = io.BytesIO(index)
        file.seek(tags.next)
        tags.load(file)
        entries = tags[MP_ENTRIES]
    except Exception:  # Pillow raises whatever it stumbles over in a broken list, and the first image can be read
        return 1
    order: Literal["little", "big"] = "little" if index.startswith(b"II") else "big"
    kinds = [int.from_bytes(entries[place : place + 4], order) >> 16 & 0xFF for place in range(0, len(entries), 16)]
    return max(1, sum(kind != MP_PREVIEW for kind in kinds))


def _subfile_type(image: TiffImageFile, number: int) -> int:
    """Return what one image of a TIFF file is; the first one is open afterwards as it was before."""
    try:
        image.seek(number)
        return int(image.tag_v2.get(SUBFILE_TYPE, 0))
    except Exception:  # pixels of a kind that Pillow does not know, which nobody wants of this image
        return 0
    finally:
        image.seek(0)


def depth_of(image: ImageFile) -> str:
    """Return what kind of pixels an image has: ``8-bit``, ``RGBA``. To be asked before it is decoded."""
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
    return NO_RANGE.get(image.mode, f"has pixels of mode {image.mode}, which are not read; save it as gray or RGB")


def find_mask_problem(image: ImageFile) -> str | None:
    """Return why a mask cannot be read as classes, None if it can as far as its header tells."""
    if (num_pages := pages_of(image)) > 1:
        return (
            f"has {num_pages} pages; a mask is one page with the class of each pixel; "
            "merge them into one (page k where it is not 0: class k)"
        )
    if image.mode not in CLASS_MODES or (image.mode in ("RGB", "RGBA") and ";16" in raw_mode(image)):
        return f"has pixels of mode {image.mode}, which are no classes; save the number of each pixel's class as gray"
    if image.mode == "1" and _is_inverted(image) and not (_is_fax(image) or _has_numbers(image)):
        return (
            "is a TIFF of 1 bit that has 0 for white, and nothing says whether class 1 is its white or its number 1; "
            "save it as PNG"
        )
    return _sign_of_bytes(image)


def gray_of(image: ImageFile) -> NDArray[np.uint8]:
    """Return the pixels of an image in IMAGE_MODES as gray, uint8 (H, W), read-only where nothing had to be changed."""
    step = gray_step(image)
    upright = _turned(image)
    if step != 1 and "transparency" in image.info:
        image.info["transparency"] *= step  # Pillow leaves the number as it is in the file
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
    # Pillow takes every CMYK JPEG to be inverted, as Adobe writes it; without Adobe's marker it is not.
    if upright.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        upright = ImageChops.invert(upright)
    return np.asarray(upright.convert("L"))


def classes_of(image: ImageFile) -> NDArray[np.uint8]:
    """Return the numbers of a mask in CLASS_MODES, uint8 (H, W).

    Raises:
        CorpusError: colours, transparent parts, fractions, NaN, or a number outside 0 to 255.
    """
    step = gray_step(image)
    pixels = np.asarray(_turned(image))
    if _is_inverted(image) and not _is_fax(image):
        pixels = ~pixels
    if pixels.ndim == 3:
        if image.mode in WITH_ALPHA:
            if (pixels[..., -1] != MAX_CLASS).any() and pixels[..., -1].any():
                raise CorpusError("is transparent in parts, which is no class; save it without an alpha channel")
            pixels = pixels[..., :-1]
        if (pixels != pixels[..., :1]).any():
            raise CorpusError("holds colours, which are no classes; save the number of each pixel's class as gray")
        pixels = pixels[..., 0]
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise CorpusError("holds pixels that are no numbers (NaN or infinite); write the class of each pixel")
    with np.errstate(invalid="ignore"):  # of what no byte holds, which is told
        is_whole = pixels.dtype in (np.bool_, np.uint8) or bool((pixels == pixels.astype(np.uint8)).all())
    if not is_whole:
        raise CorpusError(
            f"holds numbers from {pixels.min():g} to {pixels.max():g}; classes are whole numbers from 0 to "
            f"{MAX_CLASS}; number them anew"
        )
    classes_HW: NDArray[np.uint8] = pixels.astype(np.uint8, copy=False)
    return classes_HW if step == 1 else classes_HW // np.uint8(step)


def gray_step(image: ImageFile) -> int:
    """Return what Pillow will multiply the gray of an image by that is not decoded yet."""
    return GRAY_STEPS.get(raw_mode(image)[:3], 1)


def raw_mode(image: ImageFile) -> str:
    """Return Pillow's word for how the pixels lie in the file; empty for one that it does not tell or has decoded."""
    for _, _, _, arguments in image.tile:
        first = arguments if isinstance(arguments, str) else (arguments or ("",))[0]
        return first if isinstance(first, str) else ""
    return ""


def bits_of(image: ImageFile) -> int:
    """Return how many bits gray of more than 8 has."""
    return int(image.tag_v2[BITS_PER_SAMPLE][0]) if isinstance(image, TiffImageFile) else 16


def _is_inverted(image: ImageFile) -> bool:
    """Return whether Pillow shows gray of a TIFF whose numbers are the other way round."""
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
    """Return why 8-bit pixels cannot be read that have a sign, which Pillow would take for the numbers above 127."""
    if isinstance(image, TiffImageFile) and image.mode == "L" and SIGNED in image.tag_v2.get(SAMPLE_FORMAT, ()):
        return "holds numbers of 8 bits with a sign; save it without a sign, as gray of 8 bits"
    return None


def _turned(image: ImageFile) -> Image.Image:
    """Return the decoded image, upright. Pillow turns a TIFF when it decodes it."""
    image.load()
    if not isinstance(image, TiffImageFile) and orientation_of(image) != UPRIGHT:
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _on_paper(image: Image.Image) -> NDArray[np.uint8]:
    """Return the gray of an image that may be transparent, laid on white paper.

    Some programs fill the alpha channel with 0 and mean none: what would show nothing at all is taken as opaque.
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
