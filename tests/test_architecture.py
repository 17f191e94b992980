from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vnbench"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_MODULES = 18
"""Of a room: more are two rooms."""
PUBLIC = PACKAGE / "batching" / "__init__.py"
"""What training scripts import; it names what its modules define."""


def parent_modules() -> list[str]:
    """Return the modules of the rooms that the import contract keeps free of torch."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["type"] == "forbidden")
    names: list[str] = []
    for name in contract["source_modules"]:
        place = ROOT / Path(*name.split("."))
        files = [file.relative_to(ROOT).with_suffix("") for file in sorted(place.rglob("*.py"))]
        names += [".".join(file.parts) for file in files if file.stem != "__init__"] or [name]
    return names


def test_every_room_is_kept_free_of_torch_or_may_import_it() -> None:
    rooms = {place.name for place in PACKAGE.iterdir() if (place / "__init__.py").exists()}
    assert rooms - {name.split(".")[1] for name in parent_modules()} == {"trial", "loading", "model", "loops"}


@pytest.mark.processes
def test_the_parent_process_is_free_of_torch() -> None:
    imports = "; ".join(f"import {name}" for name in parent_modules() if not name.endswith("__main__"))
    script = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.processes
def test_importing_the_command_line_does_not_import_torch() -> None:
    script = "import sys; import vnbench.cli.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.processes
def test_a_running_sweep_is_free_of_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from vnbench.cli.app import run\n"
        "if __name__ == '__main__':\n"
        "    code = run(['sweep', '--widths', '64:96', '--heights', '32:64', '--device', 'cpu', '--examples', '5',\n"
        "        '--subset', '2', '--batch-size', '1', '--precision', 'fp32', '--checkpointing', 'none',\n"
        "        '--num-workers', '0', '--sampler', 'random', '--max-attempts', '1', '--time-budget', '10h',\n"
        "        '--out', 'r.jsonl'])\n"
        "    sys.exit(code or 'torch' in sys.modules)\n"
    )
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py" and path != PUBLIC], ids=str)
def test_a_package_root_holds_a_docstring_and_nothing_else(path: Path) -> None:
    (only,) = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(only, ast.Expr)
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_its_job(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("room", sorted({path.parent for path in MODULES}), ids=str)
def test_a_room_is_small_enough_to_be_looked_over(room: Path) -> None:
    assert len([path for path in room.glob("*.py") if path.name != "__init__.py"]) <= MOST_MODULES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_a_package_root(path: Path) -> None:
    packages = {".".join(place.parent.relative_to(ROOT).parts) for place in MODULES if place.name == "__init__.py"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & packages
        elif isinstance(node, ast.ImportFrom) and node.module in packages:
            # ``from vnbench.measure import nvml`` names a module, not something re-exported.
            place = ROOT / Path(*node.module.split("."))
            assert all((place / f"{alias.name}.py").exists() for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_text_is_read_and_written_in_an_encoding_that_is_named(path: Path) -> None:
    # The linter sees a path only where its type is written nearby.
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            named = {keyword.arg for keyword in node.keywords}
            name = getattr(node.func, "attr", None)
            # click's formatter of help writes into a string.
            is_file = getattr(getattr(node.func, "value", None), "id", None) != "formatter"
            is_text = (name in {"read_text", "write_text"} and is_file) or (
                name in {"run", "Popen", "check_output"} and "text" in named
            )
            assert "encoding" in named or not is_text, node.lineno
