import math
from collections.abc import Sequence

import numpy as np
import pytest

from vnbench.analysis.statistics.estimate import Estimate, student_t
from vnbench.analysis.statistics.process_spread import (
    Spread,
    mean_of_processes,
    pair_half_width,
    pooled,
    spread_of,
)

T_2 = 4.302652729911275


def figures(*values: float, error: float | None = None, dof: float = math.inf) -> list[Estimate]:
    return [Estimate(value=value, se=None if error is None else error * value, dof=dof) for value in values]


def a_spread(**changes: float) -> Spread:
    values = {"relative": 0.05, "relative_within": 0.03, "degrees_of_freedom": 2, "num_specs": 1, "num_processes": 3}
    return Spread(**(values | changes))


def half_width(error: float, *, dof: float = math.inf, num_processes: int = 1) -> float:
    """Of the mean of processes whose steps tell an error, beside ``a_spread``."""
    within = Estimate(value=1.0, se=error, dof=dof)
    found = mean_of_processes(within, spread=a_spread(), num_processes=num_processes).half_width
    assert found is not None
    return found


def test_students_t_takes_degrees_of_freedom_that_are_no_whole_number() -> None:
    assert student_t(2) == pytest.approx(T_2)
    assert student_t(2) > student_t(2.5) > student_t(3)
    assert student_t(math.inf) == pytest.approx(1.959964, abs=1e-6)


def test_spread_pools_relative_variances_by_their_degrees_of_freedom() -> None:
    # 9, 10, 11: deviations -0.1, 0, 0.1, variance 0.02 / 2 = 0.01 with two degrees of freedom;
    # 98, 102: deviations -0.02, 0.02, variance 0.0008 with one. Pooled: (2 x 0.01 + 0.0008) / 3.
    spread = spread_of([[figures(9, 10, 11)], [figures(98, 102)], [figures(5)]])
    assert spread is not None
    assert spread.relative == pytest.approx(math.sqrt(0.0208 / 3))
    assert (spread.degrees_of_freedom, spread.num_specs, spread.num_processes) == (3, 2, 5)


def test_what_the_steps_explain_is_taken_from_the_spread_between_processes() -> None:
    # 0.1^2 = 0.06^2 + 0.08^2
    spread = spread_of([[figures(9, 10, 11, error=0.06, dof=20)]])
    assert spread is not None
    assert spread.relative_within == pytest.approx(0.06)
    assert spread.relative_between == pytest.approx(0.08)


def test_processes_closer_together_than_their_steps_allow_have_no_spread_between_them() -> None:
    spread = spread_of([[figures(9.9, 10, 10.1, error=0.06, dof=20)]])
    assert spread is not None
    assert spread.relative_between == 0


def test_an_unknown_error_within_leaves_all_spread_between_processes() -> None:
    spread = spread_of([[figures(9, 10, 11)]])
    assert spread is not None
    assert spread.relative_between == spread.relative == pytest.approx(0.1)


@pytest.mark.parametrize("specs", [[], [[]], [[figures(9)], [figures(10)]]])
def test_without_a_repeated_spec_there_is_no_spread(specs) -> None:
    assert spread_of(specs) is None


def test_the_canvases_of_one_process_bring_no_degrees_of_freedom_of_their_own() -> None:
    # Variances 0.01 and 0.0004 of two figures of the same three processes.
    spread = spread_of([[figures(9, 10, 11), figures(98, 100, 102)]])
    assert spread is not None
    assert spread.relative == pytest.approx(math.sqrt(0.0052))
    assert spread.degrees_of_freedom == 2


def test_the_interval_of_the_only_repeated_spec_is_students_where_steps_say_nothing() -> None:
    processes = figures(9, 10, 11)
    row = pooled(processes, spread=spread_of([[processes]]))
    assert (row.value, row.num_processes, row.relative_within) == (10, 3, None)
    assert row.relative_half_width == pytest.approx(T_2 * 0.1 / math.sqrt(3))
    assert row.half_width == pytest.approx(10 * T_2 * 0.1 / math.sqrt(3))


def test_a_spec_of_one_process_borrows_the_spread() -> None:
    # As noisy as those of the spread: sigma_b^2 + w^2 = (0.05^2 - 0.03^2) + 0.03^2, with the spread's two degrees.
    assert half_width(0.03) == pytest.approx(T_2 * 0.05)
    (process,) = figures(7, error=0.03, dof=20)
    row = pooled([process], spread=a_spread())
    assert row.relative_half_width == pytest.approx(T_2 * 0.05)
    assert (row.relative_error, row.dof) == (pytest.approx(0.05), 2)


def test_steps_noisier_than_those_of_the_spread_widen_the_interval() -> None:
    # 0.05^2 + 0.06^2 - 0.03^2 = 0.0052; its square over 0.05^4 / 2 + 0.0027^2 / 5.
    freedom = 0.0052**2 / (0.05**4 / 2 + 0.0027**2 / 5)
    width = half_width(0.06, dof=5)
    assert width == pytest.approx(student_t(freedom) * math.sqrt(0.0052))


def test_steps_quieter_than_those_of_the_spread_take_nothing_off() -> None:
    assert half_width(0.0) == pytest.approx(T_2 * 0.05)


def test_more_processes_of_a_spec_narrow_its_interval_by_their_root() -> None:
    one = half_width(0.03)
    assert half_width(0.03, num_processes=4) == pytest.approx(one / 2)


def test_two_trials_differ_by_root_two_times_what_one_is_uncertain_by() -> None:
    assert pair_half_width(a_spread(), Estimate(value=1.0, se=0.03)) == pytest.approx(T_2 * 0.05 * math.sqrt(2))


def test_without_a_spread_the_interval_is_that_of_the_steps() -> None:
    row = pooled(figures(7, error=0.03, dof=2), spread=None)
    assert row.relative_half_width == pytest.approx(T_2 * 0.03)
    assert row.relative_between is None


def test_one_step_of_one_process_has_no_interval_even_with_a_spread() -> None:
    assert pooled(figures(7), spread=a_spread()).relative_half_width is None
    assert pooled(figures(7), spread=None).relative_half_width is None


def test_processes_that_agree_exactly_have_an_interval_of_no_width() -> None:
    processes = figures(7, 7, 7)
    assert pooled(processes, spread=spread_of([[processes]])).relative_half_width == 0


def test_no_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one process"):
        pooled([], spread=None)


BETWEEN, WITHIN, STEPS = 0.03, 0.01, 30


def drawn(random: np.random.Generator, *, truth: float) -> Estimate:
    """One process: 3 % between processes, and a mean of thirty steps known to 1 %."""
    steps = random.normal(truth * random.normal(1, BETWEEN), truth * WITHIN * math.sqrt(STEPS), size=STEPS)
    mean = float(steps.mean())
    error = float(steps.std(ddof=1)) / math.sqrt(STEPS)
    return Estimate(value=mean, se=error, dof=STEPS - 1)


def coverage(replicates: Sequence[int], *, rounds: int) -> tuple[float, float, float]:
    """Share of specs' intervals that hold the truth, from within one process alone, and of pairs of further trials."""
    random = np.random.Generator(np.random.Philox(key=11))
    with_between, within_alone, pairs = [], [], []
    for _ in range(rounds):
        specs = [[drawn(random, truth=1.0 + i) for _ in range(n)] for i, n in enumerate(replicates)]
        spread = spread_of([[processes] for processes in specs])
        assert spread is not None
        for i, processes in enumerate(specs):
            for hits, known in ((with_between, spread), (within_alone, None)):
                row = pooled(processes, spread=known)
                assert row.half_width is not None
                hits.append(abs(row.value - (1.0 + i)) <= row.half_width)
        first, second = drawn(random, truth=2.0), drawn(random, truth=2.0)
        limit = pair_half_width(spread, first)
        pairs.append(abs(first.value - second.value) <= limit * (first.value + second.value) / 2)
    return float(np.mean(with_between)), float(np.mean(within_alone)), float(np.mean(pairs))


@pytest.mark.parametrize(
    ("replicates", "rounds"),
    [((3,) * 7, 150), ((3, 1, 1, 1, 1, 1, 1), 400), ((3,), 800)],
    ids=["every spec three times", "the reference three times", "one spec three times"],
)
def test_intervals_cover_the_truth_as_often_as_they_say_and_those_of_one_process_do_not(replicates, rounds) -> None:
    covered, within_alone, pairs = coverage(replicates, rounds=rounds)
    assert 0.92 <= covered <= 0.98
    assert 0.92 <= pairs <= 0.99
    # Why the part between processes has to be in: 3 % of it against 1 % of noise in a process.
    assert within_alone < 0.6
