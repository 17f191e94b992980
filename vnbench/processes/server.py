"""Prepare the forkserver: it imports this module first, which hides interrupts and keeps CUDA usable in the children.

The forkserver forks a child on request, and the child then reads its task from a pipe. An interrupt in between leaves
the pipe empty, and Python would print a traceback of the EOFError.

A single CUDA call in an imported module would make CUDA unusable in every child. The most common one,
``torch.cuda.is_available``, is answered here without CUDA. Children use the default check again, which is stricter.

An import that fails here is left to the children: a child that needs the module fails alone and reports the cause.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from types import TracebackType

from vnbench.processes.child import TO_IMPORT

NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Environment variable: if it is 1, ``torch.cuda.is_available`` asks NVML instead of the CUDA driver."""


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if not issubclass(kind, EOFError):
        sys.__excepthook__(kind, error, traceback)


def _ask_nvml() -> None:
    given = os.environ.get(NVML_CHECK)
    os.environ[NVML_CHECK] = "1"

    def as_given() -> None:
        if given is None:
            os.environ.pop(NVML_CHECK, None)
        else:
            os.environ[NVML_CHECK] = given

    os.register_at_fork(after_in_child=as_given)


sys.excepthook = _report
_ask_nvml()
for name in filter(None, os.environ.pop(TO_IMPORT, "").split(",")):
    with suppress(Exception, SystemExit):
        importlib.import_module(name)
