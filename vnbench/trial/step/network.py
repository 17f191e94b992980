"""Construction of a spec's network, a preset or a user's own."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

from torch import nn

from vnbench.errors import ModelError
from vnbench.model.veernet import build_model
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import ALIGNMENT, ModelName
from vnbench.request.own_model import read_own_model

SMALLEST_SIDE = 2 * ALIGNMENT
"""Side in pixels of the smallest canvas for a network: at 1/32, a map still has more than one value per channel, which
BatchNorm needs to train on one example."""


def build_network(spec: TrialSpec) -> nn.Module:
    """Return the network of a spec on the CPU in fp32, with weights from torch's global generator.

    Raises:
        ModelError: a user's file changed since the trial was planned, or does not return a network.
    """
    if spec.model_id is not None:
        return _own_network(spec)
    return build_model(
        cast(ModelName, spec.model),
        num_classes=spec.num_classes,
        norm_groups=spec.norm_groups,
        norm_precision=spec.norm_precision,
        checkpointing=spec.checkpointing,
        padding=spec.padding,
        norm_kernel=spec.norm_kernel,
    )


def _own_network(spec: TrialSpec) -> nn.Module:
    own = read_own_model(spec.model, where="--model")
    if own.model_id != spec.model_id:
        raise ModelError(f"{own.path} changed since the trial was planned; start the sweep again")
    factory = getattr(module_in(own.path.resolve()), own.function)
    network = factory(num_classes=spec.num_classes, **{lever: getattr(spec, lever) for lever in own.levers})
    if not isinstance(network, nn.Module):
        raise ModelError(f"{own.name} returned {type(network).__name__}, not a torch.nn.Module")
    return network


def takes_mask(spec: TrialSpec) -> bool:
    """Return whether the network of a spec takes the masks of valid pixels besides the images."""
    if spec.padding == "plain":
        return False
    return spec.model_id is None or "padding" in read_own_model(spec.model, where="--model").levers


@cache
def module_in(path: Path) -> ModuleType:
    """Return the module in a file. It runs once per process and can import its neighbours, as a script can."""
    sys.path.insert(0, str(path.parent))
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules.setdefault(path.stem, module)
    found.loader.exec_module(module)
    return module


def parts_of(network: nn.Module) -> dict[str, nn.Module]:
    """Return the sequential parts of a network by name: its stages or, if it has none, its children.

    A list of modules is never called, so its modules are parts instead.
    """
    stages = getattr(network, "stages", None)
    if isinstance(stages, dict):
        return stages
    parts: dict[str, nn.Module] = {}
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            parts |= {f"{name}.{inner}": part for inner, part in parts_of(child).items()}
        else:
            parts[name] = child
    return parts


def mixes_examples(network: nn.Module) -> bool:
    """Return whether the output for an example depends on the others in its pass, as with BatchNorm."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def without_dropout(network: nn.Module) -> nn.Module:
    """Return the network with dropout off, so that computations can be compared."""
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return network
