"""The ``vnbench`` command."""

import os
import sys

INTERRUPTED = 130
"""As in vnbench.processes.interrupts, which is imported later."""

OWN_ERROR = 70
"""Exit code after an error of vnbench itself: EX_SOFTWARE of sysexits.h. 1 means that a regression was found."""


def main() -> None:
    """Run the command line and end with its exit code."""
    stdout = None
    try:
        # All of it here, because Ctrl-C may come while it is imported, and a broken package is told like any error.
        leave_working_folder()
        from vnbench.processes.streams import prepare_streams
        from vnbench.processes.user_cache import settle_matplotlib

        stdout = prepare_streams()
        settle_matplotlib()
        from vnbench.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        code = OWN_ERROR
        _tell(error)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    if stdout is not None and stdout.trouble is not None:
        told = f"cannot be written ({stdout.trouble.strerror}); send it where there is room"
        print(f"vnbench: stdout: {told}", file=sys.stderr)
        code = code or 2
    if code == INTERRUPTED:
        # An extension that was interrupted while it was imported can crash Python on its way out.
        os._exit(code)
    sys.exit(code)


def _tell(error: Exception) -> None:
    try:
        from vnbench.processes.failure import failure_lines

        print(*failure_lines(error), sep="\n", file=sys.stderr)
    except Exception:  # the last resort: telling needs imports and memory, and either may be what failed
        print(f"vnbench: {error!r}, and no memory or file to tell more", file=sys.stderr)


def leave_working_folder() -> None:
    """Take the working folder off the path of imports, unless vnbench itself was found there.

    ``python -m`` puts it first, and so does an empty part of PYTHONPATH, of which it becomes the last. A file
    ``random.py`` of some project would be imported in the place of Python's own, and a folder ``torch`` be measured.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    text = os.environ.get("PYTHONPATH", "")
    given = text.split(os.pathsep) if text else []
    named = [part for part in given if part]
    if not sys.flags.safe_path and sys.path.pop(0) == root:
        sys.path.insert(0, root)
        named.insert(0, root)  # for the processes that this one starts
    elif named != given and (here := _working_folder()) in sys.path:
        sys.path.remove(here)
        sys.path.append(here)
    if named != given:
        os.environ["PYTHONPATH"] = os.pathsep.join(named)


def _working_folder() -> str:
    """Return where this process is; nothing where that is gone, which is told when it matters."""
    try:
        return os.path.realpath(".")
    except OSError:
        return ""


if __name__ == "__main__":
    main()
