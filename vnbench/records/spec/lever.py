"""A lever: one thing that a sweep can vary, declared once, in the annotation of its field of a spec.

From the declaration follow the option and its default, the axis, the family of trials that it makes, its column in
tables and the phrase that names its value. What it does is left to the trial.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vnbench.parsers import Parser, words

LeverValue = str | int | None
"""Value of a lever as people read it; None where the kind of trial has no such lever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lever:
    """What a field of a spec says of itself beside its type. ``bound`` adds what the field says already."""

    header: str
    """Heading of its column; a line break where a narrow column may break it."""
    phrased: str
    """Names a value, which stands for ``{}``, so that it stands on its own: ``batch {}``."""
    as_phrase: Mapping[LeverValue, str] = field(default_factory=dict)
    """Phrases of values that ``phrased`` does not name well."""
    read: Callable[[Any], LeverValue] | None = None
    """Reads it from a spec as people read it; None where that is the field's value."""
    quiet: LeverValue = None
    """Value, as people read it, at which it is left out unless another trial has another; None names every value."""
    help: str = ""
    """What ``vnbench sweep --help`` says of it, without its words and its default; empty where it is no axis."""
    metavar: str = "NAME,..."
    """What the option takes."""
    parse_axis: Parser | None = None
    """Parser of the axis; None takes a comma list of the field's words."""
    swept: str | Mapping[str, str] = ""
    """Values that a sweep takes unless asked for others, by device where that matters; empty for the field's default.
    The first one is that of the centre."""
    centre: Mapping[str, LeverValue] = field(default_factory=dict)
    """Value of the centre by device, where it is another, and on the axis."""
    part: Literal["computing", "loading"] | None = None
    """Which part of training it acts on, as trials of that part alone show."""
    is_switch: bool = False
    """Whether it is a switch of a library, which is at its default unless asked for, and named only then."""
    is_cuda_only: bool = False
    """Whether it says nothing on a CPU."""
    needs: Literal["workers", "several examples"] | None = None
    """Without what it says nothing: loader workers, or passes of more than one example."""
    neutral: str | None = None
    """Value that a network of one's own has unless its function takes a parameter of this name; None where the lever is
    not of the network's making."""
    name: str = ""
    """Field of the spec."""
    words: tuple[str, ...] = ()
    """Values that it may have, in their order; empty where they are no fixed words."""
    default: Any = None
    """Value of the field unless it is given."""

    def bound(self, name: str, *, words: tuple[str, ...], default: Any) -> Lever:
        """Return the lever with what its field says: its name, its words and its default, None for none."""
        return dataclasses.replace(
            self,
            name=name,
            words=self.words or words,
            default=default,
            quiet=default if self.is_switch else self.quiet,
        )

    @property
    def is_axis(self) -> bool:
        """Whether a sweep can vary it."""
        return bool(self.help)

    @property
    def option(self) -> str:
        """Name of its option, without dashes."""
        return self.name.replace("_", "-")

    def parse(self, text: str, where: str) -> tuple[Any, ...]:
        """Return the values of its axis.

        Raises:
            InputError: one that it does not take.
        """
        values: tuple[Any, ...] = (self.parse_axis or words(self.words))(text, where)
        return values

    def swept_on(self, device: str) -> str:
        """Return the values that a sweep on a device takes unless asked for others, as one writes them."""
        text = self.swept if isinstance(self.swept, str) else self.swept[device]
        return text or str(self.default)

    def value(self, spec: Any) -> LeverValue:
        """Return its value in a spec, as people read it; None where the kind of trial has no such field."""
        value: LeverValue = getattr(spec, self.name, None) if self.read is None else self.read(spec)
        return value

    def phrase(self, value: LeverValue) -> str:
        """Name a value so that it stands on its own: ``batch 4``, ``random sampler``."""
        return self.as_phrase.get(value, self.phrased.format(value))

    def rank(self, value: LeverValue) -> tuple[int, int, str]:
        """Return the place of a value among others: none, then numbers by size, then words in their order."""
        if value is None:
            return 0, 0, ""
        if isinstance(value, int):
            return 1, value, ""
        return 2, self.words.index(value) if value in self.words else len(self.words), value
