"""What every test shares: tiers by what tests need, no GPU tests without a GPU, and nothing in the user's cache."""

from __future__ import annotations

import fcntl
import multiprocessing.process
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from vnbench.batching.sizes import SizeDistribution
from vnbench.images.corpus import Corpus, load_corpus
from vnbench.images.synthesis import CorpusSpec, build_corpus
from vnbench.processes.parent import SPIN_COUNT
from vnbench.units import PixelRange

# No clock decides: an example that takes long on a busy machine is no failure.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# As in the processes of trials, and before a test imports torch: beside a busy core tests take a tenth of the time.
os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)

# Tables are as wide as where nobody says how wide, whatever the terminal of the tests.
os.environ.pop("COLUMNS", None)


TIERS = ("plain", "torch", "processes")
"""What tests need: neither torch nor processes, torch and at most its loader workers, or whole processes."""

NEEDS_PROCESSES = "it starts a process: mark it pytest.mark.processes"

TORCH_ROOMS = frozenset({"trial", "loading", "model", "loops"})
"""Folders of tests that need torch, whatever their markers say."""

PROCESS_ROOMS = frozenset({"processes", "fake_cuda", "browser", "gpu"})
"""Folders of tests that start processes, or wait for a device."""


def tier_of(item: pytest.Item) -> str:
    """Return the tier of a test, by its marker or else by its folder."""
    rooms = {folder.name for folder in item.path.relative_to(Path(__file__).parent).parents}
    if item.get_closest_marker("processes") or rooms & PROCESS_ROOMS:
        return "processes"
    return "torch" if item.get_closest_marker("torch") or rooms & TORCH_ROOMS else "plain"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=(*TIERS, "all"), default="all", help="Run the tests of one tier alone.")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave folders of other tiers unread, which import torch."""
    is_other = collection_path.name in TORCH_ROOMS | PROCESS_ROOMS and collection_path.parent.name == "tests"
    return True if config.getoption("tier") == "plain" and is_other else None


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> str:
    counts = Counter(map(tier_of, items))
    return f"tier {config.getoption('tier')}: " + ", ".join(f"{counts[tier]} {tier}" for tier in TIERS)


@pytest.hookimpl(trylast=True)  # when only those that will run are left
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tier = config.getoption("tier")
    if tier != "all":
        others = [item for item in items if tier_of(item) != tier]
        items[:] = [item for item in items if tier_of(item) == tier]
        config.hook.pytest_deselected(items=others)
    items[:] = _slow_ones_first(items, num_workers=int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if torch.cuda.is_available():
        return
    for item in gpu_items:
        item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _slow_ones_first(items: Sequence[pytest.Item], *, num_workers: int) -> list[pytest.Item]:
    """Return tests in an order in which each worker begins with its share of the slow ones.

    Workers that steal work are first given equal parts of the whole, one after the other. Were all slow ones in the
    first part, its worker would run them alone, and share them with the others last: then some wait for the rest.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    ordered: list[pytest.Item] = []
    for worker in range(num_workers):
        length = (len(items) - len(ordered)) // (num_workers - worker)
        own = slow[worker::num_workers]
        num_quick = max(0, length - len(own))
        ordered += [*own, *quick[:num_quick]]
        del quick[:num_quick]
    return ordered


@pytest.fixture(autouse=True)
def what_its_tier_has(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that needs more than its tier has, so that it is marked and the first tier stays quick."""
    if tier_of(request.node) != "plain":
        yield
        return
    begin, had_torch = subprocess.Popen.__init__, "torch" in sys.modules

    def begin_another(self: Any, args: Any, *others: Any, **named: Any) -> None:
        # Libraries ask small programs, such as uname; what takes time is another Python.
        if sys.executable in (args if isinstance(args, list | tuple) else [args]):
            pytest.fail(NEEDS_PROCESSES)
        begin(self, args, *others, **named)

    monkeypatch.setattr(subprocess.Popen, "__init__", begin_another)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", lambda _: pytest.fail(NEEDS_PROCESSES))
    yield
    if not had_torch and "torch" in sys.modules:
        pytest.fail("it imports torch: mark it pytest.mark.torch")


@pytest.fixture(autouse=True)
def environment_as_it_was() -> Iterator[None]:
    """Take back what a test sets for its process: a trial that is run within one sets switches of oneDNN and cuDNN."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def its_share_of_the_cores() -> None:
    """Let torch take as many cores as there are for each process of the tests: threads that wait take time too."""
    if "PYTEST_XDIST_WORKER_COUNT" in os.environ and "torch" in sys.modules:
        cores = len(os.sched_getaffinity(0))
        sys.modules["torch"].set_num_threads(max(1, cores // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))


@pytest.fixture(autouse=True)
def gpu_of_its_own(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let tests on the GPU run one at a time, in however many processes the tests run."""
    if request.node.get_closest_marker("gpu") is None:
        yield
        return
    with open(Path(tempfile.gettempdir()) / "vnbench-gpu-tests.lock", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep synthetic corpora of tests in one temporary folder per test session."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


@pytest.fixture(scope="session")
def corpus_spec() -> CorpusSpec:
    sizes = SizeDistribution(widths=PixelRange(start=90, stop=240), heights=PixelRange(start=40, stop=64))
    return CorpusSpec(num_examples=10, sizes=sizes, task="multiclass", seed=7)


@pytest.fixture(scope="session")
def built(corpus_spec: CorpusSpec, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus for tests that only read it."""
    return build_corpus(corpus_spec, tmp_path_factory.mktemp("built") / "corpus")


@pytest.fixture
def corpus(built: Corpus, tmp_path: Path) -> Corpus:
    """A copy of it for tests that damage it."""
    return load_corpus(shutil.copytree(built.directory, tmp_path / "corpus"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests found beside that they passed, whichever process they ran in: their property ``summary``."""
    for report in [*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())]:
        for name, text in report.user_properties:
            if name == "summary":
                terminalreporter.section(report.nodeid.rpartition("::")[2].replace("_", " "))
                terminalreporter.write_line(text)
