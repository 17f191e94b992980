"""What the server of children loads first, so that what happens to it does not reach its children or the screen.

It forks a child as soon as it is asked to; what the child is to do comes on a pipe afterwards. An interrupt in between
leaves the pipe empty, and Python would print the end of file as an error of the insides.

And one question to CUDA, by any module that it imports, would make CUDA unusable in every child. The most frequent one,
whether there is a GPU, is answered without CUDA here; a child asks as ever, since that answer promises less.

A module that does not import is left to the children: one that needs it fails alone, and tells why.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from types import TracebackType

from vnbench.processes.child import TO_IMPORT

NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Where it is 1, ``torch.cuda.is_available`` asks the driver's library instead of the driver."""


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
