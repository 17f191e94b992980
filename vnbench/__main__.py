"""The ``vnbench`` command."""

import os
import sys

INTERRUPTED = 130
"""Exit code after Ctrl-C. A copy of the value in vnbench.processes.interrupts, which is imported later."""

OWN_ERROR = 70
"""Exit code after an error of vnbench itself (EX_SOFTWARE in sysexits.h); 1 means that a regression was found."""


def main() -> None:
    """Run the command line and exit with its code."""
    stdout = None
    try:
        # Imports stand inside the try block: Ctrl-C may interrupt them, and a broken package must be reported.
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
        # An extension module whose import was interrupted can crash Python at exit.
        os._exit(code)
    sys.exit(code)


def _tell(error: Exception) -> None:
    try:
        from vnbench.processes.failure import failure_lines

        print(*failure_lines(error), sep="\n", file=sys.stderr)
    except Exception:  # the last resort: a report needs imports and memory, and either may have failed
        print(f"vnbench: {error!r}; its details could not be written", file=sys.stderr)


def leave_working_folder() -> None:
    """Take the working folder off the import path, or move it to the end, unless vnbench was imported from there.

    ``python -m`` puts it first, and so does an empty entry of PYTHONPATH (which here moves it to the end). A project's
    ``random.py`` would then replace Python's own, and a folder ``torch`` would be measured in place of torch.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    text = os.environ.get("PYTHONPATH", "")
    given = text.split(os.pathsep) if text else []
    named = [part for part in given if part]
    if not sys.flags.safe_path and sys.path.pop(0) == root:
        sys.path.insert(0, root)
        named.insert(0, root)  # for child processes
    elif named != given and (here := _working_folder()) in sys.path:
        sys.path.remove(here)
        sys.path.append(here)
    if named != given:
        os.environ["PYTHONPATH"] = os.pathsep.join(named)


def _working_folder() -> str:
    """Return the working folder; an empty string if it was deleted (reported later, if it matters)."""
    try:
        return os.path.realpath(".")
    except OSError:
        return ""


if __name__ == "__main__":
    main()
