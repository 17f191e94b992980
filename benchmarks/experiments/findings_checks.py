"""Checks whether the figures can be trusted: noise, equality with the plain step, and failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from findings_sources import NotMeasured, Sources

from vnbench.output.words.levers import describe, varying, worth_naming
from vnbench.output.words.numbers import MISSING
from vnbench.records.record import TrialRecord
from vnbench.trial.checks.large_tensors import INDEX_LIMIT
from vnbench.units import count, format_percent


def noise(sources: Sources) -> list[str]:
    spread = sources.findings("noise_pairs").noise.spread_for("training")
    if spread is None:
        raise NotMeasured("no configuration ran in two processes")
    return [
        f"Identical trials in processes of their own differ by {format_percent(spread.relative)} (standard deviation); "
        f"their own steps let expect {format_percent(spread.relative_within)}."
    ]


def equality(sources: Sources) -> list[str]:
    checked = [record for record in sources.everything.records if record.equality is not None]
    if not checked:
        raise NotMeasured("no record holds the comparison with the plain step")
    worst: dict[str, tuple[float, float]] = {}
    for record in checked:
        reading = record.equality
        assert reading is not None
        if reading.gradient_error is not None:
            one = (reading.gradient_error / reading.gradient_tolerance, reading.gradient_error)
            worst[record.spec.precision] = max(worst.get(record.spec.precision, (0.0, 0.0)), one)
    lines = ["| precision | largest error of the gradient | of its tolerance |", "|---|---:|---:|"]
    lines += [
        f"| {precision} | {error:.2g} | {format_percent(share)} |"
        for precision, (share, error) in sorted(worst.items())
    ]
    return [f"{count(len(checked), 'trial')} compared with the plain fp32 step on the same canvas.", "\n".join(lines)]


def failures(sources: Sources) -> list[str]:
    records = sources.everything.records
    kinds = Counter(ending(record) for record in records)
    lines = ["| ended | trials |", "|---|---:|", *(f"| {told} | {number:,} |" for told, number in kinds.most_common())]
    large = [record for record in records if record.large_tensors is not None]
    wrong = [record for record in records if record.status == "wrong"]
    return ["\n".join(lines), large_line(large), *(f"- {spec_told(one, wrong)}: {cause_of(one)}" for one in wrong)]


def ending(record: TrialRecord) -> str:
    return record.status if record.cause is None else f"{record.status}: {record.cause.kind}"


def large_line(large: Sequence[TrialRecord]) -> str:
    if not large:
        return f"No trial had a tensor of 2^31 ({INDEX_LIMIT / 1e9:.2f} billion) elements or more."
    equal = Counter(one.large_tensors.is_equal for one in large if one.large_tensors is not None)
    most = max(one.large_tensors.num_elements for one in large if one.large_tensors is not None)
    return (
        f"{count(len(large), 'trial')} had a tensor of 2^31 elements or more, the largest of {most / 1e9:.2f} billion. "
        f"{equal[True]} computed what the same examples do in parts, {equal[False]} did not, {equal[None]} could not "
        "be compared."
    )


def cause_of(record: TrialRecord) -> str:
    return MISSING if record.cause is None else record.cause.message


def spec_told(record: TrialRecord, others: Sequence[TrialRecord]) -> str:
    specs = [one.spec for one in others]
    names = [name for name in worth_naming(specs) if name in varying(specs)] or ["batch_size", "precision"]
    return f"{record.kind}: {describe(record.spec, names=names)}"
