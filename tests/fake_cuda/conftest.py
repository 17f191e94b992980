"""Groups of cases on fake CUDA tensors: each runs once in a session, in whichever of its processes asks first."""

from __future__ import annotations

import fcntl
import functools
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from fake_cuda import cases
from fake_cuda.runner import Answer, Answers, Case, Group, run_cases
from fake_cuda.shim import NoShimError, build_shim

from vnbench.batching.sizes import SizeDistribution
from vnbench.images.synthesis import CorpusSpec, build_corpus
from vnbench.units import PixelRange

SIZES = SizeDistribution(widths=PixelRange(start=64, stop=128), heights=PixelRange(start=32, stop=64))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs the shim where there is none; here, and not in a fixture, so that pytest tells it in one line."""
    built = _built() if "shim" in getattr(item, "fixturenames", ()) else None
    if isinstance(built, NoShimError):
        pytest.skip(str(built))


@functools.cache
def _built() -> Path | NoShimError:
    try:
        return build_shim()
    except NoShimError as error:
        return error


@pytest.fixture(scope="session", name="shim")
def _shim() -> Path:
    built = _built()
    assert isinstance(built, Path)
    return built


@pytest.fixture(scope="session", name="group")
def _group(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Group:
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fake-cuda"
    shared.mkdir(exist_ok=True)

    def answers(name: str) -> Answers:
        kept = shared / f"{name}.json"
        with open(shared / f"{name}.lock", "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                found = run_cases(_cases(name, shared), shim=shim, is_traced=name in cases.TRACED)
                kept.write_text(json.dumps(asdict(found)))
        told = json.loads(kept.read_text())
        return Answers(answers=[Answer(**one) for one in told["answers"]], lines=told["lines"])

    return answers


def _cases(name: str, shared: Path) -> Sequence[Case]:
    match name:
        case "steps":
            return cases.steps()
        case "trials":
            return cases.trials()
        case "on files":
            spec = CorpusSpec(num_examples=10, sizes=SIZES, task="multiclass", seed=0)
            return cases.trials_on_files(build_corpus(spec, shared / "corpus"))
        case "traced":
            return cases.traced()
        case "checks":
            return cases.checks(str(shared))
        case _:
            return cases.planted()
