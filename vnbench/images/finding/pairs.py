"""Pairing of the images and masks below a folder by the names of folders and files; no file is opened.

Masks are in folders whose names say so (``masks``, ``labelsTr``, ``train_annotations``) beside the images' folders, or
in the folders of their images: ``x_mask.png`` with ``x.png``, ``x.png`` with ``x.jpg``. ``train``, ``val`` and ``test``
in folder names are the splits. Files that are left out are reported, and ambiguous layouts are refused.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vnbench.errors import InputError
from vnbench.images.decoding.gray_files import FILE_KINDS
from vnbench.images.finding.names import (
    FolderSplit,
    rank_of_mask,
    read_file_name,
    read_folder_name,
)
from vnbench.images.finding.places import Place, find_places
from vnbench.images.finding.tree import Tree, look_through
from vnbench.units import MAX_NAMED, first_few

SCANS_FIRST = (".tif", ".tiff", ".png", ".bmp", ".webp", ".jpg", ".jpeg", ".jfif", ".gif")
"""Order of preference: of several images with one name in one folder, the first is taken for the scan."""

EXACT = frozenset({".tif", ".tiff", ".png", ".bmp", ".gif"})
"""Suffixes of lossless formats, which masks need."""

BESIDE = frozenset({".png", ".bmp", ".gif"})
"""Suffixes of a mask that shares folder and name with its image. A TIFF would be the scan, a JPEG its preview."""

MASKS_ALONE = "masks without an image"
"""Description of masks whose name matches no image."""

SplitBy = Literal["folders", "widths"]
"""How validation examples are chosen: by folder names, or by the order of widths."""

_Key = tuple[FolderSplit | None, tuple[str, ...], str]
"""Split, the rest of the folders' names, and the file name without suffix: equal for an image and its mask."""

_Files = dict[_Key, list[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Files below a folder that are not read, for one reason."""

    what: str
    """Description in the plural: ``masks without an image``."""
    count: int
    first_files: tuple[str, ...]
    """First files relative to the folder, at most MAX_NAMED."""

    def __str__(self) -> str:
        return f"{self.what}, not read: {self.count:,} ({first_few(self.first_files, self.count)})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """An image and its mask."""

    image: str
    """File of the image, relative to the folder."""
    mask: str | None
    """File of the mask, relative to the folder; None if there is none."""
    split: FolderSplit | None
    """``train`` or ``validation`` if folder names give the splits, else None."""

    @property
    def has_one_name(self) -> bool:
        """Whether mask and image share folder and name, except for the suffix."""
        return self.mask is not None and os.path.splitext(self.mask)[0] == os.path.splitext(self.image)[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Images, masks and files left out of a folder."""

    pairs: tuple[Pair, ...]
    """Pairs ordered by name, the files of a folder before its subfolders."""
    left_out: tuple[LeftOut, ...]
    """Files that are not read, by reason."""

    @property
    def split_by(self) -> SplitBy:
        """How the validation examples are chosen."""
        return "folders" if any(pair.split == "validation" for pair in self.pairs) else "widths"


def find_pairs(root: Path, *, counts_masks: bool = False) -> Found:
    """Return the images below a folder, each with its mask if there is one.

    With ``counts_masks``, a folder in which every file is named like a mask counts as images without masks.

    Raises:
        InputError: the folder is not a folder, holds no image that can be read, or has an ambiguous layout.
        OSError: a folder cannot be read.
    """
    if not root.is_dir():
        problem = "is a file" if root.exists() else "there is no such folder"
        raise InputError(
            str(root), allowed=problem, remedy="name a folder of images and masks, or write one with vnbench corpus"
        )
    tree = look_through(root)
    places = find_places(folder for folder, names in tree.files.items() if any(map(_is_read, names)))
    sorted_out = _SortedOut.of(tree, places)
    are_masks = counts_masks and all(read_file_name(key[2]).says_mask for key in sorted_out.images)
    masks_of = dict.fromkeys(sorted_out.images) if are_masks else _match(sorted_out.images, sorted_out.masks, root=root)
    pairs, copies = _one_file_each(sorted_out, masks_of, places, root=root)
    _refuse_two_layouts(pairs, sorted_out.outside, places, root=root)
    kept, of_no_use = _by_split(pairs, root=root)
    needed = {mask for mask in masks_of.values() if mask is not None}
    without, others = _masks_not_needed(sorted_out.masks, needed)
    reasons = {
        **of_no_use,
        MASKS_ALONE: without,
        "other masks of an image": others,
        "other files with the name of an image or mask": copies,
        "images beside the folders of images": sorted_out.outside,
        f"files of other formats ({_endings(sorted_out.unread)})": sorted_out.unread,
        "links to a folder above, or to one already read": tree.rings + sorted_out.repeated,
        "broken links": tree.broken,
    }
    left_out = tuple(
        LeftOut(what=what, count=len(files), first_files=tuple(files[:MAX_NAMED]))
        for what, files in reasons.items()
        if files
    )
    if not kept:
        told = "".join(f"; {one}" for one in left_out)
        raise InputError(
            str(root),
            allowed=f"holds no images of a supported format ({', '.join(FILE_KINDS)}){told}",
            remedy="name them images/x.png and masks/x.png, or x.png and x_mask.png",
        )
    return Found(pairs=tuple(kept), left_out=left_out)


def folder_beside(root: Path) -> Path | None:
    """Return the folder beside ``root`` or beside its parent whose name is that of its masks (or images); else None."""
    inner = Path(os.path.abspath(root))
    for up in range(1, 3):
        own = read_folder_name(inner.name)
        wanted = ("image" if own.role == "mask" else "mask", own.rest if own.role else "")
        for path in sorted(inner.parent.iterdir()):
            name = read_folder_name(path.name)
            if (name.role, name.rest) == wanted and path.is_dir():
                return Path(os.path.normpath(root / Path(*[".."] * up) / path.name))
        inner = inner.parent
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class _SortedOut:
    """The files below a folder by role, ordered by name."""

    images: _Files
    masks: _Files
    outside: list[str]
    unread: list[str]
    repeated: list[str]
    """Folders of images that a link reaches a second time."""

    @staticmethod
    def of(tree: Tree, places: Mapping[str, Place]) -> _SortedOut:
        """Return the files sorted by the roles of their folders."""
        found = _SortedOut(images=defaultdict(list), masks=defaultdict(list), outside=[], unread=[], repeated=[])
        own = {
            tree.identities.get(folder)
            for folder, place in places.items()
            if place.role == "image" and folder not in tree.linked
        }
        for folder, names in tree.files.items():
            place = places.get(folder)
            prefix = f"{folder}/" if folder else ""
            if place is not None and place.role == "image" and folder in tree.linked and tree.identities[folder] in own:
                found.repeated.append(folder)
                continue
            for name in names:
                path, (stem, ending) = prefix + name, os.path.splitext(name)
                if place is None or ending.lower() not in FILE_KINDS:
                    found.unread.append(path)
                elif place.role == "outside":
                    found.outside.append(path)
                else:
                    key = (place.split, place.rest, stem)
                    (found.images if place.role == "image" else found.masks)[key].append(path)
        return found


def _match(images: _Files, masks: _Files, *, root: Path) -> dict[_Key, _Key | None]:
    """Return the mask of each image by name. Masks found among the images are moved to ``masks``.

    Raises:
        InputError: several images share a mask, or an image has several masks.
    """
    alone = {key: read_file_name(key[2]) for key in images if key not in masks}
    wanting: dict[_Key, list[_Key]] = defaultdict(list)
    for key, name in alone.items():
        if not name.says_mask:
            wanting[*key[:2], name.image_base].append(key)
    for key, name in alone.items():
        if name.says_mask or (name.may_say_mask and (*key[:2], name.mask_base) in wanting):
            masks[key] = images.pop(key)
    free: dict[_Key, list[_Key]] = defaultdict(list)
    for key in masks.keys() - images.keys() if alone else ():
        free[*key[:2], read_file_name(key[2]).mask_base].append(key)
    found: dict[_Key, _Key | None] = {key: key if key in masks else None for key in images}
    several = []
    for base, keys in wanting.items():
        keys, of_mask = [key for key in keys if key in images], free.get(base, [])
        partners = _partners(keys, of_mask)
        if partners is not None:
            found |= partners
        elif keys and of_mask:
            several.append(" and ".join([images[key][0] for key in keys] + sorted(masks[key][0] for key in of_mask)))
    if several:
        raise InputError(
            str(root),
            allowed=f"holds images and masks that do not pair one to one: {first_few(several)}",
            remedy="keep one image and one mask of each name",
        )
    return found


def _partners(images: Sequence[_Key], masks: Sequence[_Key]) -> dict[_Key, _Key] | None:
    """Return the mask of each image among names that differ only in capitals; None if that is ambiguous."""
    if len(images) == 1 and masks:
        first, *others = sorted(masks, key=lambda key: rank_of_mask(key[2]))
        is_clear = not others or rank_of_mask(first[2]) < rank_of_mask(others[0][2])
        return {images[0]: first} if is_clear else None
    image_of = {read_file_name(key[2], is_exact=True).image_base: key for key in images}
    mask_of = {read_file_name(key[2], is_exact=True).mask_base: key for key in masks}
    is_one_to_one = len(image_of) == len(images) == len(masks) and image_of.keys() == mask_of.keys()
    return {image_of[base]: mask_of[base] for base in image_of} if is_one_to_one else None


def _masks_not_needed(masks: _Files, needed: Collection[_Key]) -> tuple[list[str], list[str]]:
    """Return the masks without an image, and the masks whose image has another mask."""
    without: list[str] = []
    others: list[str] = []
    left = masks.keys() - needed
    bases = {(*key[:2], read_file_name(key[2]).mask_base) for key in needed} if left else set()
    for key in (key for key in masks if key in left):
        is_other = (*key[:2], read_file_name(key[2]).mask_base) in bases
        (others if is_other else without).extend(masks[key])
    return without, others


def _one_file_each(
    found: _SortedOut, masks_of: Mapping[_Key, _Key | None], places: Mapping[str, Place], *, root: Path
) -> tuple[list[Pair], list[str]]:
    """Return one file for each image and mask, and the other files with the same names.

    Raises:
        InputError: it is ambiguous which of several files is the image or the mask.
    """
    pairs: list[Pair] = []
    copies: list[str] = []
    unclear: list[str] = []
    for key, files in found.images.items():
        mask_key = masks_of[key]
        masks = [] if mask_key is None else found.masks[mask_key]
        is_told = bool(masks) or places[os.path.dirname(files[0])].is_told
        if not is_told and len(files) > 1:
            masks = [file for file in files if _ending(file) in BESIDE]
            files = [file for file in files if file not in masks]
        image, mask = _scan_of(files), _mask_of(masks)
        if image is None or (masks and mask is None):
            unclear.append(" and ".join([*files, *masks]))
            continue
        pairs.append(Pair(image=image, mask=mask, split=key[0]))
        copies += [file for file in (*files, *masks) if file not in (image, mask)]
    if unclear:
        raise InputError(
            str(root),
            allowed=f"holds files of one name, and any of them may be the image or the mask: {first_few(unclear)}",
            remedy="keep one of them, or put the masks into a folder named masks",
        )
    return pairs, copies


def _scan_of(files: Sequence[str]) -> str | None:
    """Return the scan among images of one name; None if that is ambiguous."""
    if len(files) == 1:
        return files[0]
    kinds = [FILE_KINDS[_ending(file)] for file in files]
    folders = {os.path.dirname(file) for file in files}
    if not files or len(folders) > 1 or len(set(kinds)) < len(kinds):
        return None
    return min(files, key=lambda file: SCANS_FIRST.index(_ending(file)))


def _mask_of(files: Sequence[str]) -> str | None:
    """Return the mask among files of one name; None if that is ambiguous."""
    exact = [file for file in files if _ending(file) in EXACT] if len(files) > 1 else files
    return exact[0] if len(exact) == 1 else None


def _refuse_two_layouts(
    pairs: Sequence[Pair], outside: Sequence[str], places: Mapping[str, Place], *, root: Path
) -> None:
    """Refuse a folder that has folders of masks at two levels.

    Raises:
        InputError: masks' folders lie at two levels.
    """
    for file in (*outside, *(pair.image for pair in pairs if pair.mask is None)):
        if places[os.path.dirname(file)].has_masks_within:
            raise InputError(
                str(root),
                allowed=f"holds folders of masks at two levels, of which only the outer is used; {file} is in neither",
                remedy="name the inner folder, or move it elsewhere",
            )


def _by_split(pairs: Sequence[Pair], *, root: Path) -> tuple[list[Pair], dict[str, list[str]]]:
    """Return the images for training and validation, and the files left out, by reason.

    Images for testing are left out unless there are no others. Without a name for validation, no image gets a split.

    Raises:
        InputError: images with masks lie beside the folders of the splits.
    """
    rest = [pair for pair in pairs if pair.split != "test"]
    testing = [pair for pair in pairs if pair.split == "test"] if rest else []
    kept = rest or list(pairs)
    splits = {pair.split for pair in kept}
    left_out = {"images and masks for testing": [name for pair in testing for name in (pair.image, pair.mask) if name]}
    if "validation" not in splits or len(splits) == 1:
        return [replace(pair, split=None) if pair.split else pair for pair in kept], left_out
    if "train" not in splits:
        return [pair if pair.split else replace(pair, split="train") for pair in kept], left_out
    unsplit = [pair for pair in kept if pair.split is None]
    lost = [pair.image for pair in unsplit if pair.mask is not None]
    if lost:
        raise InputError(
            str(root),
            allowed=f"holds images with masks beside the folders train and val: {first_few(lost)}",
            remedy="move them into one of these, or remove them",
        )
    left_out["images beside the folders train and val"] = [pair.image for pair in unsplit]
    return [pair for pair in kept if pair.split is not None], left_out


def _is_read(name: str) -> bool:
    return _ending(name) in FILE_KINDS


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _endings(files: Sequence[str]) -> str:
    counts = Counter(_ending(file) or "no ending" for file in files)
    return ", ".join(f"{number:,} {ending}" for ending, number in counts.most_common(MAX_NAMED))
