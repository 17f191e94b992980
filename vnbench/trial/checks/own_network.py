"""The check of a user's own network, in its own process: it can be trained and, if required, is exact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vnbench.errors import ModelError, VnbenchError
from vnbench.records.failures import summary_line
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.trial.checks.exactness import find_leak
from vnbench.trial.step.network import SMALLEST_SIDE, build_network, takes_mask, without_dropout
from vnbench.trial.step.network_errors import place_in

CANVAS = (SMALLEST_SIDE, SMALLEST_SIDE + 32)
"""Height and width in pixels."""

aten = torch.ops.aten

WAITING = {
    aten._local_scalar_dense.default: "reads a value from a map",
    aten.nonzero.default: "looks for nonzero values of a map",
    aten.masked_select.default: "selects by a mask",
    aten.index.Tensor: "indexes by a mask",
    aten.equal.default: "asks whether maps are equal",
}
"""Operators for whose result the host waits, which a captured pass must not do."""


def run(payload: str) -> str:
    """Return ``{"problem": text or null, "remedy": text or null}`` (JSON) for a TrialSpec (JSON)."""
    spec = TrialSpec.from_dict(json.loads(payload))
    remedy = "repair the network"
    try:
        problem = _problem(spec)
        if problem is None and spec.cuda_graphs == "on":
            problem, remedy = _why_not_captured(spec), "repair the network, or omit --cuda-graphs"
        if problem is None and spec.padding == "exact":
            problem, remedy = _inexactness(spec)
    except VnbenchError as error:
        problem = str(error)
    except Exception as error:  # the user's errors become a message, not a traceback
        place = place_in(error, spec.model)
        problem = f"{place}: {summary_line(error)}" if place else summary_line(error)
    return json.dumps({"problem": problem, "remedy": remedy})


def _problem(spec: TrialSpec) -> str | None:
    """Return what is wrong with a network's logits or gradient; None if they are fine."""
    torch.manual_seed(spec.seed)
    network = build_network(spec).train()
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return "the network has no trainable parameter"
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
    """Refuses operators for which the host would wait."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        # An integer index has a known size; the True values of a mask have to be counted.
        is_counted = func is not aten.index.Tensor or any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if func in WAITING and is_counted:
            raise ModelError(f"the network {WAITING[func]} ({func}), which a CUDA graph cannot hold")
        return func(*args, **(kwargs or {}))


def _why_not_captured(spec: TrialSpec) -> str | None:
    """Return why a network's passes cannot become a CUDA graph, as far as the CPU can tell; None if they can."""
    network = build_network(spec).train()
    with _NothingWaits():  # type: ignore[no-untyped-call]
        logits = _logits(network, spec)
    logits.sum().backward()
    unused = [name for name, one in network.named_parameters() if one.requires_grad and one.grad is None]
    return (
        f"no gradient reaches {unused[0]}, and a CUDA graph needs the gradient of every parameter" if unused else None
    )


def _inexactness(spec: TrialSpec) -> tuple[str | None, str]:
    """Return how much and where padding leaks through a network that should be exact, and the remedy."""
    torch.manual_seed(spec.seed)
    leak = find_leak(without_dropout(build_network(spec).train()), takes_mask=takes_mask(spec))
    if leak is None:
        told = (
            None if takes_mask(spec) else "it does not take padding and does not need it: padding changes nothing in it"
        )
        return told, "omit --padding"
    share = f"{100 * leak.logits_error:.2g} %"
    mask = "" if takes_mask(spec) else ", take the mask of valid pixels (a parameter padding)"
    return (
        f"padding changes the logits of an image's own pixels by {share}, {leak.where}",
        f"repair that module{mask}, or write --padding plain",
    )
