from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vnbench.data.corpus import Corpus, load_corpus
from vnbench.data.sizes import SizeDistribution
from vnbench.data.synthesis import CorpusSpec, build_corpus
from vnbench.units import PixelRange


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
