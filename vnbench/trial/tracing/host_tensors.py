"""Tensors that a network makes or keeps on the host, in a trace where the meta device is the host and the CPU the card.

On a card an operator refuses a tensor on the host beside others, unless it has no dimensions. In a trace both would be
the same CPU. So the card is the CPU with an index, which only tensors on it have: a CPU without one was written down
by the network, or is where a tensor was left that is neither a parameter nor a buffer. Such tensors are moved to the
meta device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from vnbench.trial.step.fake_step import CPU
from vnbench.trial.step.network_errors import HostTensorError

aten = torch.ops.aten

HOST, CARD = torch.device("meta"), torch.device("cpu", 0)
"""Devices that represent the host and the card."""

COPIES = {aten._to_copy, aten.copy_, aten._foreach_copy_}
"""Operators that take tensors of both (aten/src/ATen/native/Copy.cpp)."""

INDICES_ANYWHERE = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""Operators whose indices may be on the host (aten/src/ATen/native/TensorAdvancedIndexing.cpp)."""


@contextmanager
def tensors_on_host() -> Iterator[None]:
    """Return a context in which a network's tensors are on the host unless it names another device.

    An operator raises HostTensorError if it takes such a tensor beside those of the card.
    """
    with _Refusals(), _Places():  # type: ignore[no-untyped-call]  # torch 2.13
        yield


class _Places(TorchFunctionMode):
    """Reads the devices of calls as a machine with a card would: no device and the CPU are the host, "cuda" the card.

    A device that is taken from a tensor is that of the tensor. One with an index that is written down cannot be told
    from it: ``torch.device("cpu", 0)`` is taken for the card.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        args, given = tree_map_only(Tensor, _placed, (tuple(args), given))
        if "device" in given:
            given["device"] = _device(given["device"])
        if func in _device_constructors() and given.get("device") in (None, HOST):
            made = func(*args, **(given | {"device": HOST}))
            return made if made.dim() else func(*args, **(given | {"device": CPU}))
        if func in (Tensor.cpu, Tensor.cuda):
            return args[0].to(HOST if func is Tensor.cpu else CARD)
        if func is Tensor.to:
            args = (args[0], *map(_device, args[1:]))
        return func(*args, **given)


def _device(given: Any) -> Any:
    """Return the device in a trace that an argument means; an argument that is no device is returned as it is."""
    if not isinstance(given, str | torch.device) or given == CARD:
        return given
    kind = torch.device(given).type
    return {"cpu": HOST, "cuda": CARD}.get(kind, given)


def _placed(tensor: Tensor) -> Tensor:
    """Return a tensor as a fake one; one that is not on the card lies on the host, where a number stays the CPU's."""
    is_placed = tensor.device in (HOST, CARD) or not tensor.dim()
    if is_placed and isinstance(tensor, FakeTensor):
        return tensor
    place = HOST if tensor.dim() else CPU
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=place)


class _Refusals(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Refuses a tensor on the host in an operator on the card."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        packet = getattr(func, "overloadpacket", None)
        seen = (*args[:1], *args[2:]) if packet in INDICES_ANYWHERE else args
        tensors = [one for one in tree_leaves((seen, given)) if isinstance(one, Tensor)]
        if len({one.device == CARD for one in tensors if one.dim()}) > 1 and packet not in COPIES:
            raise HostTensorError(
                f"{func} takes a tensor of the host (the CPU) beside those of the card, which CUDA refuses"
            )
        if any(one.device == CARD for one in tensors):
            args, given = tree_map_only(Tensor, _scalar_on_card, (tuple(args), given))
        return func(*args, **given)


def _scalar_on_card(tensor: Tensor) -> Tensor:
    """Return a number of the host as one of the card."""
    return tensor if tensor.dim() or tensor.device == CARD else torch.empty_like(tensor, device=CARD)
