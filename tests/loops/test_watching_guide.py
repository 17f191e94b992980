from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

import torch
from lightning.pytorch import Trainer
from segmentation import Curves, Segmenter, collate, make_loader, make_network
from test_watched_own import records_of
from torch.utils.data import DataLoader

import vnbench

GUIDE = Path(vnbench.__file__).parent / "guide" / "watching.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), flags=re.M | re.S)

pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning warns about is its own


def two(_: int) -> range:
    """Stand in for the guide's number of epochs."""
    return range(2)


def test_the_callback_of_the_guide_leaves_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"accelerator": "cpu", "limit_train_batches": 3, "logger": False, "enable_checkpointing": False}
    shown: dict[str, Any] = {"Trainer": functools.partial(Trainer, enable_progress_bar=False, **settings)}
    exec(BLOCKS[0], shown)
    trainer = shown["trainer"]
    assert trainer.max_epochs == 50
    trainer.fit_loop.max_epochs = 2
    trainer.fit(Segmenter(), make_loader())
    assert [one.kind for one in records_of(tmp_path / "run.jsonl")] == ["observed"] * 2


def test_the_loop_of_the_guide_leaves_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = make_network()

    def loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, masks, ignore_index=255)

    validated: list[torch.nn.Module] = []
    shown = {
        "network": network,
        "optimizer": torch.optim.SGD(network.parameters(), lr=0.01),
        "loader": DataLoader(Curves(), batch_size=2, shuffle=True, collate_fn=collate),
        "loss_of": loss,
        "validate": validated.append,
        "range": two,
    }
    exec(BLOCKS[1], shown)
    first, second = records_of(tmp_path / "run.jsonl")
    assert (first.spec.sampler, first.spec.loop) == ("random", "own")
    assert second.steps is not None
    assert len(second.steps["loss"]) == 10
    assert len(validated) == 2
