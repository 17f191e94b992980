"""What a sweep takes for each option that nobody gave, by device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vnbench.records.spec import DEFAULT_PREFETCH_FACTOR, DeviceType

COMMON_DEFAULTS: Mapping[str, str] = {
    "micro-batch-size": "same",
    "norm-precision": "fp32,input",
    "checkpointing": "none,stages",
    "sampler": "bucketed,random",
    "shapes": "any",
    "shape-visits": "auto",
    "soak": "none",
    "memory-by": "step",
    "heights": "480:640",
    "size-law": "uniform",
    "task": "multiclass",
    "norm-groups": "half-or-16",
    "memory-format": "contiguous",
    "compile": "none",
    "cudnn-benchmark": "off",
    "allocator": "native",
    "optimizer": "fused",
    "padding": "plain",
    "norm-kernel": "native",
    "cuda-graphs": "off",
    "worker-kind": "processes",
    "prefetch-factor": str(DEFAULT_PREFETCH_FACTOR),
    "pin-memory": "on",
    "persistent-workers": "on",
    "cache": "none",
    "cache-limit": "4GiB",
    "image-format": "png",
    "design": "one-at-a-time",
    "kind": "memory,training",
    "noise-target": "1%",
    "compute-sizes": "9",
    "replicates": "1",
    "max-attempts": "3",
    "seed": "0",
    "worker-timeout": "2m",
    "trial-timeout": "10m",
}

DEVICE_DEFAULTS: Mapping[DeviceType, Mapping[str, str]] = {
    "cuda": {
        "model": "veernet",
        "batch-size": "1,2,4,8,16",
        "precision": "bf16,fp32,tf32,fp16",
        "num-workers": "0,2,4,8",
        "examples": "240",
        "subset": "128",
        "warm-up-steps": "3",
        "min-steps": "10",
        "max-steps": "200",
        "max-epochs": "4",
        "measuring-time": "15s",
    },
    # On two cores an example of 640 x 12,800 px takes seconds a step: one lever at a time, a handful of examples, and
    # an end in under five minutes.
    "cpu": {
        "model": "veernet-tiny",
        "batch-size": "1,2",
        "precision": "bf16,fp32",
        "num-workers": "0,2",
        "examples": "60",
        "subset": "6",
        "warm-up-steps": "1",
        "min-steps": "3",
        "max-steps": "30",
        "max-epochs": "1",
        "measuring-time": "10s",
        "time-budget": "270s",
    },
}
"""Defaults that depend on the device. The first value of an axis is its value at the centre of the design."""

CENTER_DEFAULTS: Mapping[DeviceType, Mapping[str, Any]] = {
    "cuda": {"batch-size": 4, "num-workers": 4},
    "cpu": {},
}
"""Centre values that are not the first of their axis, taken where the axis holds them."""


def default_out(environment: Mapping[str, Any], *, corpus_id: str) -> Path:
    """Return the results file of a corpus on the device that ``environment`` describes."""
    return results_folder(environment) / f"sweep-{corpus_id}.jsonl"


def results_folder(environment: Mapping[str, Any]) -> Path:
    """Return ``results/<device>`` for the device that ``environment`` describes."""
    name = f"cpu {environment['device_name']}" if environment["device_type"] == "cpu" else environment["device_name"]
    slug = "".join(character if character.isalnum() else " " for character in name.lower())
    return Path("results") / "-".join(slug.split())
