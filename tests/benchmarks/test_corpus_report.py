from __future__ import annotations

import corpus_report
import numpy as np
import pytest
from corpus_report import CLASS_GRAYS, GAP, SHEET_WIDTH, STRIP, Making, Timing, contact_sheet, find_decoders

from vnbench.output.words.provenance import Provenance
from vnbench.records.spec.words import IMAGE_FORMATS


def test_a_part_stands_beside_its_mask_pixel_by_pixel() -> None:
    sheet_HW = np.asarray(contact_sheet((12,)))
    assert sheet_HW.shape[1] == SHEET_WIDTH
    part_HW = sheet_HW[-STRIP[0] :]
    width = (SHEET_WIDTH - GAP) // 2
    image_HW, mask_HW = part_HW[:, :width], part_HW[:, width + GAP :]
    assert image_HW.shape == mask_HW.shape
    assert set(np.unique(mask_HW)) == set(CLASS_GRAYS)
    assert np.median(image_HW[mask_HW == 0]) < 100, "the first curve is where its mask is black"


def test_every_format_has_a_decoder_and_what_is_missing_is_named() -> None:
    decoders, left_out = find_decoders()
    assert {image_format for image_format, decoder in decoders if decoder == "Pillow"} == set(IMAGE_FORMATS)
    for library in ("OpenCV", "imagecodecs"):
        assert (library in left_out) != any(decoder == library for _, decoder in decoders)


def test_a_library_that_reads_notably_faster_is_named() -> None:
    def timing(image_format: str, decoder: str, to_png: float) -> Timing:
        return Timing(image_format=image_format, decoder=decoder, bytes_per_pixel=0.5, s_per_mpx=[0.01], to_png=to_png)

    own = [timing("png", "Pillow", 1.0), timing("tiff-deflate", "Pillow", 0.6)]
    slower = timing("png", "OpenCV", 0.95)
    assert "No other library here" in corpus_report.choice_text([*own, slower], left_out=[])
    text = corpus_report.choice_text([*own, slower, timing("tiff-deflate", "imagecodecs", 0.3)], left_out=[])
    assert "imagecodecs reads tiff-deflate in 0.50 of its time." in text
    assert "OpenCV" not in text


def test_every_way_of_reading_is_timed_beside_png(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_report, "NUM_TIMED", 1)
    monkeypatch.setattr(corpus_report, "NUM_ROUNDS", 1)
    timings = corpus_report.time_decoding(find_decoders()[0])
    assert {timing.image_format for timing in timings} == {*IMAGE_FORMATS, corpus_report.RAW}
    png = next(timing for timing in timings if (timing.image_format, timing.decoder) == ("png", "Pillow"))
    assert png.to_png == 1.0
    assert all(seconds > 0 for timing in timings for seconds in timing.s_per_mpx)


def test_the_report_gives_the_ratio_of_drawing_to_encoding() -> None:
    timings = [
        Timing(image_format=one, decoder="Pillow", bytes_per_pixel=0.5, s_per_mpx=[0.01, 0.02], to_png=1.0)
        for one in IMAGE_FORMATS
    ]
    text = corpus_report.report_text(
        timings,
        Making(draw_s=0.02, encode_s=0.1, encode_mask_s=0.03),
        [0.01, 0.03],
        left_out=["OpenCV"],
        name="corpus",
        origin=Provenance(device_type="cpu", device_name="x", torch_versions=("2",), dates=("2026-01-01",)),
    )
    assert "Drawing costs 0.20 times" in text
    assert "6.67 images per second" in text
    assert "2.0 % of the pixels (1.0 to 3.0 % in 2 images" in text
    assert "left out: OpenCV" in text
