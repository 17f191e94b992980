"""What adding a lever, a precision, a sampler and the like takes: a copy of the tree with one of each more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import vnbench

pytestmark = pytest.mark.processes

LEVER = '''    scratch: Annotated[
        OnOff,
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

PRECISION = """    "bf16s": Arithmetic(
        autocast="bfloat16",
        scales_loss=True,
        significant_bits=8,
        capability=(9, 0),
        swept_on=frozenset({"cuda", "cpu"}),
    ),
"""

SAMPLER = '''def sample_by_rows(canvases_N2: SizeArray, config: PlanConfig, rng: np.random.Generator) -> Grouping:
    """Return the examples as they lie in the manifest."""
    return _in_steps(
        np.arange(len(canvases_N2)),
        config.batch_size,
        lambda order_SB: cut_consecutively(order_SB, length=config.micro_batch_size),
    )


'''

METRIC = """    "steps": Compared(unit="steps", read=lambda record: record.block.num_steps if record.block else None),
"""

TABLE = """def causes_view(latest: Sequence[TrialRecord]) -> View[TrialRecord]:
    return View(latest, (_at("trial_id"), _at("status"), _at("elapsed_s", float)))


"""

EDITS = {
    "records/spec/levers.py": {"    worker_kind: Annotated[": LEVER},
    "records/spec/words.py": {'"pixel-budget", "sorted"]': '"by-rows", ', '"fp16"]': '"bf16s", '},
    "records/spec/precisions.py": {'    "fp16": Arithmetic(': PRECISION},
    "batching/samplers.py": {
        "SAMPLERS: Mapping": SAMPLER,
        '    "random": sample_random,': '    "by-rows": sample_by_rows,\n',
    },
    "records/readings.py": {'    "operators",  #': '    "steps",\n'},
    "analysis/comparison/metrics.py": {'    "operators": Compared(': METRIC},
    "output/tables/tidy.py": {"TABLES: Mapping": TABLE, '    "steps": steps_view,': '    "causes": causes_view,\n'},
}
"""Before what stands what, by file."""

SCRIPT = """
import contextlib, io, json

import vnbench.frames

from record_factory import cuda_sweep
from vnbench.analysis.comparison.compare import compare
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.analysis.comparison.sides import side_of
from vnbench.cli.app import run
from vnbench.output.words.levers import describe, varying
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.cells import candidate_cells
from vnbench.sweep.design import training_spec


def said(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run(arguments) == 0
    return out.getvalue()


RESULTS = "results.jsonl"
with open(RESULTS, "w", encoding="utf-8") as file:
    file.writelines(record.to_json() + "\\n" for record in cuda_sweep())
flags = {"widths": "64:256", "precision": "fp32", "batch-size": "2", "num-workers": "0", "checkpointing": "none"}
flags |= {"norm-precision": "fp32", "sampler": "by-rows,random", "scratch": "off,on"}
config = complete(read_request(flags, config_path=None), environment={"device_type": "cpu", "num_cpus": 2})
cells = candidate_cells(config)
specs = [training_spec(cell, config, "corpus", (32, 256)) for cell in cells]
side = side_of([record for record in cuda_sweep() if record.kind == "training"][:1])
sizes = ("--widths", "64:256", "--examples", "40", "--batch-size", "4", "--micro-batch-size", "2")
print(json.dumps({
    "cells": [str(cell) for cell in cells],
    "families": [spec.family for spec in specs],
    "varying": varying(specs),
    "phrases": [describe(spec, names=["scratch", "sampler"]) for spec in specs],
    "help": " ".join(said("sweep", "--help-all").split()),
    "account": json.loads(said("batching", "--sampler", "by-rows", *sizes, "--json")),
    "metrics": [row.metric for row in compare(side, side, tolerances=Tolerances()).rows],
    "gate help": " ".join(said("gate", "--help").split()),
    "tables": {name: said("export", RESULTS, "--what", "causes", "--format", name) for name in ("csv", "json")},
    "columns": list(vnbench.frames.load(RESULTS, "causes").columns),
}))
"""

OF_A_PRECISION = """
import json

import record_factory as factory
import torch

from vnbench.output.environment import environment_lines
from vnbench.output.plots.looks import looks_of
from vnbench.records.spec.axes import AXES
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.cells import candidate_cells, reason_to_leave_out
from vnbench.trial.checks.equality import check_equality
from vnbench.trial.instruments.environment import describe_environment
from vnbench.trial.kinds.probe import convolution_times
from vnbench.trial.step.optimizer_step import build_step

spec = factory.compute_spec(precision="bf16s", norm_precision="input")
step = build_step(spec, device=torch.device("cpu"))
flags = {"widths": "64:256", "precision": "bf16s", "batch-size": "2", "norm-precision": "fp32,input"}
config = complete(read_request(flags, config_path=None), environment={"device_type": "cpu", "num_cpus": 2})
cells = candidate_cells(config)
cuda = {"device_type": "cuda", "native_precisions": [name for name, one in PRECISIONS.items() if one.has_units((8, 0))]}
print(json.dumps({
    "equality": check_equality(spec).is_equal,
    "loss scale": step.loss_scale,
    "convolution_s": json.loads(convolution_times('{"device": "cpu", "precisions": ["fp32", "bf16s"]}')),
    "native": describe_environment("cpu")["native_precisions"],
    "norms": sorted({one.norm_precision for one in cells if reason_to_leave_out(one, config, num_measured=8) is None}),
    "lines": list(environment_lines(cuda, activity={"host": None, "device": None}, disturbances=[])),
    "swept": [AXES["precision"].swept_on(device) for device in ("cuda", "cpu")],
    "colours": [look.colour for look in looks_of(PRECISIONS).values()],
}))
"""


def run_in(tree: Path, script: str) -> Mapping[str, Any]:
    """Return what a script prints beside a tree, as JSON."""
    done = subprocess.run([sys.executable, "-c", script], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: Mapping[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tree that has one of each more."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copytree(
        Path(vnbench.__file__).parent, tree / "vnbench", ignore=shutil.ignore_patterns("__pycache__", "shipped")
    )
    shutil.copy(Path(__file__).with_name("record_factory.py"), tree)
    for name, edits in EDITS.items():
        path = tree / "vnbench" / name
        text = path.read_text()
        for place, added in edits.items():
            assert text.count(place) == 1, (name, place)
            text = text.replace(place, added + place)
        path.write_text(text)
    return tree


@pytest.fixture(scope="module")
def told(tree: Path) -> Mapping[str, Any]:
    return run_in(tree, SCRIPT)


def test_a_lever_is_one_entry(told: Mapping[str, Any]) -> None:
    assert sum("scratch on" in cell for cell in told["cells"]) == 1
    assert sum("scratch-on" in family for family in told["families"]) == 1
    assert "scratch" in told["varying"]
    assert any("scratch on" in phrase for phrase in told["phrases"])
    assert "--scratch NAME,... Whether maps are kept in scratch memory: off, on. [off]" in told["help"]


def test_a_precision_is_a_word_and_one_entry(tree: Path) -> None:
    told = run_in(tree, OF_A_PRECISION)
    assert told["equality"]
    assert told["loss scale"] > 1, "its loss is scaled"
    assert told["convolution_s"].keys() == {"fp32", "bf16s"}
    assert "bf16s" in told["native"]
    assert told["norms"] == ["fp32", "input"], "the norm's precision is a lever under it"
    assert "bf16s is emulated here: far slower than fp32" in told["lines"]
    assert told["swept"] == ["bf16,fp32,tf32,bf16s,fp16", "bf16,fp32,bf16s"]
    assert len(set(told["colours"])) == 5


def test_a_sampler_is_a_function_with_its_name_and_the_word(told: Mapping[str, Any]) -> None:
    assert "by-rows sampler" in told["phrases"][0]
    assert told["account"]["sampler"] == "by-rows"
    assert told["account"]["num_steps"] == 10
    assert "bucketed, by-rows, pixel-budget" in told["help"]


def test_a_metric_is_one_entry_and_the_word(told: Mapping[str, Any]) -> None:
    assert "steps" in told["metrics"]
    assert "shapes, steps, operators" in told["gate help"]


def test_a_table_is_its_rows_and_columns_and_one_entry(told: Mapping[str, Any]) -> None:
    assert told["tables"]["csv"].splitlines()[0] == "trial_id,status,elapsed_s"
    rows = json.loads(told["tables"]["json"])
    assert {row["status"] for row in rows} == {"ok", "oom", "skipped"}
    assert told["columns"] == ["trial_id", "status", "elapsed_s"]
