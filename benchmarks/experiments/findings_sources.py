"""Access to one machine's records by the file names of their definitions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from vnbench.analysis.findings import Findings
from vnbench.errors import InputError
from vnbench.output.words.provenance import Provenance, provenance
from vnbench.records.placement import placed
from vnbench.records.store import load_all

SWEEPS: Mapping[str, tuple[str, ...]] = {
    "steps": ("steps", "levers"),
    "training": ("training",),
    "norms": ("norms",),
    "memory": ("memory", "memory_search", "memory_times", "memory_soak"),
    "wallclock": ("wallclock", "recipe", "held_out"),
    "loader": ("loader", "loader_switches"),
    "samplers": ("samplers",),
    "noise_pairs": ("noise_pairs",),
}
"""Definitions in benchmarks/definitions/ by the name of their output file."""

SCRIPTS: Mapping[str, str] = {
    "groupnorm": "groupnorm_report.py --results {results}/groupnorm.json --out reports{device}",
    "accumulation": "accumulation_report.py --results {results}/accumulation.jsonl --out reports{device}",
    "floors": "floors_report.py {results}/wallclock.jsonl --results {results}/floors.json --out reports",
}
"""Scripts beside this one by the name of their output file."""


class NotMeasured(Exception):
    """The records for a question are missing."""


class Sources:
    """A folder of one machine's records."""

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        Raises:
            InputError: the folder holds no records.
        """
        self.folder = folder
        if not sorted(folder.glob("*.jsonl")):
            raise InputError("RESULTS", folder, allowed="holds no records (*.jsonl)", remedy="name a folder with some")
        self.findings = cache(self._findings)

    @cached_property
    def everything(self) -> Findings:
        """All records of the folder."""
        return Findings(load_all(sorted(self.folder.glob("*.jsonl"))).records)

    @cached_property
    def origin(self) -> Provenance:
        """Place and time of all measurements.

        Raises:
            InputError: the records come from more than one device.
        """
        return provenance(self.everything.records)

    @property
    def num_trials(self) -> int:
        """Number of trials in all records."""
        return len(self.everything.records)

    def path(self, name: str, *, suffix: str = ".jsonl") -> Path:
        """Return the path of a file of records.

        Raises:
            NotMeasured: it is not there.
        """
        path = self.folder / f"{name}{suffix}"
        if not path.exists():
            raise NotMeasured(f"{path} is missing")
        return path

    def document(self, name: str) -> dict[str, Any]:
        """Return a JSON document that a script wrote.

        Raises:
            NotMeasured: it is not there.
        """
        document: dict[str, Any] = json.loads(self.path(name, suffix=".json").read_text(encoding="utf-8"))
        return document

    def _findings(self, name: str) -> Findings:
        return Findings(load_all(placed(self.path(name))).records)

    def command(self, name: str) -> str:
        """Return the commands that make a file, one per line."""
        is_cuda = self.origin.device_type == "cuda"
        if name in SCRIPTS:
            script = SCRIPTS[name].format(results=self.folder, device=" --device cuda" if is_cuda else "")
            return f"python benchmarks/experiments/{script}"
        definitions = [f"definitions/{one}{'_cuda' if is_cuda else ''}.toml" for one in SWEEPS[name]]
        return "\n".join(
            f"vnbench sweep --config benchmarks/{one} --out {self.folder}/{name}.jsonl"
            for one in definitions
            if (Path(__file__).parents[1] / one).exists()
        )
