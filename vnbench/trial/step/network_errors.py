"""What stopped a user's own network in a trace: an error of its own, or something that fake tensors cannot do."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vnbench.errors import ModelError, VnbenchError
from vnbench.records.failures import summary_line
from vnbench.records.spec.trial_spec import TrialSpec

REPAIR = "repair the network"

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of code that is not the user's."""


class NoRuleError(NotImplementedError):
    """An operator whose memory no rule of a trace tells; its message begins with the operator."""


class HostTensorError(RuntimeError):
    """A tensor on the host in an operator on the card, which CUDA refuses; its message names the operator."""


VALUES = "so it cannot be traced on fake tensors, which hold no values"

LIMITS: Mapping[str, str] = {
    "DataDependentOutputException": f"it reads values ({{}}), as item(), tolist() and if do, {VALUES}",
    "DynamicOutputShapeException": f"it makes a tensor whose size depends on values ({{}}), {VALUES}",
    "UnsupportedOperatorException": "{} cannot be traced on fake tensors: torch has no rule of its shapes",
}
"""What an operator does that fake tensors cannot do, by torch's exception, which holds the operator as ``func``."""

LIMITS_BY_TEXT: Mapping[str, str] = {
    r"\.numpy\(\) is not supported for tensor subclasses": f"it passes a tensor to NumPy (numpy), {VALUES}",
    r"unsupported format string passed to FakeTensor": f"it prints values (__format__), {VALUES}",
    r"convert all Tensors to FakeTensors first.*Found in ([\w.]+)": (
        "{} cannot be traced on fake tensors: it takes a tensor that is kept outside of the network"
    ),
}
"""The same by the message of an exception that has no type of its own."""


@contextmanager
def told_of_network(spec: TrialSpec, *, remedy: str) -> Iterator[None]:
    """Return a context that tells of errors of a user's own network; ``remedy`` is for what cannot be traced.

    Raises:
        ModelError: the network ended its block. The message has the four parts of an ``InputError``.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if spec.model_id is None or isinstance(error, VnbenchError):
            raise
        raise ModelError(f"--model {spec.model}: {_told(error, spec, remedy=remedy)}") from error


def place_in(error: BaseException, name: str) -> str | None:
    """Return the last line of the code of ``FILE.py:FUNCTION`` in a traceback as ``FILE:LINE, in FUNCTION``."""
    folder = Path(name.rpartition(":")[0]).resolve().parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(folder) and not INSTALLED & set(path.parts):
            return f"{path.relative_to(folder)}:{frame.lineno}, in {frame.name}"
    return None


def _told(error: BaseException, spec: TrialSpec, *, remedy: str) -> str:
    """Return what is wrong and what to do."""
    place = place_in(error, spec.model)
    where = f"{place}: " if place else ""
    if isinstance(error, HostTensorError):
        return f"{where}{error}; make it with device=images.device, or register it as a buffer"
    limit = _limit(error)
    if limit is not None:
        return f"{where}{limit}; {remedy}"
    if isinstance(error, SystemExit):
        return f"{where}it ends the process ({summary_line(error)}); {REPAIR}"
    return f"{where}{summary_line(error)}; {REPAIR}"


def _limit(error: BaseException) -> str | None:
    """Return what fake tensors could not do; None for an error that is the network's own."""
    if isinstance(error, NoRuleError):
        return f"{error}, so it cannot be traced on fake tensors"
    told = LIMITS.get(type(error).__name__)
    if told is not None:
        return told.format(getattr(error, "func", "an operator"))
    for pattern, told in LIMITS_BY_TEXT.items():
        found = re.search(pattern, str(error), flags=re.DOTALL)
        if found:
            return told.format(*found.groups())
    return None
