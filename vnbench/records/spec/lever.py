"""Define a lever: a setting that a sweep can vary, declared once, in the annotation of its field in a spec.

The declaration gives the option and its default, the axis, the part in a trial's family, the table column and the
phrase for a value. The trial implements the effect.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vnbench.parsers import Parser, words

LeverValue = str | int | None
"""Value of a lever, for people; None if the kind of trial has no such lever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lever:
    """The properties of a spec's field beyond its type. ``bound`` adds the name, words and default of the field."""

    header: str
    """Column heading; a line break marks where a narrow column may break."""
    phrased: str
    """Phrase for a value, which replaces ``{}``: ``batch {}``."""
    as_phrase: Mapping[LeverValue, str] = field(default_factory=dict)
    """Phrases for values that do not fit ``phrased``."""
    read: Callable[[Any], LeverValue] | None = None
    """Reads the value for people from a spec; None for the value of the field."""
    quiet: LeverValue = None
    """Value that is named only if trials differ; None to name every value."""
    help: str = ""
    """Text of ``vnbench sweep --help``, without words and default; empty if the lever is not an axis."""
    metavar: str = "NAME,..."
    """Placeholder of the option's value in the help."""
    parse_axis: Parser | None = None
    """Parser of the axis; None for a comma list of the field's words."""
    swept: str | Mapping[str, str] = ""
    """Default values of the axis in a sweep, by device if they differ; empty for the field's default. The first value
    is that of the centre."""
    centre: Mapping[str, LeverValue] = field(default_factory=dict)
    """Value of the centre by device, if it is not the first; only if the axis holds it."""
    part: Literal["computing", "loading"] | None = None
    """The part of training that it acts on, if trials of that part alone can show its effect."""
    is_switch: bool = False
    """Whether it is a switch of a library: at its default unless set, and named only if set."""
    is_cuda_only: bool = False
    """Whether it has no effect on a CPU."""
    needs: Literal["workers", "several examples", "Trainer"] | None = None
    """Condition without which it has no effect: loader workers, passes of several examples, or Lightning's Trainer."""
    neutral: str | None = None
    """Value for a user's own network whose function has no parameter of this name; None if the lever does not belong to
    the network."""
    name: str = ""
    """Name of the field in the spec."""
    words: tuple[str, ...] = ()
    """Allowed values, in order; empty if any value is allowed."""
    default: Any = None
    """Default value of the field."""

    def bound(self, name: str, *, words: tuple[str, ...], default: Any) -> Lever:
        """Return the lever with the name, words and default of its field; ``default`` is None if there is none."""
        return dataclasses.replace(
            self,
            name=name,
            words=self.words or words,
            default=default,
            quiet=default if self.is_switch else self.quiet,
        )

    @property
    def option(self) -> str:
        """The name of its option, without dashes."""
        return self.name.replace("_", "-")

    def parse(self, text: str, where: str) -> tuple[Any, ...]:
        """Return the values of its axis.

        Raises:
            InputError: the text holds a value that is not allowed.
        """
        values: tuple[Any, ...] = (self.parse_axis or words(self.words))(text, where)
        return values

    def swept_on(self, device: str) -> str:
        """Return the default values of the axis for a sweep on a device, as text of the option."""
        text = self.swept if isinstance(self.swept, str) else self.swept[device]
        return text or str(self.default)

    def value(self, spec: Any) -> LeverValue:
        """Return its value in a spec, for people; None if the kind of trial has no such field."""
        value: LeverValue = getattr(spec, self.name, None) if self.read is None else self.read(spec)
        return value

    def phrase(self, value: LeverValue) -> str:
        """Return a phrase that names a value: ``batch 4``, ``random sampler``."""
        return self.as_phrase.get(value, self.phrased.format(value))

    def rank(self, value: LeverValue) -> tuple[int, int, str]:
        """Return the sort key of a value: None first, then numbers by size, then words in their order."""
        if value is None:
            return 0, 0, ""
        if isinstance(value, int):
            return 1, value, ""
        return 2, self.words.index(value) if value in self.words else len(self.words), value
