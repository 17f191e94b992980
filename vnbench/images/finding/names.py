"""Role (image or mask) and split that the names of folders and files express."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Role = Literal["image", "mask"]
FolderSplit = Literal["train", "validation", "test"]

_IMAGE = r"images?|imgs?|jpegimages|leftimg8bit"
_MASK = r"masks?|labels?|annot(?:ation)?s?|ann[-_]?dir|gts?|ground[-_ ]?truths?|seg(?:mentation)?s?|segmentationclass"
_IMAGE_FOLDER = rf"{_IMAGE}|inputs?"
_MASK_FOLDER = rf"{_MASK}|gtfine|gtcoarse|targets?"
"""Cityscapes has ``gtFine`` and ``gtCoarse``. In file names, input and target often mean something else."""
_SPLITS: dict[FolderSplit, str] = {
    "train": "train|training|trainval|tr",
    "validation": "val|valid|validation|dev|eval",
    "test": "test|testing|ts",
}
_BARE = re.compile(
    "(?:" + "|".join(f"(?P<{split}>{words})" for split, words in _SPLITS.items()) + r")(?:\d{4})?", re.IGNORECASE
)
"""Some names end in a year, such as COCO's ``train2017``."""
_SPLIT = "|".join(_SPLITS.values())
_GAP = "[-_. ]"
_WITH_ROLE = re.compile(
    rf"(?:(?P<before>{_SPLIT}){_GAP}?|(?P<rest>.+){_GAP})?"
    rf"(?:(?P<image>{_IMAGE_FOLDER})|(?P<mask>{_MASK_FOLDER}))"
    rf"(?:{_GAP}?(?P<after>{_SPLIT})|{_GAP}?(?:dir|folder))?",
    re.IGNORECASE,
)
"""``images``, ``train_masks``, ``imagesTr``, ``trainannot``, ``well7-labels``, ``ann_dir``."""

_MASK_AT_END = re.compile(rf"(?P<base>.+?){_GAP}+(?:{_MASK})", re.IGNORECASE)
_MASK_OF_CLASSES = re.compile(r"(?P<base>.+?)(?:_gt(?:fine|coarse))?_(?P<kind>labelids|labeltrainids)", re.IGNORECASE)
"""Cityscapes' masks of classes; it also has masks of colours and of instance numbers."""
_MASK_OF_OTHERS = re.compile(r"(?P<base>.+?)_gt(?:fine|coarse)_(?:color|instanceids|instancetrainids)", re.IGNORECASE)
_MASK_BESIDE = re.compile(rf"(?P<base>.+?)(?:{_GAP}+(?:{_MASK}){_GAP}?\d+|_l)", re.IGNORECASE)
_MASK_AT_START = re.compile(rf"(?:{_MASK})(?:{_GAP}+|(?=\d))(?P<base>.+)", re.IGNORECASE)
_IMAGE_AT_END = re.compile(rf"(?P<base>.+?){_GAP}+(?:{_IMAGE})", re.IGNORECASE)
_IMAGE_AT_START = re.compile(rf"(?:{_IMAGE})(?:{_GAP}+|(?=\d))(?P<base>.+)", re.IGNORECASE)
_ANY_WORD = re.compile("mask|label|annot|gt|ground|seg|image|img|_l$", re.IGNORECASE)
"""Start of every word for images and masks, to skip most names quickly."""
_CHANNEL = re.compile(r"(?P<base>.+)_\d{4}", re.IGNORECASE)
"""nnU-Net numbers the channels of a case: ``well_0000``, with the mask ``well``."""
_ENDING = re.compile(r"(?P<base>.+)\.(?:png|tiff?|jpe?g|bmp|webp|gif)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderName:
    """Information in the name of a folder."""

    role: Role | None = None
    """Whether it holds images or masks; None if the name does not say."""
    split: FolderSplit | None = None
    """Split; None if the name does not say."""
    rest: str = ""
    """Rest of the name; the whole name if it gives neither role nor split."""


@lru_cache(maxsize=4096)
def read_folder_name(name: str) -> FolderName:
    """Return the role, the split and the rest in the name of a folder."""
    found = _WITH_ROLE.fullmatch(name)
    if found is not None:
        split = _split_of(found["before"] or found["after"])
        return FolderName(role="image" if found["image"] else "mask", split=split, rest=found["rest"] or "")
    split = None if len(name) < len("val") else _split_of(name)
    return FolderName(split=split, rest="" if split else name)


@dataclass(frozen=True, slots=True)
class FileName:
    """Information in the name of a file, in lower case and with composed accents."""

    says_mask: bool
    """Whether the name alone makes it a mask, such as ``x_mask``."""
    may_say_mask: bool
    """Whether it is a mask if there is an image for it, such as ``label_7``, ``x_mask_2`` and CamVid's ``x_L``."""
    image_base: str
    """Part of an image's name that its mask shares: the name without ``img_``, ``_image`` or a channel."""
    mask_base: str
    """Part of a mask's name that its image shares: the name without ``_mask``, ``label_`` and the like."""


def read_file_name(stem: str, *, is_exact: bool = False) -> FileName:
    """Return the information in a file name, given without its suffix; a second suffix (``x.jpg.png``) is dropped.

    With ``is_exact``, capitals are kept.
    """
    composed = unicodedata.normalize("NFC", stem)
    plain = _without(composed if is_exact else composed.casefold(), _ENDING)
    if _ANY_WORD.search(plain) is None:
        base = _without(plain, _CHANNEL)
        return FileName(False, False, base, base)
    says_mask = any(pattern.fullmatch(plain) for pattern in (_MASK_AT_END, _MASK_OF_CLASSES, _MASK_OF_OTHERS))
    may_say_mask = any(pattern.fullmatch(plain) for pattern in (_MASK_BESIDE, _MASK_AT_START))
    mask_base = _without(plain, _MASK_OF_CLASSES, _MASK_OF_OTHERS, _MASK_AT_END, _MASK_BESIDE, _MASK_AT_START)
    return FileName(says_mask, may_say_mask, _base_of_image(plain), _base_of_image(mask_base))


def rank_of_mask(stem: str) -> int:
    """Return the rank of a mask among several of one image: names that promise classes come first."""
    found = _MASK_OF_CLASSES.fullmatch(stem)
    return 2 if found is None else ("labelids", "labeltrainids").index(found["kind"].lower())


def _base_of_image(plain: str) -> str:
    return _without(_without(plain, _IMAGE_AT_END, _IMAGE_AT_START), _CHANNEL)


def _without(name: str, *patterns: re.Pattern[str]) -> str:
    """Return the base of the first pattern that matches a name, else the name."""
    for pattern in patterns:
        if (found := pattern.fullmatch(name)) is not None:
            return found["base"]
    return name


def _split_of(word: str | None) -> FolderSplit | None:
    found = _BARE.fullmatch(word or "")
    return None if found is None else next(split for split in _SPLITS if found[split])
