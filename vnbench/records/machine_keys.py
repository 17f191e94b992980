"""Which facts of an environment say what machine a record is of, and where those of two environments differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SPEED_KEYS = (
    "device_capability",
    "cpu_vendor",
    "cpu_family",
    "cpu_model",
    "cpu_capability",
    "isa_variables",
    "num_cpus",
    "num_threads",
)
"""Facts that times depend on beside the names of device and torch. Processors of one name differ in speed: in what they
compute natively above all. The stepping is not among them: it mends faults."""

FILE_KEYS = ("device_name", *SPEED_KEYS, "torch_version", "revision")
"""Facts that all records of one results file share."""


def differing_facts(
    there: Mapping[str, Any], here: Mapping[str, Any], *, keys: Iterable[str] = FILE_KEYS
) -> tuple[str, ...]:
    """Return which of some facts two environments tell differently.

    What one of them does not tell, as records of earlier versions do not, is not compared.
    """
    return tuple(
        key for key in keys if there.get(key) is not None and here.get(key) is not None and there[key] != here[key]
    )


def fact_text(value: Any) -> str:
    """Return a fact in one line, for people and for comparing."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={value[name]}" for name in sorted(value)) or "none"
    return str(value)
