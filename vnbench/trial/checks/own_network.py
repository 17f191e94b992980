"""Whether a user's own network can be trained, and is exact where that is asked of it, in a process of its own."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vnbench.errors import ModelError, VnbenchError
from vnbench.records.failures import summary_line
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.checks.exactness import find_leak
from vnbench.trial.step.network import SMALLEST_SIDE, build_network, takes_mask, without_dropout

CANVAS = (SMALLEST_SIDE, SMALLEST_SIDE + 32)
"""Height and width in pixels."""

aten = torch.ops.aten

WAITING = {
    aten._local_scalar_dense.default: "reads a number from a map",
    aten.nonzero.default: "asks where a map is not zero",
    aten.masked_select.default: "selects by a mask",
    aten.index.Tensor: "indexes by a mask",
    aten.equal.default: "asks whether maps are equal",
}
"""Operators whose results have a size or a value that the host waits for, which nothing that is captured may do."""


def run(payload: str) -> str:
    """Return ``{"problem": text or null, "remedy": text or null}`` (JSON) for a TrialSpec (JSON)."""
    spec = TrialSpec.from_dict(json.loads(payload))
    remedy = "mend the network"
    try:
        problem = _problem(spec)
        if problem is None and spec.cuda_graphs == "on":
            problem, remedy = _why_not_captured(spec), "mend the network, or leave --cuda-graphs out"
        if problem is None and spec.padding == "exact":
            problem, remedy = _inexactness(spec)
    except VnbenchError as error:
        problem = str(error)
    except Exception as error:  # whatever the user's code raises is told, not shown as a traceback
        problem = _place(error, spec) + summary_line(error)
    return json.dumps({"problem": problem, "remedy": remedy})


def _place(error: Exception, spec: TrialSpec) -> str:
    """Return the last line of the user's own code that an error came through, nothing where it came through none."""
    folder = Path(spec.model.rpartition(":")[0]).resolve().parent
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == folder]
    return f"{Path(lines[-1].filename).name}:{lines[-1].lineno}, in {lines[-1].name}: " if lines else ""


def _problem(spec: TrialSpec) -> str | None:
    """Return what is wrong with a network's logits or gradient; None if nothing is."""
    torch.manual_seed(spec.seed)
    network = build_network(spec).train()
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return "the network has no parameter to train"
    logits = _logits(network, spec)
    expected = (2, spec.num_classes, *CANVAS)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        return f"for images of shape {(2, 1, *CANVAS)} it returned {got}, not logits of shape {expected}"
    logits.sum().backward()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    return None


def _logits(network: nn.Module, spec: TrialSpec) -> Any:
    masks = [torch.ones(2, *CANVAS, dtype=torch.bool)] if takes_mask(spec) else []
    return network(torch.rand(2, 1, *CANVAS), *masks)


class _NothingWaits(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Refuses what the host would wait for."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        # An index of numbers says how much it takes; a mask has to be counted.
        is_counted = func is not aten.index.Tensor or any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if func in WAITING and is_counted:
            raise ModelError(f"the network {WAITING[func]} ({func}), which a CUDA graph cannot hold")
        return func(*args, **(kwargs or {}))


def _why_not_captured(spec: TrialSpec) -> str | None:
    """Return why no CUDA graph can be made of a network's passes, as far as the CPU tells; None where one can."""
    network = build_network(spec).train()
    with _NothingWaits():  # type: ignore[no-untyped-call]
        logits = _logits(network, spec)
    logits.sum().backward()
    unused = [name for name, one in network.named_parameters() if one.requires_grad and one.grad is None]
    return f"no gradient reaches {unused[0]}, and a CUDA graph needs that of each parameter" if unused else None


def _inexactness(spec: TrialSpec) -> tuple[str | None, str]:
    """Return by how much and where padding leaks through a network that is to be exact, and what to do about it."""
    torch.manual_seed(spec.seed)
    leak = find_leak(without_dropout(build_network(spec).train()), takes_mask=takes_mask(spec))
    if leak is None:
        told = None if takes_mask(spec) else "it takes no padding, and needs none: padding changes nothing in it"
        return told, "leave --padding out"
    share = f"{100 * leak.logits_error:.2g} %"
    mask = "" if takes_mask(spec) else ", take the mask of valid pixels (a parameter padding)"
    return (
        f"padding changes the logits of an image's own pixels by {share}, {leak.where}",
        f"mend that module{mask}, or write --padding plain",
    )
