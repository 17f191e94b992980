"""Map from the numbers in a mask to classes, and the message for a number that is not a class."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vnbench.errors import CorpusError
from vnbench.records.spec.trial_spec import ImagesSpec
from vnbench.records.spec.words import IGNORED_CLASS, MAX_CLASSES

UNKNOWN_CLASS = MAX_CLASSES
"""Marks, in a decoded mask, a number that is not a class, until the mask is refused."""

MANY_NUMBERS = 32
"""More distinct numbers than this look like shades of gray, and are not listed."""

LIKELY_CLASS = 64
"""Numbers below this are taken for classes, larger ones for grays that stand for classes."""

USUALLY_IGNORED = 255
"""Number that most data sets use for pixels without a class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskClasses:
    """Meaning of the numbers in masks."""

    num_classes: int
    """Number of classes, background included."""
    values: tuple[int, ...] | None = None
    """Numbers that stand for the classes 0, 1, ...; None if each number is its own class."""
    ignored: int | None = None
    """Number that marks pixels to ignore; None if there is none."""

    @classmethod
    def of(cls, spec: ImagesSpec) -> MaskClasses:
        """Return the meaning of the numbers in a trial's masks."""
        return cls(num_classes=spec.num_classes, values=spec.mask_values, ignored=spec.ignore_value)

    def decode(self, mask_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the class of each pixel of a mask, uint8 (H, W); IGNORED_CLASS for pixels to ignore.

        Raises:
            CorpusError: a number is not a class.
        """
        if self.values is None and self.ignored is None:
            is_known = mask_HW.size == 0 or int(mask_HW.max()) < self.num_classes
            classes_HW = mask_HW
        else:
            classes_HW = class_table(self)[mask_HW]
            is_known = not (classes_HW == UNKNOWN_CLASS).any()
        if not is_known:
            problem, remedy = self.explain(np.unique(mask_HW).tolist()) or ("", "")
            raise CorpusError(f"holds {problem}; {remedy}")
        return classes_HW

    def explain(self, numbers: Collection[int]) -> tuple[str, str] | None:
        """Return why numbers in masks are not all classes, and the remedy; None if all are."""
        table = class_table(self)
        found = sorted(numbers)
        unknown = [number for number in found if table[number] == UNKNOWN_CLASS]
        if not unknown:
            return None
        known = (
            f"0 to {self.num_classes - 1}" if self.values is None else f"those of --mask-values {_text(self.values)}"
        )
        is_none = "is not a class" if len(unknown) == 1 else "are not classes"
        return f"{_listed(found)}, of which {_listed(unknown)} {is_none}; classes are {known}", self._remedy(
            found, unknown
        )

    def _remedy(self, found: list[int], unknown: list[int]) -> str:
        if _are_shades(found):
            return "save the masks without shades of gray: not as JPEG, and resized only by nearest neighbour"
        if self.values is not None:
            is_one = len(unknown) == 1 and self.ignored is None
            return f"add {_text(unknown)} to the list" + (f", or write --ignore-value {unknown[0]}" if is_one else "")
        numbers = [number for number in found if number != self.ignored]
        if USUALLY_IGNORED in unknown and len(numbers) > 2 and numbers[-2] < LIKELY_CLASS:
            options = [f"--classes {numbers[-2] + 1}"] if numbers[-2] >= self.num_classes else []
            return f"write {' '.join([*options, f'--ignore-value {USUALLY_IGNORED}'])} to ignore its pixels, " + (
                f"or --mask-values {_text(numbers)} if it is a class"
            )
        if numbers[-1] < LIKELY_CLASS:
            shifted = f", or --mask-values {_text(numbers)} if no pixel is 0" if 0 < numbers[0] < numbers[-1] else ""
            return f"write --classes {numbers[-1] + 1}{shifted}"
        return f"write --mask-values {_text(numbers if numbers[0] == 0 or len(numbers) > 1 else [0, *numbers])}"


@lru_cache(maxsize=16)
def class_table(classes: MaskClasses) -> NDArray[np.uint8]:
    """Return the meaning of each number from 0 to 255: a class, IGNORED_CLASS or UNKNOWN_CLASS."""
    table_256 = np.full(256, UNKNOWN_CLASS, dtype=np.uint8)
    values = range(classes.num_classes) if classes.values is None else classes.values
    table_256[list(values)] = range(classes.num_classes)
    if classes.ignored is not None:
        table_256[classes.ignored] = IGNORED_CLASS
    return table_256


def _are_shades(numbers: list[int]) -> bool:
    """Return whether numbers look like shades of gray around a class's gray: very many, or three in a row."""
    high = [number for number in numbers if number >= LIKELY_CLASS]
    in_a_row = any(third - first == 2 for first, third in zip(high, high[2:], strict=False))
    return in_a_row or (len(numbers) > MANY_NUMBERS and bool(high))


def _listed(numbers: list[int]) -> str:
    if len(numbers) > MANY_NUMBERS:
        return f"{len(numbers)} numbers from {numbers[0]} to {numbers[-1]}"
    return _text(numbers)


def _text(numbers: Collection[int]) -> str:
    return ",".join(map(str, numbers))
