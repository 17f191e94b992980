"""A report as Markdown and as one HTML page, from templates; nothing in a record is taken for markup."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vnbench.output.view import escape

TEMPLATES = Path(__file__).parent / "templates"

SORTING = ("sort.js",)
PLANNER = ("planner_model.js", "planner_chart.js", "planner_page.js")
"""Scripts of the page, in the order in which they run."""


def markdown_page(model: Mapping[str, Any]) -> str:
    """Return a report as Markdown."""
    return _environment(is_html=False).get_template("report.md.jinja").render(model)


def html_page(model: Mapping[str, Any]) -> str:
    """Return a report as one HTML page that loads nothing from elsewhere: its policy lets run what stands in it."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    names = SORTING + (PLANNER if model["planner"] else ())
    scripts = [(TEMPLATES / name).read_text(encoding="utf-8") for name in names]
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {' '.join(map(_hash, scripts))}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = _environment(is_html=True).get_template("report.html.jinja")
    return page.render(dict(model) | {"style": Markup(style), "scripts": list(map(Markup, scripts)), "policy": policy})


def _hash(text: str) -> str:
    """Return a piece of the page as its content-security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _environment(*, is_html: bool) -> Environment:
    """Return jinja's environment; what is put into Markdown is escaped here, into HTML by jinja."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=None if is_html else _finalized,
    )
    # A table is escaped where it is made.
    environment.filters["verbatim"] = Verbatim
    return environment


class Verbatim(str):
    """Text of a Markdown page that stands as it is: a command, a file's name."""


def _finalized(value: Any) -> Any:
    return value if isinstance(value, Verbatim) or not isinstance(value, str) else escape(value)
