from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vnbench.errors import CorpusError
from vnbench.images.decoding.gray_files import is_whole, read_gray
from vnbench.images.decoding.gray_png import encode_image, encode_mask
from vnbench.images.drawing.raster import draw_example


def test_encoded_pixels_are_read_back(tmp_path: Path) -> None:
    example = draw_example(seed=0, index=0, height=30, width=70, task="binary")
    path = tmp_path / "file.png"
    for pixels_HW, encode in zip(example, (encode_image, encode_mask), strict=True):
        path.write_bytes(encode(pixels_HW))
        assert np.array_equal(read_gray(path, expected_size=(30, 70)), pixels_HW)
        assert is_whole(path, expected_size=(30, 70))
        assert not is_whole(path, expected_size=(70, 30))


def test_broken_files_are_named_with_what_is_wrong(tmp_path: Path) -> None:
    image_HW = np.random.default_rng(0).integers(0, 256, (30, 70), dtype=np.uint8)
    whole = encode_image(image_HW)
    path = tmp_path / "image.png"
    with pytest.raises(CorpusError, match=r"image\.png: is missing"):
        read_gray(path, expected_size=(30, 70))
    for content in (b"", b"text", whole[:20], whole[:60], whole[:1000], whole[:600] + b"\0" * 40 + whole[640:]):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match=r"image\.png: does not decode: \w+"):
            read_gray(path, expected_size=(30, 70))
        assert not is_whole(path, expected_size=(30, 70)) or len(content) == len(whole)
    path.write_bytes(whole)
    with pytest.raises(CorpusError, match=r"image\.png: is 70 x 30 px, its manifest row says 71 x 30 px"):
        read_gray(path, expected_size=(30, 71))


def test_images_beyond_the_limit_of_pillow_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(encode_image(np.zeros((30, 70), dtype=np.uint8)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 2,100 px: Image.open refuses more than twice the limit
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert read_gray(path, expected_size=(30, 70)).shape == (30, 70)
