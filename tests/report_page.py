"""A report's page with few figures or none: all of them take seconds to draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from vnbench.cli.app import run
from vnbench.output.plots import figures
from vnbench.records.record import TrialRecord


def without_figures(patch: pytest.MonkeyPatch) -> None:
    """Let reports draw nothing."""
    patch.setattr(figures, "PLOTS", ())


def page_of(records: Path | Sequence[TrialRecord], folder: Path, *options: str, drawn: Sequence[str] = ()) -> str:
    """Return the address of the page of a report on a results file, or on some records, with the figures named."""
    chosen = tuple(plot for plot in figures.PLOTS if plot.name in drawn)
    if not isinstance(records, Path):
        path = folder / "records.jsonl"
        path.write_text("".join(f"{record.to_json()}\n" for record in records))
        records = path
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "PLOTS", chosen)
        assert run(["report", str(records), "--out", str(folder / "report"), *options]) == 0
    return (folder / "report" / "report.html").as_uri()
