"""Define the columns of a trial's steps, which a results file holds as text until they are used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict, TypeVar, get_type_hints

import msgspec

from vnbench.errors import InputError
from vnbench.records.values.strict import Count, Number, Pixels, Seconds, refusal

T = TypeVar("T")


class StepColumns(TypedDict, total=False):
    """Columns of ``TrialRecord.steps``; each holds one value per optimizer step.

    A duration is null if the clock stepped backwards and made it negative. The first records lack ``block`` and
    ``is_outlier``.
    """

    is_warm_up: tuple[bool, ...]
    """Whether the step came before the measured steps."""
    block: tuple[Count, ...]
    """Synchronised block of the step, from 0; warm-up blocks count."""
    num_examples: tuple[Count, ...]
    """Examples of the step."""
    num_micro_batches: tuple[Count, ...]
    """Forward and backward passes of the step."""
    valid_pixels: tuple[Pixels, ...]
    """Sum of height x width of the examples."""
    padded_pixels: tuple[Pixels, ...]
    """Sum of the canvases' pixels, padding included."""
    canvas_height: tuple[Pixels, ...]
    """Largest canvas height of the step."""
    canvas_width: tuple[Pixels, ...]
    """Largest canvas width of the step."""
    step_time_s: tuple[Seconds | None, ...]
    """Time from the start of the step to the start of the next one."""
    data_wait_s: tuple[Seconds | None, ...]
    """Time that the training process waited for the loader."""
    h2d_s: tuple[Seconds | None, ...]
    """Time of the copy to the device and the conversion there."""
    forward_s: tuple[Seconds | None, ...]
    """Time of the forward passes with the loss."""
    backward_s: tuple[Seconds | None, ...]
    """Time of the backward passes."""
    optimizer_s: tuple[Seconds | None, ...]
    """Time to zero the gradients and update the weights."""
    loss: tuple[Number | None, ...]
    """Loss of the step; null if it was not finite."""
    is_skipped_by_scaler: tuple[bool, ...]
    """Whether the gradient scaler skipped the update."""
    is_outlier: tuple[bool, ...]
    """Whether the step took far longer or shorter than the others; it still counts."""
    is_snapshot: tuple[bool, ...]
    """Whether a snapshot was saved within its time (``observed``); such a step does not count."""
    is_after_validation: tuple[bool, ...]
    """Whether a validation, whose time is left out, came before the step (``observed``)."""


STEP_COLUMNS = tuple(StepColumns.__annotations__)
"""Names of the columns, in the order of a record."""

OBSERVED_COLUMNS = ("is_snapshot", "is_after_validation")
"""Columns of observed runs alone."""

TRIAL_COLUMNS = tuple(name for name in STEP_COLUMNS if name not in OBSERVED_COLUMNS)
"""Columns of trials."""

_TYPES = get_type_hints(StepColumns, include_extras=True)

_DECODERS: Mapping[str, msgspec.json.Decoder[tuple[Any, ...]]] = {
    name: msgspec.json.Decoder(kind) for name, kind in _TYPES.items()
}

_TEXTS = msgspec.json.Decoder(dict[str, msgspec.Raw])

_FIELD = b'"steps":'

_DROPPED = b"0123456789,"
"""Characters that may stand in every column, dropped before the others are looked at: they are most of the text."""

_WORDS, _WHOLE_NUMBERS, _NUMBERS = rb"[truefals]*+", rb"", rb"[.e\-nul]*+"

_OTHERS = {
    tuple[bool, ...]: _WORDS,
    tuple[Count, ...]: _WHOLE_NUMBERS,
    tuple[Pixels, ...]: _WHOLE_NUMBERS,
    tuple[Seconds | None, ...]: _NUMBERS,
    tuple[Number | None, ...]: _NUMBERS,
}
"""The other characters of a column by its type. A positive exponent is not among them: it makes a number too large."""

_PLAIN = re.compile(
    rb"\{%s\}"
    % b"".join(
        rb'(?:"%s":\[%s\])?+' % (name.encode().translate(None, _DROPPED), _OTHERS[_TYPES[name]])
        for name in STEP_COLUMNS
    )
)
"""Columns without the dropped characters, in the order of a record."""


class UnreadSteps(Mapping[str, tuple[Any, ...]]):
    """The columns of a record in a results file, each read and checked whenever it is used.

    No column is kept, since few are used twice.
    """

    __slots__ = ("_found", "_text", "_where")

    def __init__(self, text: bytes, *, where: str) -> None:
        """Take the columns as JSON; ``where`` names the file and the line in errors."""
        self._text = text
        self._where = where
        self._found: dict[str, msgspec.Raw] | None = None

    def __getitem__(self, name: str) -> tuple[Any, ...]:
        """Return a column.

        Raises:
            KeyError: the record lacks the column.
            InputError: a value does not fit.
        """
        return self._read(_DECODERS[name], self._texts[name], field=f"steps.{name}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def _texts(self) -> dict[str, msgspec.Raw]:
        if self._found is None:
            self._found = self._read(_TEXTS, self._text, field="steps")
        return self._found

    def _read(self, decoder: msgspec.json.Decoder[T], text: bytes | msgspec.Raw, *, field: str) -> T:
        try:
            return decoder.decode(text)
        except msgspec.DecodeError as error:
            told = refusal(error, where=field)
            raise InputError(self._where, allowed=told, remedy="correct this line, or remove it") from error


def without_steps(line: bytes) -> tuple[bytes, bytes] | None:
    """Return the steps of a record's line, and the line without them, if their characters are those of plain columns.

    Text, objects, nested lists and NaN are not plain, nor are columns in another order than that of a record. Numbers
    are not read, so that one may still be out of bounds.
    """
    start = line.find(_FIELD + b'{"is_warm_up":') + len(_FIELD)
    stop = line.find(b"}", start) + 1
    text = line[start:stop]
    if _PLAIN.fullmatch(text.translate(None, _DROPPED)) is None:
        return None
    return text, b"".join((line[:start], b"null", line[stop:]))
