"""The ``vnbench`` command."""

from __future__ import annotations

import os
import sys

from vnbench.cli import INTERRUPTED, run


def main() -> None:
    """Run the command line and end with its exit code."""
    code = run(sys.argv[1:])
    if code == INTERRUPTED:
        # An extension that was interrupted while it was imported can crash Python on its way out.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
