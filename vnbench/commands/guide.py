"""``vnbench guide``: the pages of the guide, and the reference of all options, which is generated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from itertools import groupby

from vnbench.parsers import word
from vnbench.request.option import PANELS, SEVERAL, Option, panel_heading
from vnbench.request.options import (
    AUDIT_OPTIONS,
    BATCHING_OPTIONS,
    DRILL_OPTIONS,
    FORECAST_OPTIONS,
    GATE_OPTIONS,
    OPTIONS,
    PROFILE_OPTIONS,
    REPEAT_OPTIONS,
    RUN_OPTIONS,
)

PAGES = (
    "table",
    "sweep",
    "images",
    "network",
    "batches",
    "loop",
    "audit",
    "watching",
    "memory",
    "loader",
    "planning",
    "interruptions",
    "no-gpu",
    "machines",
    "gate",
    "records",
    "method",
    "glossary",
    "extending",
)
"""Pages of vnbench/guide by the names of their files, in the order in which one comes to need them."""

REFERENCE = "options"
"""Topic of the page that is generated."""

OPTIONS_OF: Mapping[str, Mapping[str, Option]] = {
    "sweep": OPTIONS,
    "plan": RUN_OPTIONS,
    "batching": BATCHING_OPTIONS,
    "profile": PROFILE_OPTIONS,
    "gate": GATE_OPTIONS,
    "forecast": FORECAST_OPTIONS,
    "audit": AUDIT_OPTIONS,
    "drill": DRILL_OPTIONS,
    "repeat": REPEAT_OPTIONS,
}
"""Options of each command that has more than a few."""


def guide_page(topic: str | None) -> str:
    """Return a page as Markdown; without a topic the list of pages.

    Raises:
        InputError: there is no such page.
    """
    if topic is None:
        return "\n".join(["# The guide of vnbench", "", *_contents()])
    word((*PAGES, REFERENCE))(topic, "TOPIC")
    return _reference() if topic == REFERENCE else _text(topic)


def _text(topic: str) -> str:
    return (files("vnbench") / "guide" / f"{topic}.md").read_text(encoding="utf-8")


def _contents() -> Iterator[str]:
    """Yield a line for each page: how it is asked for, and what it answers."""
    for topic in PAGES:
        title, _, summary, *_ = _text(topic).splitlines()
        yield f"- `vnbench guide {topic}`: {title.removeprefix('# ')}. {summary}"
    yield f"- `vnbench guide {REFERENCE}`: Every option of every command, with its default."


def _reference() -> str:
    """Return every option with its help and its default, by command and panel."""
    lines = ["# Options", "", "In a file of `--config` they have the same names. A default stands in brackets.", ""]
    for command, options in OPTIONS_OF.items():
        lines += [f"## vnbench {command}", ""]
        by_panel = sorted(options.values(), key=lambda option: PANELS.index(option.panel))
        for panel, grouped in groupby(by_panel, key=lambda option: option.panel):
            group = list(grouped)
            heading = panel_heading(panel, takes_several=any(one.metavar.endswith(SEVERAL) for one in group))
            lines += [f"**{heading}**", "", *map(_entry, group), ""]
    return "\n".join(lines)


def _entry(option: Option) -> str:
    takes = "" if option.is_switch else f" {option.metavar}"
    return f"- `--{option.name}{takes}`: {option.help_line()}"
