"""Baseline files: what a team has agreed to compare with, small enough to review in a pull request.

One JSON document with a part per device. Figures are rounded, and an update leaves every figure as it is that the
candidate does not change beyond its tolerance, so that noise makes no difference in it. What an update always adds are
the times of its sweep: the history tells how far whole sweeps differ when nothing changed.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.identity import aligned
from vnbench.analysis.comparison.metrics import COMPARED
from vnbench.analysis.comparison.sides import LARGEST, SMALLEST, Configuration, Side, SideFigure, renamed
from vnbench.analysis.comparison.sweep_spread import Level
from vnbench.errors import InputError
from vnbench.records.readings import METRICS, Metric
from vnbench.records.record import STATUSES
from vnbench.records.spec.trial_spec import TrialSpec

FORMAT = "vnbench baseline"
VERSION = 1

SPREAD_DIGITS = 2

SWEEP_DIGITS = 6
"""Of the times in a history, between which a spread of 0.1 % has to show."""

SPREAD_PAIR = re.compile(r"\[\s+([\d.e+-]+),\s+(\d+)\s+\]")
"""A time and its processes, which stand on one line."""

MAX_SWEEPS = 20
"""Sweeps that a history keeps, the last ones."""

MAX_SPREAD, MAX_PROCESSES = 10.0, 1_000_000
"""More than these nobody has measured: somebody wrote them."""


def is_baseline(document: object) -> bool:
    """Return whether a JSON document is a baseline file."""
    return isinstance(document, dict) and document.get("format") == FORMAT


def read_baseline(document: Mapping[str, Any], *, path: Path) -> Mapping[str, Side]:
    """Return the sides of a baseline file by the name of their device.

    Raises:
        InputError: another version, or not what a baseline file holds.
    """
    if document.get("version") != VERSION:
        raise InputError(
            str(path),
            f"(version {document.get('version')!r})",
            allowed=f"this vnbench reads version {VERSION} of baseline files",
            remedy="write it anew with vnbench gate --update",
        )
    try:
        return {str(name): _side(part) for name, part in document["devices"].items()}
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise InputError(
            str(path),
            allowed=f"this is no baseline file ({error!r})",
            remedy="write it anew with vnbench gate --update",
        ) from error


def write_baseline(path: Path, sides: Mapping[str, Side]) -> None:
    """Write a baseline file in place of the one that is there.

    Raises:
        InputError: it cannot be written; what is there stays.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "devices": {name: _side_json(side) for name, side in sorted(sides.items())},
    }
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    text = SPREAD_PAIR.sub(r"[\1, \2]", text)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise InputError(
            str(path), allowed=f"cannot be written ({error.strerror})", remedy="name a writable file"
        ) from error


def updated(before: Side | None, candidate: Side, comparison: Comparison) -> Side:
    """Return the side that a baseline file holds after an update from a candidate.

    A figure that the comparison did not find better, worse or missing stays as it is. Configurations that the candidate
    does not have stay too; where the keys differ, nothing does. An edited network takes the place of its earlier text.
    The candidate's sweeps join the history; where a time changed, they begin a new level of it.
    """
    if before is None or comparison.differing:
        return candidate
    changed = {(row.spec_id, row.metric) for row in comparison.rows if row.verdict in ("better", "worse", "missing")}
    is_new_level = any(row.metric == "time" and row.verdict in ("better", "worse") for row in comparison.rows)
    found = dict(before.configurations)
    matched = aligned(before, candidate)[0].configurations
    for identity, new in matched.items():
        old = found.pop(identity, None)
        if old is None:
            found[new.name] = new
            continue
        kept = {metric: old.figures[metric] for metric in old.figures if (identity, metric) not in changed}
        is_same = (identity, "status") not in changed
        found[new.name] = replace(
            new,
            figures=dict(new.figures) | kept,
            statuses=old.statuses if is_same else new.statuses,
            cause=old.cause if is_same else new.cause,
            findings=old.findings if is_same else new.findings,
        )
    names = {identity: new.name for identity, new in matched.items()}
    return replace(
        before,
        configurations=found,
        levels=_joined(renamed(before, names).levels, candidate.levels, is_new_level=is_new_level),
        num_sweeps=min(before.num_sweeps, candidate.num_sweeps) if is_new_level else before.num_sweeps,
    )


def _joined(before: Sequence[Level], new: Sequence[Level], *, is_new_level: bool) -> tuple[Level, ...]:
    """Return the levels of a history with those of a candidate, and of all sweeps the last MAX_SWEEPS."""
    levels = [dict(level) for level in before]
    for level in new:
        if is_new_level or not levels:
            levels.append({})
        known = {name for old in before for name in old}
        levels[-1].update({name: sweep for name, sweep in level.items() if name not in known})
    kept = sorted({name for level in levels for name in level})[-MAX_SWEEPS:]
    shortened = [{name: sweep for name, sweep in level.items() if name in kept} for level in levels]
    return tuple(level for level in shortened if level)


def _side(part: Mapping[str, Any]) -> Side:
    return Side(
        keys={str(key): tuple(map(str, values)) for key, values in part["keys"].items()},
        configurations={
            str(identity): _configuration(str(identity), values) for identity, values in part["configurations"].items()
        },
        levels=tuple(
            {
                str(name): {str(row): _sweep_time(time) for row, time in sweep.items()}
                for name, sweep in sorted(level.items())
            }
            for level in part.get("sweeps", ())
        ),
        num_sweeps=_whole(part.get("num_sweeps", 1), least=1),
    )


def _sweep_time(values: Sequence[Any]) -> tuple[float, int]:
    value, processes = float(values[0]), _whole(values[1], least=1)
    if not SMALLEST < value < LARGEST:
        raise ValueError(f"{value} is no time")
    return value, processes


def _whole(value: Any, *, least: int) -> int:
    if type(value) is not int or not least <= value <= MAX_PROCESSES:
        raise ValueError(f"{value!r} is no number of processes or sweeps")
    return value


def _configuration(identity: str, values: Mapping[str, Any]) -> Configuration:
    spec = values.get("spec")
    if not isinstance(values["figures"], dict) or not isinstance(values["statuses"], dict):
        raise ValueError(f"{identity} has no figures")
    statuses = {status: int(values["statuses"][status]) for status in STATUSES if status in values["statuses"]}
    return Configuration(
        name=identity,
        spec=None if spec is None else TrialSpec.from_dict(spec),
        statuses=statuses,
        cause=values.get("cause"),
        figures={metric: _figure(values["figures"][metric]) for metric in METRICS if metric in values["figures"]},
        operators={str(name): int(number) for name, number in values.get("operators", {}).items()},
        findings=tuple(map(str, values.get("findings", ()))),
        holds_old_gradients=None if (held := values.get("holds_old_gradients")) is None else bool(held),
    )


def _figure(values: Mapping[str, Any]) -> SideFigure:
    value, spread = float(values["value"]), values.get("spread")
    low, high = float(values.get("smallest", value)), float(values.get("largest", value))
    count = int(values["processes"])
    is_spread = spread is None or (type(spread) in (int, float) and 0 <= spread < MAX_SPREAD)
    if not (0 < low <= value <= high < LARGEST) or not 1 <= count <= MAX_PROCESSES or not is_spread:
        raise ValueError(f"{dict(values)} is no figure")
    dof = _whole(values.get("degrees_of_freedom", count - 1), least=0)
    return SideFigure(
        value=value,
        num_processes=count,
        # What agrees to the last digit has no spread, where there was more than one process to have any.
        log_variance=None if dof < 1 else float(spread or 0.0) ** 2,
        dof=dof,
        smallest=low,
        largest=high,
    )


def _side_json(side: Side) -> dict[str, Any]:
    history = [
        {name: {row: _sweep_time_json(*time) for row, time in sweep.items()} for name, sweep in level.items()}
        for level in side.levels
    ]
    return {
        "keys": {key: list(values) for key, values in side.keys.items()},
        **({"sweeps": history} if history else {}),
        **({"num_sweeps": side.num_sweeps} if side.num_sweeps > 1 else {}),
        "configurations": {
            identity: {
                "spec": None if configuration.spec is None else configuration.spec.canonical(),
                "statuses": dict(configuration.statuses),
                "cause": configuration.cause,
                "figures": {
                    metric: _figure_json(figure, metric=metric) for metric, figure in configuration.figures.items()
                },
                **({"operators": dict(configuration.operators)} if configuration.operators else {}),
                **({"findings": list(configuration.findings)} if configuration.findings else {}),
                **({"holds_old_gradients": held} if (held := configuration.holds_old_gradients) is not None else {}),
            }
            for identity, configuration in side.configurations.items()
        },
    }


def _sweep_time_json(value: float, processes: int) -> list[float]:
    return [float(f"{value:.{SWEEP_DIGITS}g}"), processes]


def _figure_json(figure: SideFigure, *, metric: Metric) -> dict[str, Any]:
    digits = COMPARED[metric].digits

    def rounded(value: float) -> float:
        return int(value) if digits is None else float(f"{value:.{digits}g}")

    value, low, high = map(rounded, (figure.value, figure.smallest, figure.largest))
    found: dict[str, Any] = {"value": value, "processes": figure.num_processes}
    if low != high:
        found |= {"smallest": min(value, low), "largest": max(value, high)}
    if figure.dof != figure.num_processes - 1:
        found["degrees_of_freedom"] = figure.dof
    if figure.log_variance:
        found["spread"] = float(f"{math.sqrt(figure.log_variance):.{SPREAD_DIGITS}g}")
    return found
