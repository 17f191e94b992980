"""The cases that run on fake CUDA tensors, in groups: one process each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import record_factory as factory
from fake_cuda.runner import ROOT, Case

from vnbench.images.corpus import Corpus
from vnbench.records.spec.trial_spec import ProbeSpec, TrialSpec
from vnbench.records.step_trace import TraceOrder
from vnbench.records.task import TrialTask
from vnbench.request.own_model import read_own_model

TRIAL = "vnbench.trial.entry:run"
STEP = "fake_cuda.entries:timed_step"

CANVASES = ((64, 96), (64, 64))

LEVERS: Mapping[str, Mapping[str, Any]] = {
    "tf32, channels-last": {"precision": "tf32", "memory_format": "channels-last"},
    "bf16, norm in bf16, stages": {"precision": "bf16", "norm_precision": "input", "checkpointing": "stages"},
    "bf16, exact": {"precision": "bf16", "padding": "exact"},
    "bf16, norm in bf16, exact, stages, channels-last": {
        "precision": "bf16",
        "norm_precision": "input",
        "padding": "exact",
        "checkpointing": "stages",
        "memory_format": "channels-last",
    },
    "fp16, stages, foreach": {"precision": "fp16", "checkpointing": "stages", "optimizer": "foreach"},
    "fp16, norm in fp16, for-loop": {"precision": "fp16", "norm_precision": "input", "optimizer": "for-loop"},
    "fp32, exact, foreach, 16 groups": {"padding": "exact", "optimizer": "foreach", "norm_groups": "16"},
    "fp32, for-loop, binary, stages": {"optimizer": "for-loop", "task": "binary", "checkpointing": "stages"},
    "bf16, split norm in bf16, channels-last": {
        "precision": "bf16",
        "norm_precision": "input",
        "norm_kernel": "split",
        "memory_format": "channels-last",
    },
    "fp16, split norm, selective": {"precision": "fp16", "norm_kernel": "split", "checkpointing": "selective"},
    "fp32, split norm, exact, stages": {"norm_kernel": "split", "padding": "exact", "checkpointing": "stages"},
    "bf16, norm in bf16, selective, exact": {
        "precision": "bf16",
        "norm_precision": "input",
        "checkpointing": "selective",
        "padding": "exact",
    },
    "bf16, stages, CUDA graphs": {"precision": "bf16", "checkpointing": "stages", "cuda_graphs": "on"},
    "fp16, split norm, exact, CUDA graphs": {
        "precision": "fp16",
        "norm_kernel": "split",
        "padding": "exact",
        "cuda_graphs": "on",
    },
    "bf16, expandable segments, cuDNN's benchmark, a limit": {
        "precision": "bf16",
        "allocator": "expandable-segments",
        "cudnn_benchmark": "on",
        "memory_limit_bytes": 2**30,
    },
}
"""Configurations of a step; each lever stands in one of them at least."""


def _case(name: str, entry: str, spec: TrialSpec, *, directory: str | None = None, fault: str | None = None) -> Case:
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=directory)
    return Case(name=name, entry=entry, payload=task.to_json(), fault=fault)


def compute(**changes: Any) -> TrialSpec:
    """Return the spec of a compute trial of as few steps as there can be."""
    few = {"canvas_sizes": CANVASES, "num_warm_up_steps": 1, "min_steps": 1, "max_steps": 1}
    return factory.compute_spec(device="cuda", **(few | changes))


def training(**changes: Any) -> TrialSpec:
    """Return the spec of a training trial of as few steps as there can be."""
    return factory.training_spec(device="cuda", subset_size=2, num_warm_up_steps=1, **changes)


def memory(training: TrialSpec) -> TrialSpec:
    """Return the spec of the memory trial of a training's family."""
    return factory.memory_spec(training, height=64, width=96)


def _probe() -> TrialSpec:
    return ProbeSpec(
        device="cuda",
        model="veernet-tiny",
        task="multiclass",
        batch_size=1,
        micro_batch_size=1,
        precision="fp32",
        norm_precision="fp32",
        checkpointing="none",
        seed=0,
        canvas_sizes=CANVASES,
        max_measuring_s=60.0,
        precisions=("fp32", "bf16"),
        sweep_id="0123456789ab",
    )


def steps() -> Sequence[Case]:
    """Return a step of each configuration, accumulated over two passes."""
    return [_case(name, STEP, compute(batch_size=4, micro_batch_size=2, **levers)) for name, levers in LEVERS.items()]


NETWORKS = (f"{ROOT}/tests/many_layers.py:build", f"{ROOT}/benchmarks/own_network.py:build")
"""Networks of one's own whose steps are traced."""

UNTRACED = ("cuda_graphs", "allocator", "cudnn_benchmark", "memory_limit_bytes")
"""Levers that no operator sees, or that a trace leaves out and says so."""


def orders() -> Mapping[str, TraceOrder]:
    """Return the steps that are traced, and run on fake CUDA tensors."""
    levers = {name: {key: one for key, one in of.items() if key not in UNTRACED} for name, of in LEVERS.items()}
    for network in NETWORKS:
        own = read_own_model(network, where="--model")
        for precision in ("fp32", "bf16", "fp16"):
            levers[f"{own.path.name}, {precision}"] = {
                "precision": precision,
                "memory_format": "channels-last" if precision == "bf16" else "contiguous",
                "model": own.name,
                "model_id": own.model_id,
            }
    return {name: _order(**of) for name, of in levers.items()}


def _order(**levers: Any) -> TraceOrder:
    trained = factory.training_spec(device="cuda", batch_size=2, **levers)
    spec = dataclasses.replace(memory(trained), batch_size=4, norm_groups=trained.norm_groups)
    return TraceOrder(spec=spec, capability=(9, 0))


def traced() -> Sequence[Case]:
    """Return the steps whose operators and memory a trace has to tell."""
    entry = "fake_cuda.entries:recorded_steps"
    return [Case(name=name, entry=entry, payload=order.to_json()) for name, order in orders().items()]


def trials() -> Sequence[Case]:
    """Return the trials that read no files."""
    soaked = dataclasses.replace(
        memory(training(precision="bf16")), sampler="bucketed", soak="sampler-order", soak_passes=((2, 64, 64),)
    )
    own = read_own_model(f"{ROOT}/benchmarks/own_network.py:build", where="--model")
    return [
        _case("a network of one's own", TRIAL, compute(precision="bf16", model=own.name, model_id=own.model_id)),
        _case("compute", TRIAL, compute(precision="bf16", norm_precision="input", max_steps=2, micro_batch_size=2)),
        _case("memory", TRIAL, memory(training())),
        _case("memory, CUDA graphs", TRIAL, memory(training(cuda_graphs="on"))),
        _case("memory after a soak", TRIAL, soaked),
        _case("probe", TRIAL, _probe()),
    ]


def trials_on_files(corpus: Corpus) -> Sequence[Case]:
    """Return the trials that read the files of a corpus."""
    directory, corpus_id = str(corpus.directory), corpus.corpus_id
    fed = training(batch_size=2, micro_batch_size=1, precision="fp16", corpus_id=corpus_id, num_workers=0)
    loader = factory.loader_spec(device="cuda", batch_size=2, subset_size=4, max_epochs=1, corpus_id=corpus_id)
    cached = dataclasses.replace(loader, cache="memory", cache_limit_bytes=2**20)
    return [
        _case("training", TRIAL, fed, directory=directory),
        _case(
            "training, workers",
            TRIAL,
            dataclasses.replace(fed, precision="bf16", num_workers=1, persistent_workers="off"),
            directory=directory,
        ),
        _case("loader", TRIAL, loader, directory=directory),
        _case("loader, workers", TRIAL, dataclasses.replace(loader, num_workers=1), directory=directory),
        _case(
            "loader, threads",
            TRIAL,
            dataclasses.replace(cached, num_workers=1, worker_kind="threads", persistent_workers="off"),
            directory=directory,
        ),
    ]


def checks(directory: str) -> Sequence[Case]:
    """Return what a step is held against, a profile, and what is asked of a device before a sweep."""
    large = factory.training_spec(device="cuda", model="veernet", batch_size=6, precision="bf16")
    profile = "vnbench.trial.kinds.profile:run"
    asked = {"device": "cuda", "precisions": ["fp32", "tf32", "bf16", "fp16"]}
    return [
        _case("equality", "fake_cuda.entries:equality", compute(precision="fp16", checkpointing="stages")),
        _case("large tensors", "fake_cuda.entries:large_tensors", large),
        _case("profile", profile, memory(training(precision="bf16")), directory=directory),
        _case("profile, no memory", profile, memory(training()), directory=directory, fault="no memory"),
        _case("memory, no memory", TRIAL, memory(training()), fault="no memory"),
        Case(name="environment", entry="vnbench.trial.instruments.environment:probe", payload="auto"),
        Case(name="convolutions", entry="vnbench.trial.kinds.probe:convolution_times", payload=json.dumps(asked)),
    ]


def planted() -> Sequence[Case]:
    """Return faults that a CPU does not notice, each in what would meet it."""
    mixed = compute(precision="bf16", norm_precision="input")
    return [
        _case("scalar on cpu", "fake_cuda.entries:equality", mixed, fault="scalar on cpu"),
        _case("mask on cpu", STEP, compute(padding="exact"), fault="mask on cpu"),
        _case("wide constant", STEP, mixed, fault="wide constant"),
        *(
            _case(fault, STEP, mixed, fault=fault)
            for fault in (
                "read in a block",
                "copy to the host in a block",
                "constant from the host in a block",
                "waiting in a block",
            )
        ),
        *(
            _case(fault, STEP, dataclasses.replace(mixed, cuda_graphs="on"), fault=fault)
            for fault in ("constant from the host in a graph", "read in a graph")
        ),
    ]


TRACED = ("steps", "trials", "on files", "checks")
"""Groups whose lines are counted: the code as it is."""
