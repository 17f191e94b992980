"""What a sweep answers, in sentences under its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vnbench.analysis.comparison.lever_differences import differing_levers
from vnbench.analysis.comparison.sweep_answer import LeverEffect, SweepAnswer
from vnbench.analysis.findings import Findings
from vnbench.analysis.statistics.ratio import Ratio
from vnbench.analysis.trials.summary import TrialSummary
from vnbench.output.words.levers import levers_of, phrases
from vnbench.output.words.noise import REPEAT_COMMAND
from vnbench.output.words.numbers import scaled, told
from vnbench.output.words.row_notes import subject
from vnbench.records.spec.trial_spec import LEVERS, TrialSpec
from vnbench.units import count, mpx

MAX_NAMED = 4
"""Configurations that are named one by one."""

WIDEST = 10.0
"""Factor from a ratio to the end of its interval above which it says nothing; two processes leave such intervals."""

UNREPEATED = "No configuration was repeated: these intervals leave out run-to-run differences"

SAME_TIME = 0.05
"""A change whose whole interval lies within this of 1, either way, makes no difference to a person."""

SAME_MEMORY = 0.005
"""Difference of two peaks, relative, below which they are the same to a person."""

LABELS = {"precision": "precision {}", "shapes": "at most {}"}
"""Levers whose phrase does not stand on its own in a list."""

Verdict = Literal["faster", "slower", "same", "undecided"]


def answer_lines(found: Findings) -> tuple[str, ...]:
    """Return the answer of records of one device with all its figures as lines; none where it has none."""
    answer, rows, centre = found.answer, found.training, found.sides.centre
    if answer is None or centre is None:
        return ()
    return (
        _fastest_line(answer, rows),
        _contenders_line(answer, rows, centre=centre),
        *_effect_lines(answer, centre=centre),
        *(() if answer.has_processes else (f"{UNREPEATED} ({REPEAT_COMMAND} measures it).",)),
    )


def _fastest_line(answer: SweepAnswer, rows: Sequence[TrialSummary]) -> str:
    fastest = answer.fastest
    speed = told(scaled(fastest.valid_px_per_s, mpx(1)))
    over = "the centre itself" if answer.over_centre is None else _times(answer.over_centre, "the centre")
    return f"Fastest: {subject(fastest, rows)}: {speed} valid Mpx/s, {over}."


def _contenders_line(answer: SweepAnswer, rows: Sequence[TrialSummary], *, centre: TrialSpec) -> str:
    if not answer.contenders:
        which = "faster of the two" if answer.num_others == 1 else f"fastest of all {answer.num_others + 1}"
        return f"It is the {which} with 95 % certainty{_as_far_as(answer)}."
    named = [
        "the centre" if row.spec == centre else _unlike(row, answer.fastest, rows)
        for row in answer.contenders[:MAX_NAMED]
    ]
    more = len(answer.contenders) - len(named)
    rest = f"; and {count(more, 'other')}" if more else ""
    certainty = f"With 95 % certainty the fastest is one of these{_as_far_as(answer)}."
    return f"Perhaps as fast: {'; '.join(named)}{rest}. {certainty}"


def _as_far_as(answer: SweepAnswer) -> str:
    return "" if answer.has_processes else ", as far as single processes tell"


def _unlike(row: TrialSummary, fastest: TrialSummary, rows: Sequence[TrialSummary]) -> str:
    """Return in what a configuration differs from the fastest."""
    names = differing_levers(row.spec, fastest.spec)
    levers = levers_of(row.spec)
    return phrases(levers, names=[name for name in names if name in LEVERS]) or subject(row, rows)


def _effect_lines(answer: SweepAnswer, *, centre: TrialSpec) -> list[str]:
    if not answer.effects:
        return []
    heading = "One change at a time (time for the same images; peak memory of a worst-case step):"
    return [heading, *(f"  {effect_label(effect, centre=centre)}: {_effect(effect)}" for effect in answer.effects)]


def effect_label(effect: LeverEffect, *, centre: TrialSpec) -> str:
    """Return what was changed, and where that was not at the centre."""
    value = LEVERS[effect.lever].value(effect.spec)
    text = LABELS.get(effect.lever, "{}").format(LEVERS[effect.lever].phrase(value))
    if effect.lever == "batch_size" and effect.spec.accumulation_steps > 1:
        text += f" in passes of {effect.spec.micro_batch_size}"
    elsewhere = [name for name in differing_levers(effect.base, centre) if name in LEVERS]
    return f"{text} at {phrases(levers_of(effect.base), names=elsewhere)}" if elsewhere else text


def verdict_of(effect: LeverEffect) -> Verdict:
    """Return what the interval of a change says of its time."""
    interval = effect.time.interval
    if interval is None or is_too_wide(effect.time):
        return "undecided"
    if interval[0] >= 1 / (1 + SAME_TIME) and interval[1] <= 1 + SAME_TIME:
        return "same"
    if not effect.time.is_told_apart:
        return "undecided"
    return "slower" if effect.time.value > 1 else "faster"


def _effect(effect: LeverEffect) -> str:
    time = _time(effect)
    if effect.memory is None:
        return time
    if abs(effect.memory - 1) < SAME_MEMORY:
        return f"{time}, same peak memory"
    return f"{time}, {effect.memory:.2f} times the peak memory"


def _time(effect: LeverEffect) -> str:
    interval = effect.time.interval
    if interval is None or effect.time.is_told_apart:
        return _times(effect.time, "the time")
    if verdict_of(effect) == "same":
        return f"no change in time seen ({_ends(*interval)} times)"
    told = "too few repeats to tell its time" if is_too_wide(effect.time) else f"{_ends(*interval)} times the time"
    return f"undecided ({told})"


def _times(ratio: Ratio, base: str) -> str:
    """Return a ratio over a base with its interval."""
    interval = ratio.interval
    if interval is None or is_too_wide(ratio):
        return f"about {ratio.value:.1f} times {base}"
    return f"{ratio.value:.{_decimals(*interval)}f} times {base} ({_ends(*interval)})"


def is_too_wide(ratio: Ratio) -> bool:
    """Return whether an interval is so wide that it says nothing."""
    return ratio.interval is not None and ratio.interval[1] > WIDEST * ratio.value


def _ends(low: float, high: float) -> str:
    decimals = _decimals(low, high)
    return f"{low:.{decimals}f} to {high:.{decimals}f}"


def _decimals(low: float, high: float) -> int:
    """Return how many decimals tell the ends of an interval from each other and from 1: two, or else three."""
    return 2 if high - low >= 0.02 and 1 not in (round(low, 2), round(high, 2)) else 3
