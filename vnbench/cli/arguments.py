"""How commands take their options from declarations, and what several of them share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from vnbench.errors import InputError
from vnbench.request.option import OTHER, PANELS, Option


class PathOfUser(click.Path):
    """A path as people write it, where ~ is their home though no shell has put it in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path.

        Raises:
            InputError: it is empty, as of a variable that was not set: it would be the working folder.
        """
        if isinstance(value, str) and not value.strip():
            where = param.opts[0] if param is not None else "a path"
            raise InputError(where, "''", allowed="it is empty", remedy="name a file or a folder")
        return super().convert(os.path.expanduser(value), param, ctx)


FILE = PathOfUser(path_type=Path)
"""A path, whether it exists or not: what is wrong with it is told where it is used."""

UNBROKEN = "\N{NON-BREAKING HYPHEN}"
"""Stands for a hyphen while lines are broken."""


class PanelOption(click.Option):
    """An option that the help shows in its panel."""

    def __init__(self, names: list[str], *, panel: str = OTHER, **attributes: Any) -> None:
        """Take what click takes, and the panel."""
        super().__init__(names, **attributes)
        self.panel = panel


class Formatter(click.HelpFormatter):
    """Writes help that breaks its lines between words only, and not within one-at-a-time."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of terms and what they are."""
        unbroken = [(term, told.replace("-", UNBROKEN)) for term, told in rows]
        super().write_dl(unbroken, col_max=col_max, col_spacing=col_spacing)

    def write(self, string: str) -> None:
        """Write into the buffer what was wrapped."""
        super().write(string.replace(UNBROKEN, "-"))


class Context(click.Context):
    """What a command is called with."""

    formatter_class = Formatter


class Command(click.Command):
    """A command whose help shows its options in panels."""

    context_class = Context

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the panels that hold an option, in their order."""
        rows: dict[str, list[tuple[str, str]]] = {panel: [] for panel in PANELS}
        for one in self.get_params(ctx):
            if isinstance(one, click.Option) and (record := one.get_help_record(ctx)) is not None:
                rows[getattr(one, "panel", OTHER)].append(record)
        shown = {panel: records for panel, records in rows.items() if records}
        for panel, records in shown.items():
            with formatter.section(panel if len(shown) > 1 else "Options"):
                formatter.write_dl(records)


def taken(options: Mapping[str, Option], *, needed: Iterable[str] = ()) -> list[click.Parameter]:
    """Return the parameters by which a command takes some options as text; ``needed`` are those that must be given."""
    return [_parameter(option, is_needed=option.name in set(needed)) for option in options.values()]


def texts_of(options: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the texts of some options by name, None where they were not given; ``given`` is by parameter."""
    return {name: _text_of(option, given[option.parameter]) for name, option in options.items()}


def _text_of(option: Option, value: Any) -> str | None:
    if option.is_switch:
        return "yes" if value else None
    if option.is_repeatable:
        return ";".join(value) if value else None
    text: str | None = value
    return text


def _parameter(option: Option, *, is_needed: bool) -> click.Parameter:
    flags = [f"--{option.name}", option.parameter]
    if option.is_switch:
        return PanelOption(flags, is_flag=True, help=option.help_line, panel=option.panel)
    return PanelOption(
        flags,
        metavar=option.metavar,
        help=option.help_line,
        panel=option.panel,
        required=is_needed,
        type=str,
        multiple=option.is_repeatable,
    )


results = click.argument("results", metavar="RESULTS...", nargs=-1, required=True, type=FILE)
"""Results files that a command reads, folders of them, or patterns."""

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else there."
)

corpus_id = click.option("--corpus-id", metavar="ID", help="Which corpus, where RESULTS hold several.")

profiles = click.option(
    "--profile", "profiles", metavar="DIR", multiple=True, type=FILE, help="Folder of vnbench profile, or a file of it."
)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(value, allow_nan=False))
