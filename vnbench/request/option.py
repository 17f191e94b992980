"""An option: how it is written, what it takes and what stands for it where nobody gave it, declared once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnbench.errors import InputError
from vnbench.parsers import OneOf, Parser, SomeOf, word

PANELS = (
    "Needed first",
    "Images",
    "Levers: one value, or several to compare",
    "Measuring",
    "Limits",
    "Planning",
    "Results",
    "Other options",
)
"""Groups in which the help of a command shows its options, in this order."""

FIRST, IMAGES, VARIED, MEASURING, LIMITS, PLANNING, RESULTS, OTHER = PANELS

SEVERAL = ",..."
"""Ends the placeholder of an option that takes several values."""


def panel_heading(panel: str, *, takes_several: bool) -> str:
    """Return what stands above a panel of a command whose options may take several values, or one each."""
    return panel if takes_several else panel.partition(":")[0]


YES_OR_NO = ("yes", "no")


def yes(text: str, where: str) -> bool:
    """Return whether a switch is on: ``yes`` or ``no``, as a configuration file writes it.

    Raises:
        InputError: neither.
    """
    return word(YES_OR_NO)(text, where) == "yes"


def path(text: str, where: str) -> Path:
    """Return a file or a folder as people write it, where ~ is their home.

    Raises:
        InputError: it is empty.
    """
    if not text.strip():
        raise InputError(where, "''", allowed="it is empty", remedy="name a file or a folder, or leave it out")
    return Path(os.path.expanduser(text))


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One option of a command, the same on the command line and in a file."""

    name: str
    """Its name, without dashes in front."""
    parse: Parser
    """``(text, where) -> value``."""
    metavar: str
    """What it takes, as the help shows it."""
    help: str
    """One line, without its default."""
    default: str | Mapping[str, str] = ""
    """What is taken unless it is given, as one writes it, by device where that matters; empty for nothing."""
    unset: str = ""
    """What it means not to give it, in a few words, where no default says so."""
    panel: str = OTHER
    """Which of PANELS it stands in."""
    is_repeatable: bool = False
    """Whether it may be given more than once; its texts are joined with semicolons."""
    is_rare: bool = False
    """Whether only the page of all options shows it."""
    words: tuple[str, ...] = ()
    """Words that it takes, where its parser does not know them."""
    field: str = ""
    """Field of a sweep's configuration that it fills; empty where that is called as its parameter is."""

    @property
    def parameter(self) -> str:
        """Its name as an identifier."""
        return self.name.replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value on the command line, and true or false in a file."""
        return self.parse is yes

    @property
    def is_path(self) -> bool:
        """Whether it takes a file or a folder."""
        return self.parse is path

    @property
    def choices(self) -> tuple[str, ...]:
        """Words that it takes, one or several; empty where they are not fixed."""
        return self.words or (self.parse.allowed if isinstance(self.parse, OneOf | SomeOf) else ())

    @property
    def differs_by_device(self) -> bool:
        """Whether devices take different things unless it is given."""
        return not self.unset and not isinstance(self.default, str) and len({*self.default.values()}) > 1

    def help_line(self, device: str | None = None) -> str:
        """Return what the help says: the line, and what is taken unless it is given, on one device or on each."""
        told_default = self.unset or self._default_told(device)
        return f"{self.help}." if not told_default or self.is_switch else f"{self.help}. [{told_default}]"

    def _default_told(self, device: str | None) -> str:
        if isinstance(self.default, str):
            return self.default
        if device is not None:
            return self.default_on(device)
        if len(self.default) > 1 and not self.differs_by_device:
            return next(iter(self.default.values()))
        return "; ".join(f"{name}: {text}" for name, text in self.default.items())

    def default_on(self, device: str) -> str:
        """Return what a device takes unless it is given, as one writes it; empty for nothing."""
        return self.default if isinstance(self.default, str) else self.default.get(device, "")

    def asked_as(
        self, help: str, *, unset: str = "", default: str = "", panel: str | None = None, metavar: str | None = None
    ) -> Option:
        """Return the same option as another command asks for it."""
        return dataclasses.replace(
            self,
            help=help,
            unset=unset,
            default=default,
            panel=panel or self.panel,
            metavar=metavar or self.metavar,
            is_rare=False,
        )


def by_name(*options: Option) -> dict[str, Option]:
    """Return some options by their names."""
    return {option.name: option for option in options}


def parsed(options: Mapping[str, Option], texts: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the values of those options that were given; ``texts`` are what the command line says, by name.

    Raises:
        InputError: a text that its option does not take.
    """
    return {name: options[name].parse(text, f"--{name}") for name, text in texts.items() if text is not None}


def with_defaults(options: Mapping[str, Option], texts: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return the texts with the default of each option that was not given and has one, the same on every device."""
    return {
        name: (option.default_on("") or None) if texts.get(name) is None else texts[name]
        for name, option in options.items()
    }


def pick(options: Mapping[str, Option], names: Iterable[str]) -> dict[str, Option]:
    """Return the options of these names, in their order."""
    return {name: options[name] for name in names}
