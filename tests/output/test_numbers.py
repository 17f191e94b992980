import pytest

from vnbench.output.words.numbers import format_estimate, significant, supported, time_unit, times


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (1.2345, 0.0432, "1.23 ± 0.04"),
        (1.2345, 0.0132, "1.234 ± 0.013"),
        (1.2345, 0.0196, "1.23 ± 0.02"),
        (123.4, 45.0, "120 ± 40"),
        (1234.0, 17.0, "1234 ± 17"),
        (0.98, 0.0999, "0.98 ± 0.10"),
        (0.98, 0.16, "0.98 ± 0.16"),
        (5.0, 0.0, "5.00 ± 0"),
        (0.064, 0.06, "0.064 ± 0.06"),
        (9.44, 4.0, "9.4 ± 4"),
        (12.6, 4.0, "13 ± 4"),
        (12.345, None, "12"),
        (0.012345, None, "0.012"),
        (1234.5, None, "1200"),
        (None, None, "-"),
    ],
)
def test_a_figure_has_no_more_digits_than_its_half_width_supports_and_never_fewer_than_two(
    value, half_width, text
) -> None:
    assert format_estimate(value, half_width) == text
    assert supported(value, half_width) == text.split(" ± ")[0]


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (0.064, 0.3, "0.064 (0 to 0.4)"),
        (0.0643, 0.132, "0.064 (0 to 0.20)"),
        (12.0, 14.0, "12 (0 to 26)"),
        (0.0, 0.2, "0 to 0.2"),
        (-3.0, 40.0, "0 to 40"),
    ],
)
def test_what_cannot_be_negative_has_no_interval_below_zero(value: float, half_width: float, text: str) -> None:
    assert format_estimate(value, half_width) == text
    assert "±" in format_estimate(value, half_width, is_difference=True)


def test_a_difference_ends_where_its_half_width_does() -> None:
    assert format_estimate(0.064, 0.3, is_difference=True) == "0.1 ± 0.3"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234.5, 3, "1230"), (12.345, 3, "12.3"), (0.00012345, 2, "0.00012"), (0, 2, "0.0"), (None, 3, "-")],
)
def test_significant_digits_are_never_written_in_powers_of_ten(value, digits, text) -> None:
    assert significant(value, digits=digits) == text


def test_a_product_with_a_missing_part_is_missing() -> None:
    assert times(2.0, 3.0) == 6
    assert times(None, 3.0) is None
    assert times(2.0, None) is None


@pytest.mark.parametrize(
    ("seconds", "unit"),
    [(0.2, "s"), (179, "s"), (181, "min"), (10_799, "min"), (10_800, "h"), (259_199, "h"), (259_200, "d")],
)
def test_the_unit_of_a_time_leaves_it_at_three_or_more(seconds, unit) -> None:
    assert time_unit(seconds)[0] == unit
