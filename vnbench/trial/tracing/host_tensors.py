"""Tensors that a network makes or keeps on the host, in a trace where the meta device is the host and the CPU the card.

On a card an operator refuses a tensor on the host beside others, unless it has no dimensions. In a trace every device
that is not written down would be the same CPU, so the host's tensors are moved to the meta device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from vnbench.trial.step.network_errors import HostTensorError

aten = torch.ops.aten

HOST, CARD = "meta", "cpu"
"""Devices that represent the host and the card."""

COPIES = {aten._to_copy, aten.copy_, aten._foreach_copy_}
"""Operators that take tensors of both (aten/src/ATen/native/Copy.cpp)."""

INDICES_ANYWHERE = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""Operators whose indices may be on the host (aten/src/ATen/native/TensorAdvancedIndexing.cpp)."""


def place_on_host(network: nn.Module) -> None:
    """Move to the host what a network's modules keep as plain attributes: ``Module.to`` leaves such tensors there."""
    for module in network.modules():
        kept = {name: value for name, value in vars(module).items() if isinstance(value, Tensor) and value.dim()}
        for name, value in kept.items():
            module.__dict__[name] = value.detach().to(HOST)


@contextmanager
def tensors_on_host() -> Iterator[None]:
    """Return a context in which a network's tensors are on the host unless it names another device.

    An operator raises HostTensorError if it takes such a tensor beside those of the card.
    """
    with _Refusals(), _Places():  # type: ignore[no-untyped-call]  # torch 2.13
        yield


class _Places(TorchFunctionMode):
    """Reads the devices of calls as a machine with a card would: no device and "cpu" are the host, "cuda" the card.

    A device that is taken from a tensor is that of the tensor.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        args, given = tree_map_only(Tensor, _faked, (tuple(args), given))
        if func in _device_constructors() and given.get("device") is None:
            made = func(*args, **(given | {"device": HOST}))
            return made if made.dim() else func(*args, **given)
        if func in (Tensor.cpu, Tensor.cuda):
            return args[0].to(HOST if func is Tensor.cpu else CARD)
        if func is Tensor.to:
            args = (args[0], *map(_device, args[1:]))
        if "device" in given:
            given["device"] = _device(given["device"])
        return func(*args, **given)


def _device(given: Any) -> Any:
    """Return the device in a trace that an argument means; an argument that is no device is returned as it is."""
    if not isinstance(given, str | torch.device):
        return given
    if given == "cpu":
        return HOST
    return CARD if torch.device(given).type == "cuda" else given


def _faked(tensor: Tensor) -> Tensor:
    """Return a tensor as a fake one; a real one was made outside of the network, on the host."""
    if isinstance(tensor, FakeTensor):
        return tensor
    place = HOST if tensor.dim() else CARD
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=place)


class _Refusals(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    """Refuses a tensor on the host in an operator on the card."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        packet = getattr(func, "overloadpacket", None)
        seen = (*args[:1], *args[2:]) if packet in INDICES_ANYWHERE else args
        places = {one.device.type for one in tree_leaves((seen, given)) if isinstance(one, Tensor) and one.dim()}
        if {HOST, CARD} <= places and packet not in COPIES:
            raise HostTensorError(
                f"{func} takes a tensor of the host (the CPU) beside those of the card, which CUDA refuses"
            )
        if CARD in places:
            args, given = tree_map_only(Tensor, _scalar_on_card, (tuple(args), given))
        return func(*args, **given)


def _scalar_on_card(tensor: Tensor) -> Tensor:
    """Return a number of the host as one of the card."""
    return tensor if tensor.dim() or tensor.device.type == CARD else torch.empty_like(tensor, device=CARD)
