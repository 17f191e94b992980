"""``vnbench export``: what results files hold as tidy tables, for data frames, spreadsheets and other programs."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from vnbench.analysis.findings import Findings
from vnbench.commands.plan.asked import run_values
from vnbench.commands.plan.plan import plan_records
from vnbench.errors import InputError
from vnbench.output.console import say, stderr_console
from vnbench.output.tables.tidy import TABLES, plan_view
from vnbench.output.view import View
from vnbench.output.words.provenance import provenance
from vnbench.parsers import word
from vnbench.records.one_corpus import load_one_corpus
from vnbench.request.options import RUN_OPTIONS
from vnbench.texts import check_replaceable

if TYPE_CHECKING:
    import pandas

WHATS = (*TABLES, "plan")
"""A row per latest attempt at a trial, optimizer step, canvas of a compute trial, or configuration of a plan."""

Format = Literal["csv", "parquet", "json"]

DTYPES: Mapping[type, str] = {
    str: "string",
    int: "Int64",
    float: "float64",
    bool: "boolean",
    datetime: "datetime64[s, UTC]",
}
"""Of a column of a data frame: the same whatever stands in it, so that frames of several files go together."""


def run_export_command(
    results: Sequence[Path],
    flags: Mapping[str, str | None],
    *,
    what: str,
    file_format: str,
    out: Path | None,
    corpus_id: str | None = None,
) -> None:
    """Write a table of some results files into a file, or on stdout without one.

    Raises:
        InputError: an option or a file cannot be used, or the records come from several devices or corpora.
        PlanError: the records do not let one plan.
    """
    word(get_args(Format))(file_format, "--format")
    if file_format == "parquet" and out is None:
        raise InputError("--format", "parquet", allowed="it is no text for a terminal", remedy="add --out FILE.parquet")
    view, notes = view_of(results, flags, what=what, corpus_id=corpus_id)
    for note in notes:
        say(stderr_console(), note)
    if out is None:
        sys.stdout.write(_as_text(view, file_format))
        return
    starts = {"csv": f"{view.plain().columns[0].name},", "json": "[", "parquet": "PAR1"}
    check_replaceable(out, where="--out", starts=[starts[file_format].encode()])
    content = (
        _as_parquet(view) if file_format == "parquet" else _as_text(view, file_format).encode(errors="backslashreplace")
    )
    try:
        out.write_bytes(content)
    except OSError as error:
        raise InputError(
            "--out", out, allowed=f"cannot be written ({error.strerror})", remedy="name a writable file"
        ) from error


def view_of(
    results: Sequence[Path], flags: Mapping[str, str | None], *, what: str, corpus_id: str | None = None
) -> tuple[View[Any], tuple[str, ...]]:
    """Return a table of some results files or folders of them, and what could not be read of them.

    ``flags`` are the options of the run that is planned, by name, as ``vnbench plan`` takes them; what they leave out
    is as in ``vnbench plot``.

    Raises:
        InputError, PlanError: as ``run_export_command``.
    """
    word(WHATS)(what, "--what")
    asked = {name: text for name, text in flags.items() if text is not None}
    if asked and what != "plan":
        name, text = next(iter(asked.items()))
        raise InputError(f"--{name}", text, allowed="it is of a plan", remedy="write --what plan, or leave it out")
    for name in asked:
        word(tuple(RUN_OPTIONS))(name, "--what plan:")
    loaded = load_one_corpus(results, corpus_id=corpus_id)
    found = Findings(loaded.records)
    if what == "plan":
        return plan_view(plan_records(found, run_values(asked), sources=tuple(results)).to_json()), loaded.notes
    provenance(loaded.records)
    return TABLES[what](found.latest), loaded.notes


def frame_of(view: View[Any]) -> pandas.DataFrame:
    """Return a table as a data frame; what is not known is missing."""
    import pandas

    plain = view.plain()
    columns = {
        column.name: pandas.Series([column.value(row) for row in plain.rows], dtype=DTYPES[column.type])
        for column in plain.columns
    }
    return pandas.DataFrame(columns)


def _as_text(view: View[Any], file_format: str) -> str:
    if file_format == "json":
        return view.json()
    text = io.StringIO()
    view.csv(text)
    return text.getvalue()


def _as_parquet(view: View[Any]) -> bytes:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise InputError(
            "--format", "parquet", allowed="pyarrow is not installed", remedy="pip install 'vnbench[parquet]'"
        ) from error
    content = io.BytesIO()
    frame_of(view).to_parquet(content, engine="pyarrow", index=False)
    return content.getvalue()
