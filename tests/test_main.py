from __future__ import annotations

import dataclasses
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import record_factory as factory

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "cpu-amd-epyc"
VERDICT = 1
GATE = ("gate", str(RESULTS / "gate_1.jsonl"), str(RESULTS / "gate_2.jsonl"), "--sweep-spread", "0")

pytestmark = pytest.mark.processes


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vnbench", *arguments]


def run_failing(code: str, tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line where an import or a call fails as ``code`` has it."""
    program = f"import sys, vnbench.__main__ as start\n{code}\nstart.main()"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), **variables}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8", check=False
    )


@pytest.mark.parametrize(
    "code",
    [
        "import vnbench.cli.app as app; app.run = lambda _: {}['a\\nb']",
        "import vnbench.cli.app as app; app.run = lambda _: open('\\udce9')",
        "sys.modules['click'] = None",
        "sys.modules['numpy'] = None; sys.argv += ['batching', '--widths', '64:96', '--examples', '4', "
        "'--batch-size', '2', '--sampler', 'random']",
    ],
)
def test_an_error_of_vnbench_itself_is_one_line_with_a_file_of_details_and_never_a_regression(
    code: str, tmp_path: Path
) -> None:
    done = run_failing(code, tmp_path)
    assert done.returncode == 70
    (line,) = done.stderr.splitlines()
    what = "a package cannot be imported, reinstall it" if "modules" in code else "this is an error of vnbench itself"
    assert line.startswith(f"vnbench: {what} (")
    kept = Path(line.rpartition("details are in ")[2])
    assert kept.is_relative_to(tmp_path)
    assert "Traceback" in kept.read_text(encoding="utf-8")


def test_a_variable_shows_the_traceback_of_an_error(tmp_path: Path) -> None:
    done = run_failing("sys.modules['click'] = None", tmp_path, VNBENCH_DEBUG="1")
    assert done.returncode == 70
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("arguments", [GATE, ("--help",), ("fit", str(RESULTS / "readme.jsonl"), "--json")])
def test_a_full_disk_behind_stdout_is_told_at_the_end(arguments: Sequence[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command(*arguments), stdout=full, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    assert done.returncode == (VERDICT if arguments is GATE else 2)
    assert done.stderr.splitlines()[-1] == (
        "vnbench: stdout: cannot be written (No space left on device); send it where there is room"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("streams", ["| true", ">&-", "<&- >&- 2>&-", "2>/dev/full", "2>&1 | true"])
def test_a_verdict_outlives_whoever_reads_it(streams: str) -> None:
    program = f'"$@" {streams}; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", program, "bash", *command(*GATE)], capture_output=True, check=False)
    assert done.returncode == VERDICT
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_table_is_told_in_every_encoding(encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command(*GATE), env=environment, capture_output=True, check=False)
    assert done.returncode == VERDICT
    assert done.stdout.decode(encoding)


def test_folders_whose_names_are_no_text_are_read_and_written(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    shutil.copy(RESULTS / "readme.jsonl", folder / "r.jsonl")
    done = subprocess.run(
        command("report", str(folder / "r.jsonl"), "--out", str(folder / "out")), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert os.fsencode(folder) + b"/out/report.html\n" in done.stderr
    assert (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_what_is_written_in_one_locale_is_read_in_any_other(tmp_path: Path) -> None:
    """A baseline of a device whose name is not ASCII, and a configuration with a BOM, as Windows writes it."""
    record = factory.measured_memory_record(factory.training_spec())
    environment = dict(record.environment) | {"device_name": "GPU der Universität"}
    lines = dataclasses.replace(record, environment=environment).to_json() + "\n"
    (tmp_path / "r.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "c.toml").write_text('widths = "größer"\n', encoding="utf-8-sig")
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for variables, arguments, code in (
        (ascii_only, ("gate", "--update", "b.json", "r.jsonl"), 0),
        (os.environ, ("gate", "b.json", "r.jsonl"), 0),
        (ascii_only, ("gate", "b.json", "r.jsonl"), 0),
        (ascii_only, ("sweep", "--config", "c.toml"), 2),
    ):
        done = subprocess.run(
            command(*arguments), cwd=tmp_path, env=variables, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == code, done.stderr
    assert "widths gr\\xf6\\xdfer" in done.stderr
    assert "Universität" in (tmp_path / "b.json").read_text(encoding="utf-8")


STARTER = """
import sys
from vnbench.__main__ import main
if __name__ == "__main__":
    sys.exit(main())
"""
"""What pip writes for the command."""


ENV = ("env", "--device", "cpu", "--json")


@pytest.mark.parametrize(
    ("starter", "path", "planted"),
    [
        ("start.py", "", ("vnbench/__init__.py", "types.py")),
        ("-m vnbench", "", ()),
        # Of which Python itself thinks as of the working folder.
        ("start.py", os.pathsep, ()),
    ],
)
def test_what_lies_in_the_working_folder_is_never_measured(
    tmp_path: Path, starter: str, path: str, planted: Sequence[str]
) -> None:
    folder = tmp_path / "project"
    for name in ("random.py", "tempfile.py", "torch/__init__.py", "numpy/__init__.py", *planted):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("raise RuntimeError('this is of another project')\n", encoding="utf-8")
    (tmp_path / "start.py").write_text(STARTER, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *starter.replace("start.py", str(tmp_path / "start.py")).split(), *ENV],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path + str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["convolution_s"]


def test_a_path_that_a_user_sets_stays(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("raise RuntimeError('found')\n", encoding="utf-8")
    code = "from vnbench.__main__ import leave_working_folder; leave_working_folder(); import neighbour"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), "", str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert "found" in done.stderr


def test_a_source_tree_that_is_not_installed_is_measured_from_within(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "vnbench", tmp_path / "vnbench", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "vnbench/trial/instruments/environment.py").open("a", encoding="utf-8") as file:
        file.write('\ndef probe(device): return \'{"error": "this is the copy"}\'\n')
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command(*ENV), cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert "this is the copy" in done.stderr


@pytest.mark.parametrize("error", ["ImportError('no such library')", "OSError('libcudart.so: cannot open')"])
def test_a_torch_that_does_not_import_is_told_in_one_line(tmp_path: Path, error: str) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(f"raise {error}\n", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(command(*ENV), env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    told = error.partition("'")[2].rstrip("')")
    assert line.startswith("vnbench: the machine could not be examined: ")
    assert told in line
    assert "details are in " in line


def test_a_temporary_folder_of_a_long_name_will_do(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run(command(*ENV), env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    program = 'cd "$1" && rmdir "$1" && shift && "$@"'
    done = subprocess.run(
        ["bash", "-c", program, "bash", str(folder), *command(*ENV)], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "vnbench: working folder: was deleted (No such file or directory); change to a folder that exists"
    )


def test_settings_that_matplotlib_finds_in_the_working_folder_or_a_notebook_draw_no_other_picture(
    tmp_path: Path,
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "matplotlibrc").write_text("font.size: 60\nsavefig.dpi: 20\n", encoding="utf-8")
    pictures = []
    for name, variables in (("bare", {}), ("set", {"MPLBACKEND": "module://matplotlib_inline.backend_inline"})):
        folder = tmp_path / name
        done = subprocess.run(
            command("plot", str(RESULTS / "memory.jsonl"), "--out", "plots"),
            cwd=folder,
            env=os.environ | variables,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        pictures.append({path.name: path.read_bytes() for path in (folder / "plots").glob("*.png")})
    assert pictures[0]
    assert pictures[0] == pictures[1]


def test_a_terminal_that_is_closed_ends_nothing() -> None:
    reading, writing = pty.openpty()
    process = subprocess.Popen(command(*GATE), stdout=writing, stderr=writing, start_new_session=True)
    os.close(writing)
    os.close(reading)
    assert process.wait() == VERDICT
