from __future__ import annotations

from collections.abc import Callable

import pytest

from vnbench.errors import InputError
from vnbench.units import (
    PixelRange,
    count,
    format_bytes,
    format_duration,
    parse_amount,
    parse_bytes,
    parse_duration,
    parse_int,
    parse_int_list,
    parse_pixel_range,
    parse_pixels,
    parse_ratio,
)


def test_a_range_is_inclusive_and_one_number_is_a_range() -> None:
    assert parse_pixel_range("3200:12800", where="--widths") == PixelRange(start=3200, stop=12800)
    assert parse_pixel_range("640", where="--widths") == PixelRange(start=640, stop=640)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12800:3200", "--widths 12800:3200: start is greater than stop; write 3200:12800"),
        ("0:100", "--widths 0:100: a side is at least 1 px, not 0 px"),
        ("-5:100", "--widths -5:100: a side is at least 1 px, not -5 px"),
        ("3200:200001", "above the largest side"),
        ("3200-12800", "two whole numbers"),
        ("3200:", "two whole numbers"),
        ("a:b", "two whole numbers"),
        ("", "two whole numbers"),
        ("3200.5:12800", "two whole numbers"),
    ],
)
def test_a_wrong_range_is_told_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_pixel_range(text, where="--widths")


def test_a_list_keeps_its_order_and_drops_repeats() -> None:
    assert parse_int_list("4,1,4, 2", where="--batch-size", minimum=1) == (4, 1, 2)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1,,2", "", "one", "1;2", ",".join(["1"] * 65)])
def test_a_wrong_list_names_its_option(text: str) -> None:
    with pytest.raises(InputError, match="--batch-size"):
        parse_int_list(text, where="--batch-size", minimum=1)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("12h", 43200), ("1.5d", 129600)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text, where="--window") == seconds


@pytest.mark.parametrize("text", ["0", "-1m", "ten", "5y", "", "1e3s"])
def test_a_wrong_duration_names_its_option(text: str) -> None:
    with pytest.raises(InputError, match="--window"):
        parse_duration(text, where="--window")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0351, "35.1 ms"),
        (4.23, "4.23 s"),
        (59.99, "1 min"),
        (200, "3 min 20 s"),
        (33000, "9 h 10 min"),
        (259_199, "3 d"),
        (11_390_400, "131 d 20 h"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(512, "512 B"), (2**30, "1.00 GiB"), (15 * 2**30, "15.0 GiB"), (0, "0 B")]
)
def test_sizes_for_people(num_bytes: int, text: str) -> None:
    assert format_bytes(num_bytes) == text


@pytest.mark.parametrize(
    ("text", "pixels"),
    [("16384000", 16_384_000), ("2x640x12800", 16_384_000), ("640 x 12800", 8_192_000), ("16.4Mpx", 16_400_000)],
)
def test_pixels_are_a_number_megapixels_or_a_product(text: str, pixels: int) -> None:
    assert parse_pixels(text, where="--pixel-budget") == pixels


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "0x640", "1x2x3x4", "5MB", "Mpx", "9" * 20, "9" * 5000, "9" * 400 + "Mpx"]
)
def test_what_is_no_number_of_pixels_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--pixel-budget.*2x640x12800"):
        parse_pixels(text, where="--pixel-budget")


@pytest.mark.parametrize(("text", "size"), [("24GiB", 24 * 2**30), ("512 MiB", 2**29), ("1.5KiB", 1536), ("7B", 7)])
def test_sizes_have_binary_units(text: str, size: int) -> None:
    assert parse_bytes(text, where="--memory-limit") == size


@pytest.mark.parametrize("text", ["", "24", "0GiB", "-1GiB", "24GB", "1" + "0" * 400 + "GiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--memory-limit.*write 24GiB"):
        parse_bytes(text, where="--memory-limit")


@pytest.mark.parametrize("parse", [parse_duration, parse_amount, parse_ratio, parse_pixel_range])
def test_numbers_of_thousands_of_digits_are_refused_as_others_are(parse: Callable[..., object]) -> None:
    with pytest.raises(InputError):
        parse("9" * 5000, where="--it")


@pytest.mark.parametrize(
    ("number", "noun", "told"),
    [
        (1, "trial", "1 trial"),
        (0, "trial", "0 trials"),
        (2000, "training example", "2,000 training examples"),
        (2, "pass", "2 passes"),
        (3, "batch", "3 batches"),
        (3, "epoch", "3 epochs"),
        (2, "family", "2 families"),
        (2, "day", "2 days"),
    ],
)
def test_a_number_stands_with_its_noun(number: int, noun: str, told: str) -> None:
    assert count(number, noun) == told


@pytest.mark.parametrize("text", ["15000", "15,000", "15_000", "15k", " 15k "])
def test_a_number_of_images_is_taken_as_people_write_it(text: str) -> None:
    assert parse_int(text, where="--examples", minimum=1) == 15_000


@pytest.mark.parametrize("text", ["15,00", "1,5", "15kk", "0k", "15 000", "-15k", "k"])
def test_a_number_that_could_be_another_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_int(text, where="--examples", minimum=1)
