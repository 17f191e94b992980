from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vnbench.errors import InputError
from vnbench.images.finding.pairs import Found, find_pairs


def find(root: Path, names: str) -> Found:
    """Return what is found among empty files of these names: none is opened."""
    for name in names.split():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return find_pairs(root)


def told(found: Found) -> str:
    """Return the pairs in a line, ``image=mask``, with the split where folders tell it."""
    return " ".join(f"{pair.image}={pair.mask}" + (f":{pair.split}" if pair.split else "") for pair in found.pairs)


@pytest.mark.parametrize(
    "names",
    [
        "images/a.png=masks/a.png images/b.png=masks/b.png",
        "images/a.png=labels/a.png",
        "img_dir/a.png=ann_dir/a.png",
        "JPG/a.jpg=MASK/a.png",
        "imgs/a.tif=masks/a.png",
        "img/a.tif=mask/a.png",
        "image/a.jpg=annotations/a.png",
        "Images/a.png=Masks/a.png",
        "IMAGES/A.PNG=GT/A.PNG",
        "JPEGImages/a.jpg=SegmentationClass/a.png",
        "images/a.png=ground_truth/a.png",
        "images/well/deep/a.png=masks/well/deep/a.png",
        "wells/a/images/1.png=wells/a/masks/1.png wells/b/images/1.png=wells/b/masks/1.png",
        "labels/images/a.png=labels/masks/a.png",
        "north_images/1.png=north_masks/1.png south_images/1.png=south_masks/1.png",
        "scans/a.tif=masks/a.png",
        "raw_images/a.tif=masks/a.png",
        "images/a.tif=curve_masks/a.png",
        "scans/a/1.png=masks/a/1.png",
        "geoportal_orto/image_1.png=geoportal_build_mask/mask_1.png",
        "a/1.png=masks/a/1.png b/1.png=masks/b/1.png",
        "north/1.png=masks/north/1.png",
        "a.png=masks/a.png b.png=masks/b.png",
        "well/a.png=well/masks/a.png",
    ],
)
def test_masks_lie_in_folders_that_are_named_so(tmp_path: Path, names: str) -> None:
    assert told(find(tmp_path, names.replace("=", " "))) == names


@pytest.mark.parametrize(
    "names",
    [
        "a.png=a_mask.png b.tif=b_mask.png",
        "a.png=a_label.png",
        "a.png=a_gt.png",
        "a.png=a-mask.png",
        "a.png=a.mask.png",
        "a.jpg=a_Segmentation.png",
        "a(1).png=a(1)_mask.png",
        "image_1.png=mask_1.png image_2.png=mask_2.png",
        "1.png=label_1.png",
        "img1.png=gt1.png",
        "a.png=a_L.png",
        "a.1.jpg=a.1_mask.png a.2.jpg=a.2_mask.png",
        "a_image.png=a_mask.png",
        "deep/a.png=deep/a_mask.png",
        "images/a.png=masks/a_mask.png images/b.png=masks/b-label.png",
        "images/a_0000.png=masks/a.png",
        "images/a.jpg=masks/a.jpg.png",
        "images/Well_1.png=masks/WELL_1.png",
        "images/caf\u00e9.png=masks/cafe\u0301.png",
        "images/a_mask.png=masks/a_mask.png",
        "images/a.png=images/a_mask.png",
    ],
)
def test_masks_are_named_after_their_images(tmp_path: Path, names: str) -> None:
    assert told(find(tmp_path, names.replace("=", " "))) == names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("1.jpg 1.png 2.jpg 2.png", "1.jpg=1.png 2.jpg=2.png"),
        ("1.jpeg 1.bmp", "1.jpeg=1.bmp"),
        ("1.tif 1.gif", "1.tif=1.gif"),
        ("1.tif 1.jpg", "1.tif=None"),
        ("1.tif 1.jpg 1.png", "1.tif=1.png"),
        ("images/1.png images/1.jpg masks/1.png", "images/1.png=masks/1.png"),
        ("1.tif 1.jpg 1_mask.png", "1.tif=1_mask.png"),
        ("images/1.jpg masks/1.png masks/1.jpg", "images/1.jpg=masks/1.png"),
    ],
)
def test_of_files_of_one_name_one_is_the_image_and_one_may_be_its_mask(
    tmp_path: Path, names: str, expected: str
) -> None:
    found = find(tmp_path, names)
    assert told(found) == expected
    others = {name for name in names.split() if name not in expected.replace("=", " ").split()}
    assert {file for one in found.left_out for file in one.first_files} == others
    assert all(one.what == "other files with the name of an image or mask" for one in found.left_out)


@pytest.mark.parametrize(
    ("names", "told_of"),
    [
        ("1.png 1.bmp", "1.png"),
        ("1.jpg 1.png 1.bmp", "1.jpg"),
        ("images/1.jpg images/1.jpeg masks/1.png", "images/1.jpeg and images/1.jpg"),
        ("images/1.png imgs/1.png masks/1.png", "images/1.png and imgs/1.png"),
        ("images/1.png masks/1.png masks/1.tif", "images/1.png and masks/1.png and masks/1.tif"),
        ("images/1.png masks/1.png labels/1.png", "labels/1.png"),
        ("imagesTr/1_0000.png imagesTr/1_0001.png labelsTr/1.png", "imagesTr/1_0000.png and imagesTr/1_0001.png"),
        ("1.png 1_mask_1.png 1_mask_2.png", "1.png and 1_mask_1.png and 1_mask_2.png"),
        ("1.png 1_mask.png 1_label.png", "1.png and 1_label.png and 1_mask.png"),
        ("images/1.png masks/1.png extra/images/2.png extra/masks/2.png", "at two levels"),
        ("images/1.png masks/1.png images/a/2.png images/a/masks/2.png", "at two levels"),
        ("train/1.png train_masks/1.png val/2.png val_masks/2.png a/3.png masks/a/3.png", "a/3.png"),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(tmp_path: Path, names: str, told_of: str) -> None:
    with pytest.raises(InputError) as caught:
        find(tmp_path, names)
    assert str(tmp_path) in str(caught.value)
    assert told_of in str(caught.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            "train/images/1.png train/masks/1.png val/images/2.png val/masks/2.png",
            "train/images/1.png=train/masks/1.png:train val/images/2.png=val/masks/2.png:validation",
        ),
        (
            "images/train/1.png labels/train/1.png images/valid/2.png labels/valid/2.png",
            "images/train/1.png=labels/train/1.png:train images/valid/2.png=labels/valid/2.png:validation",
        ),
        (
            "train/1.jpg train_masks/1_mask.gif Validation/2.jpg Validation_masks/2_mask.gif",
            "Validation/2.jpg=Validation_masks/2_mask.gif:validation train/1.jpg=train_masks/1_mask.gif:train",
        ),
        (
            "train/1.png trainannot/1.png val/2.png valannot/2.png",
            "train/1.png=trainannot/1.png:train val/2.png=valannot/2.png:validation",
        ),
        (
            "training/1.png training/1_mask.png validation/1.png validation/1_mask.png",
            "training/1.png=training/1_mask.png:train validation/1.png=validation/1_mask.png:validation",
        ),
        (
            "imagesTr/1_0000.png labelsTr/1.png imagesTs/2_0000.png",
            "imagesTr/1_0000.png=labelsTr/1.png",
        ),
        (
            "images/train2017/1.png masks/train2017/1.png images/val2017/2.png masks/val2017/2.png",
            "images/train2017/1.png=masks/train2017/1.png:train images/val2017/2.png=masks/val2017/2.png:validation",
        ),
        ("trainval/1.png trainval/1_mask.png test/2.png test/2_mask.png", "trainval/1.png=trainval/1_mask.png"),
        (
            "images/1.png masks/1.png val_images/2.png val_masks/2.png",
            "images/1.png=masks/1.png:train val_images/2.png=val_masks/2.png:validation",
        ),
        ("test/1.png test/1_mask.png", "test/1.png=test/1_mask.png"),
        (
            "images/train/a/1.png masks/train/a/1.png images/val/a/1.png masks/val/a/1.png",
            "images/train/a/1.png=masks/train/a/1.png:train images/val/a/1.png=masks/val/a/1.png:validation",
        ),
    ],
)
def test_folders_tell_the_splits(tmp_path: Path, names: str, expected: str) -> None:
    found = find(tmp_path, names)
    assert told(found) == expected
    assert found.split_by == ("folders" if ":validation" in expected else "widths")


def test_names_of_splits_are_names_where_nothing_else_is_a_split(tmp_path: Path) -> None:
    found = find(tmp_path, "train/1.png train/1_mask.png field/2.png field/2_mask.png")
    assert told(found) == "field/2.png=field/2_mask.png train/1.png=train/1_mask.png"
    assert found.split_by == "widths"
    assert not found.left_out


def test_images_for_testing_are_left_out_and_told(tmp_path: Path) -> None:
    found = find(tmp_path, "train/images/1.png train/masks/1.png test/images/2.png test/images/3.png test/masks/2.png")
    assert told(found) == "train/images/1.png=train/masks/1.png"
    assert [str(one) for one in found.left_out] == [
        "images and masks for testing, not read: 3 (test/images/2.png, test/masks/2.png, test/images/3.png)"
    ]


def test_what_is_hidden_or_a_systems_own_is_passed_over(tmp_path: Path) -> None:
    found = find(
        tmp_path,
        "images/1.png masks/1.png images/.ipynb_checkpoints/1-checkpoint.png images/@eaDir/1.png/thumb.jpg "
        "__MACOSX/images/._1.png __MACOSX/images/1.png images/._1.png .git/x.png images/Thumbs.db images/.DS_Store "
        "$RECYCLE.BIN/x.png",
    )
    assert told(found) == "images/1.png=masks/1.png"
    assert not found.left_out


def test_files_that_are_not_read_are_named_and_counted_once(tmp_path: Path) -> None:
    found = find(
        tmp_path,
        "images/1.png masks/1.png images/2.jp2 images/3.jp2 masks/4.png masks/5.png masks/6.png masks/7.png "
        "overview.png notes.txt LICENSE previews/1.png",
    )
    assert told(found) == "images/1.png=masks/1.png"
    assert [str(one) for one in found.left_out] == [
        "masks without an image, not read: 4 (masks/4.png, masks/5.png, masks/6.png and 1 more)",
        "images beside the folders of images, not read: 2 (overview.png, previews/1.png)",
        "files of other formats (2 .jp2, 1 no ending, 1 .txt), not read: 4 (LICENSE, notes.txt, images/2.jp2 "
        "and 1 more)",
    ]


FOLDERS = ("images", "masks", "Labels", "train", "val_masks", "test", "scans", "a", "gt")
NAMES = tuple(
    f"{stem}{word}.{ending}"
    for stem in ("1", "2", "img_1", "1_0000")
    for word in ("", "_mask", "-gt", "_label_2", "_L")
    for ending in ("png", "jpg", "tif", "BMP", "txt")
)
PATHS = st.builds(
    lambda folders, name: "/".join([*folders, name]),
    st.lists(st.sampled_from(FOLDERS), max_size=3),
    st.sampled_from(NAMES),
)


@given(names=st.lists(PATHS, min_size=1, max_size=12, unique=True))
@settings(max_examples=300, deadline=None)
def test_every_file_is_an_image_or_a_mask_or_told_as_neither(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        try:
            found = find(Path(root), " ".join(names))
        except InputError:
            return
    used = [name for pair in found.pairs for name in (pair.image, pair.mask) if name is not None]
    assert len(set(used)) == len(used)
    assert set(used) <= set(names)
    assert len(used) + sum(one.count for one in found.left_out) == len(names)


def test_masks_beside_their_images_without_one_are_told(tmp_path: Path) -> None:
    found = find(tmp_path, "1.png 1_mask.png 2_mask.png 3_label.png")
    assert told(found) == "1.png=1_mask.png"
    assert [one.first_files for one in found.left_out] == [("2_mask.png", "3_label.png")]


def test_files_come_by_name_those_of_a_folder_before_the_folders_in_it(tmp_path: Path) -> None:
    names = ("images/b.png", "images/z.png", "images/a/c.png", "images/a.d/b.png")
    found = find(tmp_path, " ".join(names) + " " + " ".join(names).replace("images", "masks"))
    assert tuple(pair.image for pair in found.pairs) == names


def test_linked_folders_are_read(tmp_path: Path) -> None:
    find(tmp_path / "far", "images/2.png masks/2.png")
    (tmp_path / "own").mkdir()
    find(tmp_path / "own", "images/1.png masks/1.png")
    for kind in ("images", "masks"):
        (tmp_path / "own" / kind / "far").symlink_to(tmp_path / "far" / kind)
    found = find_pairs(tmp_path / "own")
    assert told(found) == "images/1.png=masks/1.png images/far/2.png=masks/far/2.png"
    assert not found.left_out


@pytest.mark.parametrize("target", ["images", ".", "..", "images/deep"])
def test_a_link_that_leads_in_a_ring_or_to_what_is_read_is_told(tmp_path: Path, target: str) -> None:
    root = tmp_path / "own"
    names = "images/1.png images/deep/2.png masks/1.png masks/deep/2.png"
    find(root, names)
    (root / "images" / "link").symlink_to(root / target)
    found = find_pairs(root)
    assert told(found) == "images/1.png=masks/1.png images/deep/2.png=masks/deep/2.png"
    assert [str(one) for one in found.left_out] == [
        "links to a folder above, or to one already read, not read: 1 (images/link)"
    ]


def test_links_to_each_other_or_to_nothing_end_and_are_told(tmp_path: Path) -> None:
    find(tmp_path, "a/1.png b/2.png")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "away").symlink_to(tmp_path / "disk")
    found = find_pairs(tmp_path)
    assert [pair.image for pair in found.pairs] == ["a/1.png", "b/2.png"]
    assert "broken links, not read: 2 (away, self)" in [str(one) for one in found.left_out]


def test_a_folder_that_is_none_or_holds_nothing_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: there is no such folder; name a folder of images and masks"):
        find_pairs(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: is a file; name"):
        find_pairs(tmp_path / "file")
    with pytest.raises(InputError, match=r"no images of a supported format \(\.png, .*files of other formats \(1 no"):
        find_pairs(tmp_path)
    with pytest.raises(InputError, match=r"masks without an image, not read: 2 \(masks/1\.png, masks/2\.png\)"):
        find(tmp_path, "masks/1.png masks/2.png")


def test_names_that_are_no_utf_8_are_found(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9")
    found = find(root, os.fsdecode(b"images/\xe9/b\xfc.png masks/\xe9/b\xfc.png"))
    assert told(found) == os.fsdecode(b"images/\xe9/b\xfc.png=masks/\xe9/b\xfc.png")


def test_cityscapes_is_paired_with_the_masks_that_hold_classes(tmp_path: Path) -> None:
    places = [f"{place}_{number}" for place in ("train/aachen/aachen", "val/ulm/ulm") for number in (0, 1)]
    kinds = ("labelIds.png", "color.png", "instanceIds.png", "polygons.json")
    masks = [f"gtFine/{place}_gtFine_{kind}" for place in places for kind in kinds]
    found = find(tmp_path, " ".join([*masks, *(f"leftImg8bit/{place}_leftImg8bit.png" for place in places)]))
    assert told(found) == " ".join(
        f"leftImg8bit/{place}_leftImg8bit.png=gtFine/{place}_gtFine_labelIds.png:"
        + ("train" if "train" in place else "validation")
        for place in places
    )
    assert [(left.what, left.count) for left in found.left_out] == [
        ("other masks of an image", 8),
        ("files of other formats (4 .json)", 4),
    ]


@pytest.mark.parametrize(
    "names",
    [
        "leftImg8bit/a_leftImg8bit.png=gtCoarse/a_gtCoarse_labelIds.png",
        "images/a.png=masks/a_labelTrainIds.png",
        "a.png=a_labelIds.png",
        "a_leftImg8bit.png=a_gtFine_labelTrainIds.png",
        "inputs/a.png=targets/a.png",
        "input/a.png=target/a.png",
        "dev/images/a.png=dev/masks/a.png:validation train/images/b.png=train/masks/b.png:train",
        "images/eval/a.png=masks/eval/a.png:validation images/train/b.png=masks/train/b.png:train",
        "A.png=A_mask.png a.png=a_mask.png",
        "images/A.png=masks/A_mask.png images/a.png=masks/a_mask.png",
        "IMG_A.png=A_GT.png img_a.png=a_GT.png",
    ],
)
def test_names_of_further_public_layouts_are_known(tmp_path: Path, names: str) -> None:
    found = find(tmp_path, names.replace(":validation", "").replace(":train", "").replace("=", " "))
    assert told(found) == names


def test_of_two_masks_that_hold_classes_that_of_all_classes_is_read_and_the_other_told(tmp_path: Path) -> None:
    found = find(tmp_path, "images/a.png masks/a_labelIds.png masks/a_labelTrainIds.png masks/z.png")
    assert told(found) == "images/a.png=masks/a_labelIds.png"
    assert [str(left_out) for left_out in found.left_out] == [
        "masks without an image, not read: 1 (masks/z.png)",
        "other masks of an image, not read: 1 (masks/a_labelTrainIds.png)",
    ]


def test_names_that_differ_in_capitals_alone_are_refused_where_a_mask_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"do not pair one to one: A\.png and a\.png and A_mask\.png"):
        find(tmp_path, "A.png a.png A_mask.png")
