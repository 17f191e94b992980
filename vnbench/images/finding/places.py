"""What the files of each folder are, images or masks, as the names of the folders say it together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from vnbench.images.finding.names import FolderSplit, read_folder_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What the files of a folder are."""

    role: Literal["image", "mask", "outside"] = "image"
    """``outside``: they lie beside folders of images and of masks. Without a word for it, files are images."""
    split: FolderSplit | None = None
    """Which split they are for, where the names say so."""
    rest: tuple[str, ...] = ()
    """What else the names say; the same for an image and its mask."""
    is_told: bool = False
    """Whether the images lie in folders of their own."""
    has_masks_within: bool = False
    """Whether a folder further down is named as one of masks, which decides nothing any more."""


@dataclass(kw_only=True, slots=True)
class _Node:
    """What lies in a folder, of which something can be read."""

    masks: set[str] = field(default_factory=set)
    """Folders named as ones of masks."""
    images: set[str] = field(default_factory=set)
    """Folders named as ones of images."""
    others: set[str] = field(default_factory=set)
    """Further folders."""
    has_files: bool = False
    is_one_of_each: bool = False
    """Whether all images and all masks here lie in folders of one name but for splits, whatever the name."""

    @property
    def tells(self) -> bool:
        """Whether masks lie in folders of their own here. A folder of masks is one beside something else alone."""
        return bool(self.masks and (self.images or self.others or self.has_files))


def find_places(folders: Iterable[str]) -> dict[str, Place]:
    """Return what the files of each folder are; ``folders`` are those that hold a file that can be read."""
    names = {folder: folder.split("/") if folder else [] for folder in folders}
    nodes: dict[str, _Node] = {}
    for folder, parts in names.items():
        path = ""
        for part in parts:
            node = nodes.setdefault(path, _Node())
            role = read_folder_name(part).role
            (node.masks if role == "mask" else node.images if role == "image" else node.others).add(part)
            path = f"{path}/{part}" if path else part
        nodes.setdefault(folder, _Node()).has_files = True
    for path, node in nodes.items():
        node.is_one_of_each = node.tells and _is_one_of_each(path, nodes)
    return {folder: _place(parts, nodes) for folder, parts in names.items()}


def _place(parts: list[str], nodes: dict[str, _Node]) -> Place:
    """Return what the files of one folder are: the outermost folder that tells decides."""
    split: FolderSplit | None = None
    rest: list[str] = []
    path = ""
    role: Literal["image", "mask", "outside"] = "image"
    is_told = is_decided = has_masks_within = False
    for part in parts:
        word, node = read_folder_name(part), nodes[path]
        names_split = split is None and word.split is not None
        split = split or word.split
        if is_decided:
            has_masks_within = has_masks_within or word.role == "mask"
            rest += [] if names_split and word.role is None else [part]
        elif node.tells:
            is_decided = True
            is_told = word.role is not None or node.is_one_of_each
            role = word.role or ("outside" if node.images else "image")
            rest += [] if node.is_one_of_each or not word.rest else [word.rest]
        else:
            role = role if word.role is None or word.rest else word.role
            rest += [part] if word.role or word.rest else []
        path = f"{path}/{part}" if path else part
    if not is_decided and nodes[path].tells:
        role = "outside" if nodes[path].images else "image"
    return Place(role=role, split=split, rest=tuple(rest), is_told=is_told, has_masks_within=has_masks_within)


def _is_one_of_each(path: str, nodes: dict[str, _Node]) -> bool:
    """Return it of a folder that tells; not where masks repeat the name of the images' folder within theirs."""
    node = nodes[path]
    image_names = {read_folder_name(name).rest for name in node.images or node.others}
    mask_names = {read_folder_name(name).rest for name in node.masks}
    if len(image_names) != 1 or len(mask_names) != 1 or (node.has_files and not node.images):
        return False
    within = [nodes[f"{path}/{mask}" if path else mask] for mask in node.masks]
    return bool(node.images) or not any(node.others & one.others for one in within)
