"""The process of a side, and its environment."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import pytest
import record_factory as factory

from vnbench.commands.gate.against.environments import homes_of
from vnbench.commands.gate.against.revisions import Tree
from vnbench.commands.gate.worker import Home, Worker
from vnbench.errors import ChildError, InputError
from vnbench.records.task import TrialTask

pytestmark = pytest.mark.processes

SPEC = factory.compute_spec()

# ---- The process of a side


def fake_home(folder: Path, body: str) -> Home:
    """Return the home of a vnbench whose command line is a function of the given body."""
    package = folder / "vnbench" / "cli"
    package.mkdir(parents=True)
    for place in (package, package.parent):
        (place / "__init__.py").touch()
    (package / "app.py").write_text(f"import os, sys\n\ndef run(arguments):\n{body}\n")
    return Home(python=Path(sys.executable), source=folder, folder=folder)


def test_a_side_stays_and_answers_one_command_after_another(tmp_path: Path) -> None:
    body = "    print('{\"pid\": %d}' % os.getpid())\n    return 0"
    with Worker(fake_home(tmp_path, body)) as worker:
        first, second = (worker.environment("cpu")["pid"] for _ in range(2))  # type: ignore[typeddict-item]
    assert first == second != os.getpid()


def test_a_side_of_an_earlier_revision_whose_command_line_is_one_module_answers_too(tmp_path: Path) -> None:
    (tmp_path / "vnbench").mkdir()
    (tmp_path / "vnbench" / "__init__.py").touch()
    (tmp_path / "vnbench" / "cli.py").write_text("def run(arguments):\n    print('{}')\n    return 0\n")
    with Worker(Home(python=Path(sys.executable), source=tmp_path, folder=tmp_path)) as worker:
        assert worker.environment("cpu") == {}


def test_what_a_side_prints_beside_its_answer_does_not_disturb_it(tmp_path: Path) -> None:
    body = "    os.write(1, b'noise\\n' * 20_000)\n    print('noise', file=sys.stderr)\n    print('{}')\n    return 0"
    with Worker(fake_home(tmp_path, body)) as worker:
        assert worker.environment("cpu") == {}


def test_files_of_the_working_folder_are_no_modules(tmp_path: Path) -> None:
    home = fake_home(tmp_path / "source", "    import random\n    print('{}')\n    return 0")
    (tmp_path / "random.py").write_text("raise SystemExit('not this one')")
    with Worker(dataclasses.replace(home, folder=tmp_path)) as worker:
        assert worker.environment("cpu") == {}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("    os._exit(7)", "ended without an answer"),
        ("    raise ValueError('it broke')", "it broke"),
        ("    print('vnbench: no torch', file=sys.stderr)\n    return 3", "no torch"),
    ],
)
def test_a_side_that_does_not_answer_is_named_with_its_last_words(tmp_path: Path, body: str, told: str) -> None:
    with Worker(fake_home(tmp_path, body)) as worker, pytest.raises(ChildError, match=told) as caught:
        worker.environment("cpu")
    assert str(tmp_path) in str(caught.value)


def test_a_device_that_a_side_lacks_is_bad_input(tmp_path: Path) -> None:
    home = fake_home(tmp_path, "    print('vnbench: no CUDA', file=sys.stderr)\n    return 2")
    with Worker(home) as worker, pytest.raises(InputError, match="--device cuda: no CUDA"):
        worker.environment("cuda")


def test_a_record_of_another_trial_is_no_answer(tmp_path: Path) -> None:
    task = TrialTask(spec=SPEC, replicate=1, attempt=0, corpus_directory=None)
    record = factory.record_of(SPEC, steps=factory.steps_of([1.0, 1.0]), replicate=0)
    (tmp_path / "record.json").write_text(record.to_json())
    home = fake_home(tmp_path, "    print(open('record.json').read())\n    return 0")
    with Worker(home) as worker, pytest.raises(ChildError, match="of another trial"):
        worker.run(task, timeout_s=60.0)


def source_tree(folder: Path, *, requires: str = "torch", name: str = "vnbench") -> Tree:
    (folder / "vnbench").mkdir(parents=True)
    (folder / "vnbench" / "__main__.py").touch()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\ndependencies = ["{requires}"]\n')
    return Tree(name=folder.name, told=folder.name, root=folder, folder=folder)


def test_a_revision_that_cannot_be_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    trees = source_tree(tmp_path / "baseline", requires="there-is-no-such-package"), source_tree(tmp_path / "candidate")
    said: list[str] = []
    with pytest.raises(
        InputError, match=r"--against baseline: what it needs cannot be installed \(.+\); install it into .venv"
    ):
        homes_of(*trees, tell=said.append)
    assert "needs other packages" in said[0]
