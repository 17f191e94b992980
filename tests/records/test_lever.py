"""A lever is one entry: a tree to which one is added, and what follows from it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import vnbench
from vnbench.errors import InputError
from vnbench.records.spec import AXES, COMPUTING_LEVERS, LEVERS, LOADING_LEVERS, Levers, TrialSpec

ENTRY = '''    scratch: Annotated[
        Literal["off", "on"],
        Lever(
            header="scratch",
            phrased="scratch {}",
            help="Whether maps are kept in scratch memory",
            part="computing",
            is_switch=True,
        ),
    ] = "off"
    """Whether maps are kept in scratch memory."""
'''
"""A switch of torch, as somebody would add one."""

BEFORE = "    worker_kind: Annotated["

SCRIPT = """
import json

from vnbench.cli.app import run
from vnbench.output.words.levers import describe, varying
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.cells import candidate_cells
from vnbench.sweep.design import training_spec

environment = {"device_type": "cpu", "num_cpus": 2}
flags = {"widths": "64:256", "scratch": "off,on", "precision": "fp32", "batch-size": "1", "num-workers": "0"}
flags |= {"checkpointing": "none", "sampler": "random", "norm-precision": "fp32"}
config = complete(read_request(flags, config_path=None), environment=environment)
cells = candidate_cells(config)
specs = [training_spec(cell, config, "corpus", (32, 256)) for cell in cells]
told = {
    "cells": [str(cell) for cell in cells],
    "families": [spec.family for spec in specs],
    "ids": [spec.spec_id for spec in specs],
    "varying": varying(specs),
    "phrases": [describe(spec, names=["scratch"]) for spec in specs],
}
print(json.dumps(told))
run(["sweep", "--help"])
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], str]:
    """Return what a tree with one lever more says of it, and the help of its sweep."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(Path(vnbench.__file__).parent, tree / "vnbench", ignore=shutil.ignore_patterns("__pycache__"))
    spec = tree / "vnbench/records/spec.py"
    text = spec.read_text()
    assert text.count(BEFORE) == 1
    spec.write_text(text.replace(BEFORE, ENTRY + BEFORE))
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition("\n")
    return json.loads(first), rest


@pytest.mark.processes
def test_a_lever_is_added_by_one_entry(told: tuple[dict[str, list[str]], str]) -> None:
    said, help_text = told
    assert ["scratch" in cell for cell in said["cells"]] == [False, True]
    assert ["scratch-on" in family for family in said["families"]] == [False, True]
    assert said["varying"] == ["scratch"]
    assert said["phrases"] == ["scratch off", "scratch on"]
    assert "--scratch NAME,..." in help_text
    assert "Whether maps are kept in scratch memory: off, on. [off]" in " ".join(help_text.split())


def test_every_field_of_levers_is_an_axis_with_words_for_people() -> None:
    assert list(AXES) == [field.name for field in fields(Levers)]
    for lever in AXES.values():
        assert lever.header
        assert "{}" in lever.phrased
        assert all(lever.swept_on(device) for device in ("cpu", "cuda"))
        assert lever.parse(lever.swept_on("cuda"), f"--{lever.option}")


def test_a_default_of_a_switch_is_quiet_and_of_the_field() -> None:
    for lever in LEVERS.values():
        if lever.is_switch:
            assert lever.quiet == lever.default == TrialSpec.__dataclass_fields__[lever.name].default


def test_parts_share_no_lever() -> None:
    assert not {*COMPUTING_LEVERS} & {*LOADING_LEVERS}


def test_a_value_that_a_lever_does_not_take_is_refused_by_its_option() -> None:
    with pytest.raises(InputError, match="--norm-kernel fast: must be one of native, split"):
        LEVERS["norm_kernel"].parse("fast", "--norm-kernel")
