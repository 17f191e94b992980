from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
import torch
from torch import nn

from vnbench.cli.app import run as cli_run
from vnbench.errors import InputError, ModelError
from vnbench.output.words.levers import describe
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.request.own_model import read_own_model
from vnbench.trial.checks.equality import check_equality
from vnbench.trial.checks.large_tensors import largest_tensor
from vnbench.trial.checks.own_network import run
from vnbench.trial.step.network import build_network, mixes_examples, parts_of

pytestmark = pytest.mark.torch

SHIPPED = Path(__file__).parents[2] / "benchmarks" / "own_network.py"

HEADER = """
import torch
from torch import nn
"""


def own_spec(path: Path, function: str, **changes: Any) -> TrialSpec:
    own = read_own_model(f"{path}:{function}", where="--model")
    return factory.training_spec(model=own.name, model_id=own.model_id, **changes)


def write(folder: Path, text: str) -> Path:
    path = folder / "nets.py"
    path.write_text(HEADER + text)
    return path


def test_the_function_and_its_levers_are_read_without_running_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path, "raise SystemExit\ndef build(*, num_classes, checkpointing='none', depth=3, padding='plain'): ...\n"
    )
    own = read_own_model(f"{path}:build", where="--model")
    assert own.levers == ("checkpointing", "padding")
    assert len(own.model_id) == 12


def test_another_text_is_another_network(tmp_path: Path) -> None:
    first = own_spec(write(tmp_path, "def build(*, num_classes): ...\n"), "build")
    second = own_spec(write(tmp_path, "def build(*, num_classes): ... # changed\n"), "build")
    assert first.spec_id != second.spec_id
    assert first.family != second.family


HELPERS = {
    "beside.py": "WIDTH = 8\n",
    "late.py": "DEPTH = 3\n",
    "parts/__init__.py": "from .block import Block\n",
    "parts/block.py": "from parts import norms\nclass Block: ...\n",
    "parts/norms.py": "import nets\nno Python at all\n",
    "unused.py": "WIDTH = 8\n",
}
IMPORTS = """
import beside
from parts import Block
def build(*, num_classes):
    from late import DEPTH
"""


@pytest.mark.parametrize("changed", HELPERS)
def test_another_text_of_what_it_imports_beside_it_is_another_network(tmp_path: Path, changed: str) -> None:
    for name, text in HELPERS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    name = f"{write(tmp_path, IMPORTS)}:build"
    before = read_own_model(name, where="--model").model_id
    assert read_own_model(name, where="--model").model_id == before
    (tmp_path / changed).write_text(HELPERS[changed] + "# changed\n")
    assert (read_own_model(name, where="--model").model_id == before) == (changed == "unused.py")


@pytest.mark.parametrize(
    ("text", "function", "told"),
    [
        ("def build(*, num_classes): ...\n", "biuld", "write nets.py:build"),
        ("def build(): ...\n", "build", "takes no num_classes"),
        ("class Net: ...\n", "Net", "takes no num_classes"),
        ("def build(:\n", "build", "is not Python"),
    ],
)
def test_what_cannot_be_a_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, function: str, told: str
) -> None:
    write(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"--model nets\.py") as caught:
        read_own_model(f"nets.py:{function}", where="--model")
    assert told in str(caught.value)
    with pytest.raises(InputError, match=r"cannot be read"):
        read_own_model(f"nowhere.py:{function}", where="--model")


def test_a_network_whose_file_name_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="the name is not UTF-8; rename the file"):
        read_own_model(os.fsdecode(b"caf\xe9.py:build"), where="--model")


def test_a_spec_names_a_preset_or_a_file_with_its_digest() -> None:
    with pytest.raises(ValueError, match="must be one of veernet, veernet-tiny"):
        factory.training_spec(model="resnet")
    with pytest.raises(ValueError, match="must be one of"):
        factory.training_spec(model="veernet", model_id="0123456789ab")
    spec = own_spec(SHIPPED, "build")
    assert TrialSpec.from_dict(json.loads(json.dumps(spec.canonical()))) == spec


def test_the_network_is_made_with_the_levers_that_it_takes() -> None:
    plain = build_network(own_spec(SHIPPED, "build"))
    checkpointed = build_network(own_spec(SHIPPED, "build", checkpointing="stages"))
    assert not plain.is_checkpointed
    assert checkpointed.is_checkpointed
    assert plain(torch.zeros(2, 1, 64, 96)).shape == (2, 3, 64, 96)


def test_the_parts_of_a_network_are_those_that_are_called() -> None:
    assert list(parts_of(build_network(own_spec(SHIPPED, "build")))) == [
        "down.0",
        "down.1",
        "down.2",
        "up.0",
        "up.1",
        "head",
    ]
    assert list(parts_of(build_network(factory.training_spec())))[:2] == ["stem", "encoder 1"]


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    spec = own_spec(write(tmp_path, "def build(*, num_classes): return nn.Conv2d(1, num_classes, 1)\n"), "build")
    assert isinstance(build_network(spec), nn.Conv2d)
    write(tmp_path, "def build(*, num_classes): return nn.Conv2d(1, num_classes, 3)\n")
    with pytest.raises(ModelError, match="changed since the trial was planned"):
        build_network(spec)


@pytest.mark.parametrize("levers", [{}, {"checkpointing": "stages"}, {"precision": "bf16"}, {"batch_size": 4}])
def test_a_network_with_batch_norm_is_held_against_itself_pass_by_pass(levers: dict[str, Any]) -> None:
    spec = own_spec(SHIPPED, "build", **({"batch_size": 2} | levers))
    assert mixes_examples(build_network(spec))
    reading = check_equality(spec)
    assert reading.is_equal, reading


def test_dropout_does_not_make_a_right_network_wrong(tmp_path: Path) -> None:
    text = """
def build(*, num_classes):
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(8, num_classes, 1))
"""
    assert check_equality(own_spec(write(tmp_path, text), "build", batch_size=2)).is_equal


def test_the_largest_tensor_of_an_own_network_is_found() -> None:
    # 16 channels from below and 8 that were skipped, at full resolution.
    spec = own_spec(SHIPPED, "build")
    assert largest_tensor(spec, num_examples=16, height=640, width=12_800) == 16 * 24 * 640 * 12_800


def test_looking_for_the_largest_tensor_leaves_the_tensors_of_a_file_as_they_are(tmp_path: Path) -> None:
    text = """
SCALE = torch.full((1,), 2.0)


class Scaled(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * SCALE


def build(*, num_classes):
    return Scaled(1, num_classes, 3, padding=1)
"""
    spec = own_spec(write(tmp_path, text), "build")
    assert largest_tensor(spec, num_examples=2, height=64, width=96) == 2 * 3 * 64 * 96
    assert build_network(spec)(torch.zeros(1, 1, 64, 64)).isfinite().all()


def test_the_largest_tensor_of_a_network_that_looks_at_its_numbers_grows_with_the_pixels(tmp_path: Path) -> None:
    text = """
class Looking(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * (2.0 if float(x.sum()) > 0 else 1.0)

def build(*, num_classes):
    return Looking(1, 7 * num_classes, 1)
"""
    spec = own_spec(write(tmp_path, text), "build")
    assert largest_tensor(spec, num_examples=4, height=96, width=160) == 4 * 21 * 96 * 160


@pytest.mark.parametrize(
    ("body", "padding", "told"),
    [
        ("return nn.Conv2d(1, num_classes, 1)", "plain", None),
        ("return nn.Conv2d(1, 7, 1)", "plain", "it returned shape (2, 7, 64, 96), not logits of shape (2, 3, 64, 96)"),
        ("return nn.Conv2d(1, num_classes, 1, stride=2)", "plain", "it returned shape (2, 3, 32, 48)"),
        ("return num_classes", "plain", "returned int, not a torch.nn.Module"),
        ("raise RuntimeError('no weights')", "plain", "RuntimeError: no weights"),
        ("return nn.Identity()", "plain", "no trainable parameter"),
        ("return nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, num_classes, 1))", "exact", "first at 0 (BatchNorm2d)"),
        ("return nn.Conv2d(1, num_classes, 1)", "exact", "does not need it"),
    ],
)
def test_a_network_is_tried_before_anything_is_measured(
    tmp_path: Path, body: str, padding: str, told: str | None
) -> None:
    path = write(tmp_path, f"def build(*, num_classes):\n    {body}\n")
    answer = json.loads(run(json.dumps(own_spec(path, "build", padding=padding).canonical())))
    if told is None:
        assert answer["problem"] is None
    else:
        assert told in answer["problem"]


LOOKING = """
class Looking(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * (2.0 if float(x.sum()) > 0 else 1.0)

def build(*, num_classes):
    return Looking(1, num_classes, 1)
"""

SELECTING = """
class Selecting(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + x[{index}].sum()

def build(*, num_classes):
    return Selecting(1, num_classes, 1)
"""

UNUSED = """
def build(*, num_classes):
    network = nn.Conv2d(1, num_classes, 1)
    network.idle = nn.Linear(2, 2)
    return network
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def build(*, num_classes):\n    return nn.Conv2d(1, num_classes, 1)\n", None),
        (LOOKING, "the network reads a value from a map (aten._local_scalar_dense.default), which a CUDA graph"),
        (SELECTING.format(index="x > 0"), "the network indexes by a mask (aten.index.Tensor), which a CUDA graph"),
        (SELECTING.format(index="torch.zeros(1, dtype=torch.int64)"), None),
        (UNUSED, "no gradient reaches idle.weight, and a CUDA graph needs the gradient of every parameter"),
    ],
)
def test_a_network_that_no_cuda_graph_can_hold_is_refused_where_one_is_asked_for(
    tmp_path: Path, text: str, told: str | None
) -> None:
    path = write(tmp_path, text)
    plain, graphed = (
        json.loads(run(json.dumps(own_spec(path, "build", cuda_graphs=cuda_graphs).canonical())))["problem"]
        for cuda_graphs in ("off", "on")
    )
    assert plain is None
    if told is None:
        assert graphed is None
    else:
        assert told in graphed


def test_norms_of_an_own_network_are_not_called_ours() -> None:
    names = ("model", "norm_precision", "norm_groups")
    assert "norm" not in describe(own_spec(SHIPPED, "build"), names=names).partition(":build")[2]
    assert "norm in fp32" in describe(factory.training_spec(), names=names)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--padding", "plain,exact"], "first at down.0.1 (BatchNorm2d)"),
        (
            ["--checkpointing", "none,selective"],
            "--checkpointing selective: own_network.py:21, in build: ValueError: checkpointing 'selective': this",
        ),
        (["--norm-kernel", "split"], "takes no norm_kernel; leave --norm-kernel out"),
        (["--norm-precision", "input"], "takes no norm_precision; leave --norm-precision out"),
    ],
)
def test_the_command_line_refuses_a_lever_that_the_network_does_not_have(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(SHIPPED.parents[1])
    sizes = ["--widths", "320:1280", "--heights", "48:64"]
    code = cli_run(["sweep", *sizes, "--model", "benchmarks/own_network.py:build", "--dry-run", *options])
    assert code == 2
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.processes
def test_a_network_that_does_not_run_is_refused_without_options_that_nobody_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad_net.py").write_text(
        "import torch\n\n\ndef build(*, num_classes):\n    return torch.nn.Conv2d(1, 7, 1)\n"
    )
    sizes = ["--widths", "320:1280", "--heights", "48:64"]
    assert cli_run(["sweep", *sizes, "--model", "bad_net.py:build", "--dry-run", "--device", "cpu"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "--model bad_net.py:build: for images of shape (2, 1, 64, 96) it returned shape (2, 7, 64, 96)" in told
