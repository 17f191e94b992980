from __future__ import annotations

import json
from pathlib import Path

import pytest

from vnbench.cli.app import run

pytestmark = pytest.mark.processes

SMALL = "--examples 10 --widths 96:160 --heights 32:64 --num-workers 0 --batch-size 2 --micro-batch-size 1 --steps 4"

NOISY = """
import os
import torch
from torch import nn


class Noise(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        # Two passes a step: from the third step on.
        return x + int.from_bytes(os.urandom(2), "big") / 1e6 if self.calls > 4 else x * 1.0


def build(num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), Noise(), nn.Conv2d(4, num_classes, 1))
"""


def test_the_same_run_twice_is_equal_to_the_bit(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repeat", *SMALL.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["is_bitwise_equal"]
    assert found["first_difference"] is None
    assert (found["runs"], found["steps"]) == (2, 4)
    assert found["last_losses"][0] == found["last_losses"][1] > 0


def test_what_draws_from_elsewhere_is_named_with_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("noisy.py").write_text(NOISY, encoding="utf-8")
    assert run(["repeat", *SMALL.split(), "--model", "noisy.py:build", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["is_bitwise_equal"]
    assert found["first_difference"]["step"] == 3
    assert found["first_difference"]["operator"] == "1 (Noise)"
    assert found["first_difference"]["parameter"] in ("0.weight", "0.bias", "2.weight")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--runs 1", "--runs"),
        ("--steps 0", "--steps"),
        ("--precision fp32,bf16", "one configuration is trained"),
        ("--model nowhere.py:build", "nowhere.py"),
    ],
)
def test_what_cannot_be_repeated_is_told(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repeat", *SMALL.split(), *options.split()]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
