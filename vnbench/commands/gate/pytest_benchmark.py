"""What pytest-benchmark's JSON files say, as a side of a comparison: each file is one process.

The figure of a benchmark in a process is the median of its rounds: rounds of microseconds are disturbed to one side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vnbench.analysis.comparison.sides import LARGEST, SMALLEST, Configuration, Side, figure_of
from vnbench.errors import InputError


def is_pytest_benchmark(document: object) -> bool:
    """Return whether a JSON document was written by pytest-benchmark."""
    return isinstance(document, dict) and "benchmarks" in document and "machine_info" in document


def side_of_benchmarks(documents: Sequence[Mapping[str, Any]], *, path: Path) -> Side:
    """Return what some files say, each one process of every benchmark in it.

    Raises:
        InputError: a file is not what pytest-benchmark writes.
    """
    values: dict[str, list[float]] = {}
    notes: list[str] = []
    keys: dict[str, set[str]] = {"device": set(), "device type": {"cpu"}, "python": set()}
    try:
        for document in documents:
            machine = document["machine_info"]
            keys["device"].add(str((machine.get("cpu") or {}).get("brand_raw") or machine.get("machine")))
            keys["python"].add(str(machine.get("python_version")))
            seen: set[str] = set()
            for benchmark in document["benchmarks"]:
                name, value = str(benchmark["fullname"]), benchmark["stats"]["median"]
                if name in seen:
                    notes.append(f"{path}: {name} stands there more than once")
                seen.add(name)
                if type(value) in (int, float) and SMALLEST < value < LARGEST:
                    values.setdefault(name, []).append(float(value))
                else:
                    notes.append(f"{path}: the median of {name} is no figure")
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(
            str(path),
            allowed=f"this is not what pytest-benchmark writes ({error!r})",
            remedy="write it with pytest --benchmark-json FILE",
        ) from error
    return Side(
        keys={key: tuple(sorted(found)) for key, found in keys.items()},
        configurations={
            name: Configuration(name=name, figures={"time": figure_of(found, metric="time")})
            for name, found in values.items()
        },
        notes=tuple(notes),
    )
