"""The ``vnbench`` command."""

import os
import sys


def main() -> None:
    """Run the command line and end with its exit code."""
    from vnbench.processes.interrupts import INTERRUPTED
    from vnbench.processes.streams import prepare_streams

    stdout = prepare_streams()
    try:
        # Here, because Ctrl-C may come while it is imported, and a package that is broken is told like any error.
        from vnbench.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        from vnbench.processes.failure import OWN_ERROR, failure_lines

        code = OWN_ERROR
        print(*failure_lines(error), sep="\n", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if stdout.trouble is not None and not isinstance(stdout.trouble, BrokenPipeError):
        told = f"cannot be written ({stdout.trouble.strerror}); send it where there is room"
        print(f"vnbench: stdout: {told}", file=sys.stderr)
        code = code or 2
    if code == INTERRUPTED:
        # An extension that was interrupted while it was imported can crash Python on its way out.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
