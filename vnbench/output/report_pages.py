"""A report as Markdown and as one HTML page, from templates; nothing in a record is taken for markup."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vnbench.output.gate_markdown import escape

TEMPLATES = Path(__file__).parent / "templates"


def markdown_page(model: Mapping[str, Any]) -> str:
    """Return a report as Markdown."""
    return _environment(is_html=False).get_template("report.md.jinja").render(model)


def html_page(model: Mapping[str, Any]) -> str:
    """Return a report as one HTML page that loads nothing from elsewhere."""
    return _environment(is_html=True).get_template("report.html.jinja").render(model)


def _environment(*, is_html: bool) -> Environment:
    """Return jinja's environment; what is put into Markdown is escaped here, into HTML by jinja."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=None if is_html else _finalized,
    )


class Verbatim(str):
    """Text of a Markdown page that stands as it is: a command, a file's name."""


def _finalized(value: Any) -> Any:
    return value if isinstance(value, Verbatim) or not isinstance(value, str) else escape(value)
