"""An option: how it is written, what it takes and what stands for it where nobody gave it, declared once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vnbench.parsers import Parser, word

PANELS = (
    "Images",
    "Levers: one value, or several to compare",
    "Measuring",
    "Limits",
    "Planning",
    "Results",
    "Other options",
)
"""Groups in which the help of a command shows its options, in this order."""

IMAGES, VARIED, MEASURING, LIMITS, PLANNING, RESULTS, OTHER = PANELS

YES_OR_NO = ("yes", "no")


def yes(text: str, where: str) -> bool:
    """Return whether a switch is on: ``yes`` or ``no``, as a configuration file writes it.

    Raises:
        InputError: neither.
    """
    return word(YES_OR_NO)(text, where) == "yes"


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
    def help_line(self) -> str:
        """What the help says: the line, with what is taken unless it is given."""
        default = self.default
        if not isinstance(default, str):
            told = [f"{device}: {text}" for device, text in default.items()]
            is_one = len(told) > 1 and len(set(default.values())) == 1
            default = next(iter(default.values())) if is_one else "; ".join(told)
        told_default = self.unset or default
        return f"{self.help}." if not told_default or self.is_switch else f"{self.help}. [{told_default}]"

    def default_on(self, device: str) -> str:
        """Return what a device takes unless it is given, as one writes it; empty for nothing."""
        return self.default if isinstance(self.default, str) else self.default.get(device, "")

    def asked_as(self, help: str, *, unset: str = "", default: str = "", panel: str | None = None) -> Option:
        """Return the same option as another command asks for it."""
        return dataclasses.replace(self, help=help, unset=unset, default=default, panel=panel or self.panel)


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
