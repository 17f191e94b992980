"""Role of the files in each folder, images or masks, from the names of all folders together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from vnbench.images.finding.names import FolderSplit, read_folder_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Role and split of the files in a folder."""

    role: Literal["image", "mask", "outside"] = "image"
    """``outside``: the files lie beside folders of images and of masks. Files are images unless a name says
    otherwise."""
    split: FolderSplit | None = None
    """Split; None if the names do not say."""
    rest: tuple[str, ...] = ()
    """Rest of the names, equal for an image and its mask."""
    is_told: bool = False
    """Whether images have folders of their own."""
    has_masks_within: bool = False
    """Whether a folder further down is named as one of masks; that name has no effect."""


@dataclass(kw_only=True, slots=True)
class _Node:
    """Content of a folder that has readable files in it or below it."""

    masks: set[str] = field(default_factory=set)
    """Subfolders whose names mean masks."""
    images: set[str] = field(default_factory=set)
    """Subfolders whose names mean images."""
    others: set[str] = field(default_factory=set)
    """Other subfolders."""
    has_files: bool = False
    is_one_of_each: bool = False
    """Whether there is one folder name for all images and one for all masks here, except for splits."""

    @property
    def tells(self) -> bool:
        """Whether masks have folders of their own here. A folder of masks counts only beside something else."""
        return bool(self.masks and (self.images or self.others or self.has_files))


def find_places(folders: Iterable[str]) -> dict[str, Place]:
    """Return the place of each folder in ``folders``, the folders that hold a readable file."""
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
    """Return the place of one folder. The outermost folder that separates masks from images decides."""
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
    """Return ``is_one_of_each`` of a folder that tells; False if masks repeat the name of the images' folder inside."""
    node = nodes[path]
    image_names = {read_folder_name(name).rest for name in node.images or node.others}
    mask_names = {read_folder_name(name).rest for name in node.masks}
    if len(image_names) != 1 or len(mask_names) != 1 or (node.has_files and not node.images):
        return False
    within = [nodes[f"{path}/{mask}" if path else mask] for mask in node.masks]
    return bool(node.images) or not any(node.others & one.others for one in within)
