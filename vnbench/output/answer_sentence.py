"""The answer of a sweep in one sentence: what the intervals support, and what they leave undecided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from vnbench.analysis.comparison.sweep_answer import LeverEffect
from vnbench.analysis.findings import Findings
from vnbench.output.answer import verdict_of
from vnbench.output.words.numbers import significant, supported
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import LEVERS, TrainingSpec, TrialSpec
from vnbench.units import count

SAME_MEMORY = 0.1
"""The same of a peak, which has no interval."""

TOLD_MEMORY = 0.05
"""A peak within this, relative, of half or of twice another is told as half or twice."""

LEAST_HALF_WIDTH = 0.02
"""Half-width of a ratio whose last digit is the second after the point: a sentence needs no further one."""


def answer_sentence(found: Findings) -> str:
    """Return the answer of records of one device, to be read first; empty where nothing was varied."""
    answer = found.answer
    if answer is None:
        return ""
    sentence = effects_sentence(answer.effects, is_of_single_processes=not answer.has_processes)
    return sentence + _disturbed(found.latest) if sentence else ""


def _disturbed(latest: Sequence[TrialRecord]) -> str:
    """Return a caveat where more than half of the training trials were disturbed; empty otherwise."""
    training = of_kind(latest, TrainingSpec)
    disturbed = [one for one in training if one.disturbances]
    if 2 * len(disturbed) <= len(training):
        return ""
    return (
        f" But {len(disturbed)} of {count(len(training), 'training trial')} were disturbed by other programs: measure "
        "again on a quiet machine before you rely on this."
    )


def undecided(found: Findings) -> list[str]:
    """Return the changes of which the records do not tell whether they change the time."""
    effects = found.answer.effects if found.answer else ()
    return [changed(effect) for effect in effects if verdict_of(effect) == "undecided"]


def effects_sentence(effects: Sequence[LeverEffect], *, is_of_single_processes: bool) -> str:
    """Return what some changes of one lever each do to time and memory, in one sentence; empty for none.

    Of several values of a lever that are faster the fastest is named.
    """
    verdicts = {id(effect): verdict_of(effect) for effect in effects}
    of = {
        verdict: [effect for effect in effects if verdicts[id(effect)] == verdict]
        for verdict in ("faster", "slower", "same", "undecided")
    }
    clauses = [
        *(_faster(effect) for effect in _best_by_lever(of["faster"])),
        *_slower(of["slower"]),
        *(f"{subject}{_memory(effect)}" for effect in of["same"] + of["undecided"] for subject in _if_memory(effect)),
    ]
    if of["same"]:
        verb = _verb(of["same"], "makes", "make")
        clauses.append(f"{listed(map(changed, of['same']))} {verb} no difference to the time")
    if of["undecided"]:
        verb = _verb(of["undecided"], "changes", "change")
        clauses.append(f"whether {listed(map(changed, of['undecided']))} {verb} the time is undecided")
    if not clauses:
        return ""
    source = ", from one process per configuration" if is_of_single_processes else ""
    return f"Answer{source}: {'; '.join(clauses)}."


def changed(effect: LeverEffect) -> str:
    """Return what was changed, so that it can be the subject of a sentence."""
    text = _value(effect.lever, effect.spec)
    if effect.lever == "batch_size" and effect.spec.accumulation_steps > 1:
        text += f" in passes of {effect.spec.micro_batch_size}"
    return text


def _value(name: str, spec: TrialSpec) -> str:
    lever = LEVERS[name]
    value = lever.value(spec)
    if lever.is_switch:
        return f"{lever.option} {value}"
    phrase = lever.phrase(value)
    if name == "norm_precision":
        return phrase.replace("norm in", "norms in")
    return f"the {phrase}" if name == "sampler" else phrase


def _best_by_lever(faster: Sequence[LeverEffect]) -> list[LeverEffect]:
    best: dict[str, LeverEffect] = {}
    for effect in sorted(faster, key=lambda one: one.time.value):
        best.setdefault(effect.lever, effect)
    return list(best.values())


def _faster(effect: LeverEffect) -> str:
    speed = _times(effect, is_speed=True)
    verb = _verb([effect], "trains", "train")
    memory = f" and{told}" if (told := _memory(effect)) else ""
    return f"{changed(effect)} {verb} {speed} times as fast as {_value(effect.lever, effect.base)}{memory}"


def _slower(slower: Sequence[LeverEffect]) -> Iterator[str]:
    """Yield a clause per lever, the slowest first."""
    by_lever: dict[str, list[LeverEffect]] = {}
    for effect in sorted(slower, key=lambda one: -one.time.value):
        by_lever.setdefault(effect.lever, []).append(effect)
    for name, found in by_lever.items():
        longer = listed(_times(effect, is_speed=False) for effect in found)
        memory = f" and{told}" if len(found) == 1 and (told := _memory(found[0])) else ""
        base = _value(name, found[0].base)
        yield f"{listed(map(changed, found))} {_verb(found, 'takes', 'take')} {longer} times as long as {base}{memory}"


def _times(effect: LeverEffect, *, is_speed: bool) -> str:
    """Return a ratio with the digits that its interval supports, and never with more than people need."""
    ratio = effect.time.inverse if is_speed else effect.time
    half_width = ratio.value * (ratio.half_width or 0.0)
    return supported(ratio.value, max(half_width, LEAST_HALF_WIDTH))


def _if_memory(effect: LeverEffect) -> Iterator[str]:
    """Yield the change where its memory alone is worth a clause."""
    if _memory(effect):
        yield changed(effect)


def _memory(effect: LeverEffect) -> str:
    """Return what a change needs of memory, as the end of a clause; empty where it is about the same or unknown."""
    ratio = effect.memory
    if ratio is None or abs(ratio - 1) < SAME_MEMORY:
        return ""
    verb = _verb([effect], "needs", "need")
    for share, word in ((0.5, "half of"), (2.0, "twice")):
        if abs(ratio / share - 1) <= TOLD_MEMORY:
            return f" {verb} {word} the memory"
    amount = f"{100 * ratio:.0f} % of" if ratio < 1 else f"{significant(ratio, digits=2)} times"
    return f" {verb} {amount} the memory"


def _verb(effects: Sequence[LeverEffect], singular: str, plural: str) -> str:
    (lever, spec), *others = [(effect.lever, effect.spec) for effect in effects]
    is_plural = bool(others) or lever == "norm_precision" or (lever == "num_workers" and spec.num_workers != 1)
    return plural if is_plural else singular


def listed(names: Iterable[str]) -> str:
    """Return one or more names as a list in a sentence."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
