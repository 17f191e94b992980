"""The levers of a spec in words for people: which of them vary, and how a trial differs from the sweep's centre."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from vnbench.records.spec.lever import LeverValue
from vnbench.records.spec.trial_spec import LEVERS, TrialSpec

Levers = Mapping[str, LeverValue]
"""Values by lever name."""


def levers_of(spec: TrialSpec) -> dict[str, LeverValue]:
    """Return the value of every lever of a spec; None for those that its kind of trial does not have."""
    return {name: lever.value(spec) for name, lever in LEVERS.items()}


def kind_told(spec: TrialSpec) -> str:
    """Return the kind of a trial in words: that memory was traced is no lever, but to be said."""
    return "traced memory" if spec.is_traced and spec.kind == "memory" else spec.kind


def varying(specs: Iterable[TrialSpec]) -> tuple[str, ...]:
    """Return the names of the levers that have more than one value among ``specs``."""
    values = [levers_of(spec) for spec in specs]
    return tuple(name for name in LEVERS if len({value[name] for value in values}) > 1)


def worth_naming(specs: Iterable[TrialSpec]) -> tuple[str, ...]:
    """Return the names of the levers that a reader of ``specs`` asks for: all but switches at their defaults."""
    values = [levers_of(spec) for spec in specs]
    return tuple(
        name
        for name, lever in LEVERS.items()
        if lever.quiet is None or any(value[name] != lever.quiet for value in values)
    )


def centre_of(specs: Sequence[TrialSpec]) -> dict[str, LeverValue]:
    """Return the most common value of every lever, the configuration that a one-at-a-time sweep varies from.

    Of equally common values (a full design) the one that comes first counts: no micro-batching, the smallest number,
    and among words the order of the spec's domain (fp32 before bf16, none before stages, random before bucketed).

    Raises:
        ValueError: no specs.
    """
    if not specs:
        raise ValueError("no specs have no centre")
    centre: dict[str, LeverValue] = {}
    for name in LEVERS:
        lever = LEVERS[name]
        counts = Counter(lever.value(spec) for spec in specs)
        centre[name] = min((value for value, times in counts.items() if times == max(counts.values())), key=lever.rank)
    return centre


def differences(levers: Levers, *, centre: Levers, ignored: Iterable[str] = ()) -> dict[str, LeverValue]:
    """Return the levers whose values are not the centre's, without the ``ignored`` ones."""
    skipped = set(ignored)
    return {name: value for name, value in levers.items() if name not in skipped and value != centre[name]}


def phrases(levers: Levers, *, names: Iterable[str]) -> str:
    """Return the values of the named levers as one phrase: ``batch 4, bf16, random sampler``."""
    chosen = set(names)
    return ", ".join(LEVERS[name].phrase(levers[name]) for name in LEVERS if name in chosen)


def describe(spec: TrialSpec, *, names: Iterable[str]) -> str:
    """Return the named levers of a spec as one phrase, without those that its kind of trial does not have."""
    levers = levers_of(spec)
    if spec.kind != "compute":
        # Without a micro-batch of its own a trial has one all the same; any other lever that is None it does not have.
        return phrases(levers, names=[n for n in names if levers[n] is not None or n == "micro_batch_size"])
    # Its batch is one pass: a micro-batch, whatever the optimizer step is made of.
    chosen = [name for name in names if levers[name] is not None and name != "batch_size"]
    size = LEVERS["micro_batch_size"].phrase(spec.micro_batch_size) if "batch_size" in names else ""
    return ", ".join(filter(None, (size, phrases(levers, names=chosen))))
