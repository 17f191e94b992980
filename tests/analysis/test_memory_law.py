from __future__ import annotations

import random

import pytest

from vnbench.analysis.trials.memory_law import CensoredPoint, MemoryLaw, PeakPoint, fit_memory_law, fits_right_ratio


def points_of(*pairs: tuple[int, float]) -> list[PeakPoint]:
    return [PeakPoint(padded_pixels=pixels, peak_bytes=round(peak)) for pixels, peak in pairs]


def law_of(*, fixed: float, per_pixel: float) -> MemoryLaw:
    made = fit_memory_law(points_of(*((n, fixed + per_pixel * n) for n in (10**6, 3 * 10**6, 10**7))))
    assert made is not None
    return made


def test_a_line_through_exact_points_is_found_and_misses_nothing() -> None:
    law = law_of(fixed=5e8, per_pixel=300)
    assert law.bytes_fixed == pytest.approx(5e8, rel=1e-6)
    assert law.bytes_per_pixel == pytest.approx(300, rel=1e-6)
    assert law.largest_residual < 1e-6
    assert law.loo_error_max is not None
    assert law.loo_error_max < 1e-6
    assert (law.smallest_pixels, law.largest_pixels) == (10**6, 10**7)


def test_two_sizes_worked_by_hand() -> None:
    # 3 = a + b, 5 = a + 2 b.
    law = fit_memory_law(points_of((1, 3e9), (2, 5e9)))
    assert law is not None
    assert law.bytes_fixed == pytest.approx(1e9)
    assert law.bytes_per_pixel == pytest.approx(2e9)
    assert law.loo_error_max is None, "two sizes leave none to try it on"


def test_one_size_makes_no_law() -> None:
    assert fit_memory_law([]) is None
    assert fit_memory_law(points_of((8, 100), (8, 101))) is None


def test_terms_are_never_negative() -> None:
    # Peaks that grow faster than in proportion would have a fixed part below zero.
    law = fit_memory_law(points_of((1, 1e9), (2, 3e9), (4, 9e9)))
    assert law is not None
    assert law.bytes_fixed == 0
    falling = fit_memory_law(points_of((1, 9e9), (2, 3e9)))
    assert falling is not None
    assert falling.bytes_per_pixel == 0


def test_the_error_left_out_is_that_of_a_law_without_that_size() -> None:
    # 2, 4 and 9: without the last the law is 2 per pixel, which gives 6 at 3 pixels: a third too little.
    law = fit_memory_law(points_of((1, 2e9), (2, 4e9), (3, 9e9)))
    assert law is not None
    assert law.loo_error_max == pytest.approx(1 / 3)


def test_noise_of_one_percent_is_told_as_such() -> None:
    generator = random.Random(0)
    points = points_of(*((n * 10**6, (4e8 + 300e6 * n) * generator.gauss(1, 0.01)) for n in range(1, 13)))
    law = fit_memory_law(points)
    assert law is not None
    assert law.loo_error_median is not None
    assert law.loo_error_max is not None
    assert law.bytes_per_pixel == pytest.approx(300, rel=0.02)
    assert 0.002 < law.loo_error_median < 0.02
    assert law.loo_error_median <= law.loo_error_max < 0.05


def test_a_censored_point_counts_only_where_the_law_lies_below_it() -> None:
    points = points_of((1, 2e9), (2, 4e9), (3, 6e9))
    harmless = fit_memory_law(points, censored=[CensoredPoint(padded_pixels=4, more_than_bytes=7 * 10**9)])
    assert harmless == fit_memory_law(points)
    raised = fit_memory_law(points, censored=[CensoredPoint(padded_pixels=4, more_than_bytes=16 * 10**9)])
    assert raised is not None
    assert raised.num_raising == 1
    # Least squares of 1 - b x / peak, x / peak being 1/2, 1/2, 1/2 and 1/4 per 1e9: b = (1.5 + 0.25) / (0.75 + 0.0625).
    assert raised.bytes_per_pixel == pytest.approx(1.75 / 0.8125 * 1e9)
    assert raised.bytes_fixed == 0


def test_whether_it_fits_is_told_right_as_far_as_the_law_is() -> None:
    exact = points_of(*((n, 1e9 + 2e9 * n) for n in (1, 2, 3, 4)))
    assert fits_right_ratio(exact) == 1
    assert fits_right_ratio(exact[:2]) is None
    # 2, 4 and 9: without the last the law says 6, without the first 0 (slope 5), without the second 5.5: right only
    # where each asks on the side on which the law errs.
    off = points_of((1, 2e9), (2, 4e9), (3, 9e9))
    assert fits_right_ratio(off, margins=(0.01,)) == pytest.approx(1 / 2)


@pytest.mark.parametrize(("memory", "largest"), [(1.0, 0), (1.9, 0), (2.0, 1), (10.5, 9), (10.999, 9), (11.0, 10)])
def test_the_largest_micro_batch_is_rounded_down(memory: float, largest: int) -> None:
    law = law_of(fixed=1e9, per_pixel=1000)
    # A hair more than asked, since the fit is exact to rounding only.
    assert law.largest_micro_batch(memory_bytes=memory * 1e9 + 10, pixels_per_example=10**6) == largest


def test_a_law_without_a_cost_per_pixel_bounds_nothing() -> None:
    flat = fit_memory_law(points_of((1, 9e9), (2, 3e9)))
    assert flat is not None
    with pytest.raises(ValueError, match="does not limit the micro-batch"):
        flat.largest_micro_batch(memory_bytes=1e9, pixels_per_example=1)
