"""How commands take their options from declarations, and what several of them share."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import wrap
from typing import Any

import click
from click.shell_completion import CompletionItem

from vnbench.errors import InputError
from vnbench.request.option import FIRST, OTHER, PANELS, SEVERAL, Option, panel_heading
from vnbench.units import format_duration, parse_duration


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

HELP_NAMES = {"help_option_names": ["--help", "-h"]}
"""How one asks for help."""

UNBROKEN = "\N{NON-BREAKING HYPHEN}"
"""Stands for a hyphen while lines are broken."""

UNBROKEN_SPACE = "\N{WORD JOINER}"
"""Stands for a space while lines are broken; wrap breaks at no other character than white space."""


class PanelOption(click.Option):
    """An option that the help shows in its panel, with what the device at hand takes unless it is given."""

    def __init__(self, names: list[str], *, declared: Option, is_first: bool, **attributes: Any) -> None:
        """Take the declaration, whether it is needed first, and what click takes beside them."""
        super().__init__(names, **attributes)
        self.declared = declared
        self.panel = FIRST if is_first else declared.panel
        self.is_rare = declared.is_rare and not is_first

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Return the option as one writes it, and its line."""
        option = self.declared
        return f"--{option.name}{'' if option.is_switch else f' {option.metavar}'}", option.help_line(device_at_hand())

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the words that go on from what was typed, of a comma list after its last comma; or files."""
        if not self.declared.choices:
            return [CompletionItem(incomplete, type="file")] if self.declared.is_path else []
        typed, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{typed}{comma}{word}") for word in self.declared.choices if word.startswith(last)]


DEVICES_TOLD = {"cuda": "GPU", "cpu": "CPU"}


@functools.cache
def device_at_hand() -> str:
    """Return cuda or cpu, as a sweep would most likely find it, without the seconds that it takes to ask torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    if not Path("/proc/driver/nvidia/gpus").is_dir() or visible in ("", "-1"):
        return "cpu"
    with suppress(importlib.metadata.PackageNotFoundError):
        return "cpu" if importlib.metadata.version("torch").endswith("+cpu") else "cuda"
    return "cuda"


class Formatter(click.HelpFormatter):
    """Writes help that breaks its lines between words only, and not within one-at-a-time."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of terms and what they are."""
        unbroken = [(term, told.replace("-", UNBROKEN)) for term, told in rows]
        super().write_dl(unbroken, col_max=col_max, col_spacing=col_spacing)

    def write(self, string: str) -> None:
        """Write into the buffer what was wrapped."""
        super().write(string.replace(UNBROKEN, "-").replace(UNBROKEN_SPACE, " "))


class Context(click.Context):
    """What a command is called with."""

    formatter_class = Formatter


class Command(click.Command):
    """A command whose help begins with the options that are needed first, and ends with examples.

    Options that few people need stand on a second page, ``--help-all``.
    """

    context_class = Context

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        """Take commands to copy, and what click takes."""
        super().__init__(*arguments, **{"context_settings": HELP_NAMES, **attributes})
        self.examples = examples
        if any(_is_rare(one) for one in self.params):
            self.params.append(
                click.Option(
                    ["--help-all"],
                    is_flag=True,
                    is_eager=True,
                    expose_value=False,
                    callback=_show_all,
                    help="Show every option and exit.",
                )
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and tell before of each duration that has no unit what it is taken for."""
        for one in self.params:
            text = str(ctx.params.get(one.name or "")).strip()
            if isinstance(one, PanelOption) and one.declared.parse is parse_duration and text.isdecimal():
                seconds = parse_duration(text, one.opts[0])
                told = f"{one.opts[0]} {text} is {format_duration(seconds)}: a number without a unit is seconds"
                click.echo(f"note: {told}; write {text}h for hours, {text}m for minutes", err=True)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the panels that hold an option, in their order."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        shown = [one for one in options if ctx.meta.get(SHOWS_ALL) or not _is_rare(one)]
        rows: dict[str, list[tuple[str, str]]] = {panel: [] for panel in PANELS}
        for one in shown:
            if (record := one.get_help_record(ctx)) is not None:
                rows[one.panel if isinstance(one, PanelOption) else OTHER].append(record)
        panels = {panel: records for panel, records in rows.items() if records}
        for panel, records in panels.items():
            heading = panel_heading(panel, takes_several=any(term.endswith(SEVERAL) for term, _ in records))
            with formatter.section(heading if len(panels) > 1 else "Options"):
                formatter.write_dl(records)
        notes = []
        if any(isinstance(one, PanelOption) and one.declared.differs_by_device for one in shown):
            notes.append(f"In brackets: the default, on this machine's {DEVICES_TOLD[device_at_hand()]}.")
        if len(shown) < len(options):
            notes.append(f"{len(options) - len(shown)} more options, rarely needed: {ctx.command_path} --help-all")
        for note in notes:
            formatter.write_paragraph()
            formatter.write_text(note)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                indent = " " * formatter.current_indent
                for example in self.examples:
                    # A line that goes on ends as a shell wants it, and not between an option and its value.
                    whole = re.sub(r"(--\S+) (?!-)", rf"\1{UNBROKEN_SPACE}", example)
                    lines = wrap(whole, formatter.width - 2 * len(indent) - len(GOES_ON), break_on_hyphens=False)
                    formatter.write(f"{indent}{f'{GOES_ON}{indent}{indent}'.join(lines)}\n")


GOES_ON = " \\\n"

SHOWS_ALL = "vnbench.shows_all_options"
"""Tells in a context that the help shows every option."""


def _show_all(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        ctx.meta[SHOWS_ALL] = True
        click.echo(ctx.get_help())
        ctx.exit()


def _is_rare(one: click.Parameter) -> bool:
    return isinstance(one, PanelOption) and one.is_rare


def taken(
    options: Mapping[str, Option], *, first: Sequence[str] = (), needed: Sequence[str] = ()
) -> list[click.Parameter]:
    """Return the parameters by which a command takes some options as text.

    Those of ``first`` are shown before all others, in that order; those of ``needed`` must be given.
    """
    named = {name: options[name] for name in first}
    return [
        _parameter(option, is_first=option.name in named, is_needed=option.name in needed)
        for option in (named | {name: option for name, option in options.items() if name not in named}).values()
    ]


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


def _parameter(option: Option, *, is_first: bool, is_needed: bool) -> click.Parameter:
    flags = [f"--{option.name}", option.parameter]
    if option.is_switch:
        return PanelOption(flags, is_flag=True, declared=option, is_first=is_first)
    return PanelOption(
        flags,
        metavar=option.metavar,
        declared=option,
        is_first=is_first,
        required=is_needed,
        type=str,
        multiple=option.is_repeatable,
    )


results = click.argument("results", metavar="RESULTS...", nargs=-1, required=True, type=FILE)
"""Results files that a command reads, folders of them, or patterns."""

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else there."
)

corpus_id = click.option("--corpus-id", metavar="ID", help="Images to take, if RESULTS hold several corpora.")

profiles = click.option(
    "--profile",
    "profiles",
    metavar="DIR",
    multiple=True,
    type=FILE,
    help="Folder that vnbench profile wrote, or a file in it.",
)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(value, allow_nan=False))
