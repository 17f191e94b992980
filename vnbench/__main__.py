"""The ``vnbench`` command."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from vnbench.processes.interrupts import INTERRUPTED


def main() -> None:
    """Run the command line and end with its exit code."""
    try:
        # Here, because Ctrl-C may come while it is imported.
        from vnbench.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        # An extension that was interrupted while it was imported can crash Python on its way out.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
