"""The shim that makes a CUDA device without CUDA, compiled where it is used: it is bound to the ABI of one torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_cuda.cpp")

TIMEOUT_S = 300


class NoShimError(Exception):
    """There is no shim, and why, in one line."""


def build_shim(source: Path = SOURCE) -> Path:
    """Return the compiled shim, made anew where source or torch are not those of an earlier one.

    Raises:
        NoShimError: torch brings a CUDA of its own, there is no compiler, or it does not compile.
    """
    if (_torch_folder() / "lib" / "libtorch_cuda.so").exists():
        raise NoShimError("fake CUDA tensors need torch's build for the CPU, and this one has hooks of CUDA already")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise NoShimError("fake CUDA tensors need g++, or a compiler named in CXX, and there is none")
    version = importlib.metadata.version("torch")
    content = hashlib.sha256(source.read_bytes() + version.encode() + str(_torch_folder()).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"vnbench-fake-cuda-{os.getuid()}"
    shim = folder / f"{content[:16]}.so"
    if shim.exists():
        return shim
    folder.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / shim.name
        _compile(compiler, source, made, version=version)
        # At once, so that nobody finds half of it.
        made.rename(shim)
    return shim


def _compile(compiler: str, source: Path, target: Path, *, version: str) -> None:
    torch = _torch_folder()
    command = [compiler, "-std=c++20", "-O0", "-shared", "-fPIC", "-w"]
    command += [f"-I{torch}/include", f"-I{torch}/include/torch/csrc/api/include"]
    command += [f"-L{torch}/lib", f"-Wl,-rpath,{torch}/lib", str(source), "-o", str(target), "-lc10", "-ltorch_cpu"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise NoShimError(f"{source.name} was not compiled within {TIMEOUT_S} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or ["the compiler says nothing"]
        raise NoShimError(f"{source.name} does not compile against torch {version}: {errors[0]}")


def _torch_folder() -> Path:
    """Return torch's folder, without importing it."""
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent
