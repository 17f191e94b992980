"""What makes two observed runs comparable: network, batches, precision, examples, sampler and loop."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DistributedSampler, RandomSampler, Sampler

from vnbench.batching.resume import EpochSampler
from vnbench.errors import InputError
from vnbench.records.spec.trial_spec import ObservedSpec
from vnbench.records.spec.words import DeviceType, Loop, Precision, SeenSampler
from vnbench.records.values.identity import digest

DEPTH = 4
"""How many samplers within each other are looked through: loaders and frameworks wrap them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderFacts:
    """What a loader tells of the examples and their order."""

    sampler: SeenSampler
    """How examples are grouped."""
    sampler_class: str
    """Class of what groups them."""
    own: EpochSampler | None
    """The plan that it follows, if it is one of vnbench's."""
    num_workers: int
    """Workers of the loader; 0 where it tells none."""
    num_examples: int | None
    """Examples of its dataset; None where it tells none."""

    @property
    def corpus_id(self) -> str:
        """A digest of what is known of the examples."""
        sizes = None if self.own is None else self.own.sizes_N2.tolist()
        return digest([self.num_examples, self.sampler_class, sizes])


def facts_of(loader: Any) -> LoaderFacts:
    """Return what a loader tells; most of it is absent for an iterable that is no loader of torch."""
    samplers = list(_samplers(loader))
    own = next((one for one in samplers if isinstance(one, EpochSampler)), None)
    plainest = samplers[-1] if samplers else loader
    dataset = getattr(loader, "dataset", None)
    return LoaderFacts(
        sampler=_word(own, samplers),
        sampler_class=type(own or plainest).__name__,
        own=own,
        num_workers=int(getattr(loader, "num_workers", 0) or 0),
        num_examples=len(own.sizes_N2) if own is not None else _length(dataset),
    )


def epoch_marks(loader: Any) -> tuple[Any, ...] | None:
    """Return what changes in the samplers of a loader when they are told of a new epoch; None if none can be told.

    A sampler of vnbench that was told of none refuses to go on.
    """
    told = [one for one in _samplers(loader) if callable(getattr(one, "set_epoch", None))]
    known = tuple(one.epoch for one in told if hasattr(one, "epoch"))
    return known or None


def _samplers(loader: Any) -> Iterator[Any]:
    """Yield the samplers of a loader, the outermost first."""
    seen: list[Any] = []
    waiting = [loader]
    for _ in range(DEPTH):
        inner = [getattr(one, name, None) for one in waiting for name in ("batch_sampler", "sampler")]
        waiting = [one for one in inner if one is not None and not any(one is other for other in seen)]
        seen += waiting
    yield from (one for one in seen if isinstance(one, Sampler | EpochSampler) or hasattr(one, "__iter__"))


def _word(own: EpochSampler | None, samplers: list[Any]) -> SeenSampler:
    if own is not None:
        return own.config.sampler
    is_random = any(
        isinstance(one, RandomSampler) or (isinstance(one, DistributedSampler) and one.shuffle) for one in samplers
    )
    is_plain = all(type(one).__module__.startswith("torch.utils.data") for one in samplers)
    return "random" if is_random and is_plain else "other"


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except TypeError:
        return None


def bare(network: nn.Module) -> nn.Module:
    """Return a network without what wraps it: compilation, the exchange of gradients, Fabric."""
    while (inner := _wrapped(network)) is not None:
        network = inner
    return network


def _wrapped(network: nn.Module) -> nn.Module | None:
    """Return what a wrapper of torch or of a framework holds; None of any other network."""
    if not type(network).__module__.startswith(("torch.", "lightning.", "lightning_fabric.", "accelerate.")):
        return None
    held = (network._modules.get(name) for name in ("module", "_orig_mod", "_forward_module"))
    return next((one for one in held if one is not None), None)


def network_name(network: nn.Module, name: str | None) -> str:
    """Return the name of a network: that given, or the file and class that it is of."""
    if name is not None:
        return name
    cls = type(network)
    try:
        file = Path(inspect.getfile(cls)).name
    except (OSError, TypeError):  # a class of an interpreter's prompt
        file = cls.__module__
    return f"{file}:{cls.__name__}"


def network_id(network: nn.Module) -> str:
    """Return a digest of the names, shapes and types of a network's parameters."""
    return digest([[name, list(one.shape), str(one.dtype)] for name, one in network.named_parameters()])


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network.

    Raises:
        InputError: it is neither CUDA nor the CPU.
    """
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    if device.type not in ("cuda", "cpu"):
        raise InputError("device", device.type, allowed="cuda and cpu are observed", remedy="leave the observer out")
    return device


def precision_now(network: nn.Module, device: torch.device) -> Precision:
    """Return the precision of convolutions at this moment, under autocast or without it."""
    kind = next((one.dtype for one in network.parameters()), torch.float32)
    if torch.is_autocast_enabled(device.type):
        kind = torch.get_autocast_dtype(device.type)
    if kind in (torch.bfloat16, torch.float16):
        return "bf16" if kind == torch.bfloat16 else "fp16"
    return "tf32" if device.type == "cuda" and torch.backends.cudnn.allow_tf32 else "fp32"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunKeys:
    """What is known of a run before its first epoch ends."""

    model: str
    """Name of the network."""
    model_id: str
    """Digest of its parameters' names, shapes and types."""
    device: torch.device
    """Where it trains."""
    precision: Precision
    """Precision of its convolutions."""
    loader: LoaderFacts
    """What its loader tells."""
    loop: Loop
    """Who runs its steps."""
    ranks: int
    """Processes that train together."""
    num_warm_up_steps: int
    """Optimizer steps before the measured ones."""

    def spec(self, *, batch_size: int, micro_batch_size: int, num_examples: int) -> ObservedSpec:
        """Return the spec, with the batches and the examples of an epoch as they were seen."""
        own = self.loader.own
        return ObservedSpec(
            device=cast(DeviceType, self.device.type),
            model=self.model,
            model_id=self.model_id,
            task="multiclass",
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            precision=self.precision,
            norm_precision="fp32",
            checkpointing="none",
            sampler=self.loader.sampler,
            num_workers=self.loader.num_workers,
            corpus_id=self.loader.corpus_id,
            subset_size=self.loader.num_examples or num_examples,
            pixel_budget=None if own is None else own.config.pixel_budget,
            shapes=None if own is None else own.config.shapes,
            seed=0 if own is None else own.config.seed,
            loop=self.loop,
            ranks=self.ranks,
            num_warm_up_steps=self.num_warm_up_steps,
        )
