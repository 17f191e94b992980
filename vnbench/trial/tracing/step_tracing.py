"""Trace of a spec's two training steps on CUDA, on fake tensors: operators, allocations and frees in order."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import repeat

import torch
from torch import Tensor, nn

from vnbench.batching.alignment import align
from vnbench.loading.collate import Batch
from vnbench.records.spec.trial_spec import MemorySpec
from vnbench.records.step_trace import MAX_PASSES, Capability, StepTrace, TraceOrder
from vnbench.trial.step.fake_step import CPU, fake_step
from vnbench.trial.step.layout import to_channels_last
from vnbench.trial.step.network import build_network
from vnbench.trial.step.network_errors import told_of_network
from vnbench.trial.step.switches import set_arithmetic
from vnbench.trial.tracing.cuda_rules import CudaResults, cuda_rules
from vnbench.trial.tracing.host_tensors import CARD, tensors_on_host
from vnbench.trial.tracing.recorder import Recorder

NUM_STEPS = 2
"""Steps to trace: the first makes the optimizer's state, the second finds it."""

REMEDY = "leave it out of the forecast, or measure it on a card"
"""Remedy for a network that cannot be traced."""


def trace_step(order: TraceOrder) -> StepTrace:
    """Return the trace of two steps of a spec as a card of the order's compute capability would run them.

    Each pass has ``micro_batch_size`` examples of the spec's worst case, which fills its canvas. At most MAX_PASSES
    accumulated passes are traced. Compiled and captured passes are traced as eager ones.

    Raises:
        ModelError: a user's own network failed, or cannot be traced.
    """
    with told_of_network(order.spec, remedy=REMEDY):
        return traced_steps(order.spec, capability=order.capability)


def traced_steps(spec: MemorySpec, *, capability: Capability | None) -> StepTrace:
    """Return the trace of a spec's steps; without a capability by the CPU's rules, to compare it with a real step."""
    set_arithmetic(spec.precision)
    num_passes = min(spec.accumulation_steps, MAX_PASSES)
    rules = nullcontext() if capability is None else cuda_rules(capability)
    is_checked = capability is not None and spec.model_id is not None
    recorder = Recorder(is_on_card=_is_on_card, has_host_numbers=spec.optimizer != "fused")
    device = CARD if is_checked else CPU
    with _no_garbage(), rules, fake_step(spec, network=_network(spec), device=device) as step:
        step.optimizer.register_step_pre_hook(lambda *_: recorder.is_updating(True))
        step.optimizer.register_step_post_hook(lambda *_: recorder.is_updating(False))
        recorder.track(moved(step.model))
        batch = _host_batch(spec)
        results = nullcontext() if capability is None else CudaResults()
        with tensors_on_host() if is_checked else nullcontext(), results, recorder:
            for _ in range(NUM_STEPS):
                step.run(repeat(batch), num_examples=num_passes * spec.micro_batch_size, timer=recorder)
        events = recorder.close()
        held = [*step.model.parameters(), *step.model.buffers()]
        return StepTrace(
            torch=torch.__version__.partition("+")[0],
            capability=capability or (0, 0),
            notes=tuple(_notes(spec)),
            num_parameters=sum(parameter.numel() for parameter in step.model.parameters()),
            parameter_bytes=_storage_bytes(held),
            batch_bytes=_storage_bytes(batch),
            num_passes=num_passes,
            operators=tuple(recorder.operators),
            sequence=tuple(recorder.sequence),
            events=events,
        )


def _network(spec: MemorySpec) -> nn.Module:
    """Return the network of a spec in its memory layout on CUDA."""
    with torch.random.fork_rng(devices=[]):
        network = build_network(spec).train()
    return to_channels_last(network) if spec.memory_format == "channels-last" else network


def _host_batch(spec: MemorySpec) -> Batch:
    """Return a micro-batch on the host. The meta device represents the host, the CPU represents the card."""
    height, width = int(align(spec.worst_case_height)), int(align(spec.worst_case_width))
    num_examples = spec.micro_batch_size
    shapes = ((num_examples, height, width), (num_examples, height, width), (num_examples, 2))
    dtypes = (torch.uint8, torch.uint8, torch.int32)
    return Batch(*(torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in zip(shapes, dtypes, strict=True)))


def _is_on_card(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def moved(module: nn.Module) -> Iterator[Tensor]:
    """Yield a module's parameters and buffers in the order in which ``Module.to`` moves them to a card."""
    for child in module.children():
        yield from moved(child)
    for tensor in (*module._parameters.values(), *module._buffers.values()):
        if tensor is not None:
            yield tensor


def _notes(spec: MemorySpec) -> Iterator[str]:
    if spec.compile != "none":
        yield "compiled code is traced as eager: it takes at most as much memory"
    if spec.cuda_graphs == "on":
        yield "captured passes are traced as eager ones: their pool of memory is not told"
    if spec.accumulation_steps > MAX_PASSES:
        yield f"of {spec.accumulation_steps} passes the first {MAX_PASSES} are traced, the others are as the last"


def _storage_bytes(tensors: list[Tensor] | Batch) -> int:
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Return a context without garbage collection, which would free memory at unpredictable moments."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
