"""What a sweep varies: the values of each axis."""

from __future__ import annotations

from dataclasses import dataclass

from vnbench.records.spec import (
    Allocator,
    Cache,
    Checkpointing,
    Compile,
    ImageFormat,
    MemoryFormat,
    NormKernel,
    NormPrecision,
    OnOff,
    OptimizerLoop,
    Padding,
    Precision,
    SamplerName,
    ShapeVisits,
    WorkerKind,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """The values of each varied parameter, in the order given."""

    batch_size: tuple[int, ...]
    """Examples per optimizer step."""
    micro_batch_size: tuple[int | None, ...]
    """Examples per forward and backward pass; None for the whole batch."""
    precision: tuple[Precision, ...]
    """Arithmetic of convolutions and matrix products."""
    norm_precision: tuple[NormPrecision, ...]
    """Arithmetic of the norms."""
    checkpointing: tuple[Checkpointing, ...]
    """Which activations are recomputed."""
    sampler: tuple[SamplerName, ...]
    """How examples are grouped into batches."""
    shapes: tuple[int | None, ...]
    """Different canvases, at most; None for as many as come up."""
    shape_visits: tuple[ShapeVisits, ...]
    """Whether training has seen each canvas before it is timed."""
    num_workers: tuple[int, ...]
    """Loader processes."""
    memory_format: tuple[MemoryFormat, ...]
    """Order of the numbers of a map in memory."""
    compile: tuple[Compile, ...]
    """What torch.compile compiles."""
    cudnn_benchmark: tuple[OnOff, ...]
    """Whether cuDNN times its algorithms on each new shape."""
    allocator: tuple[Allocator, ...]
    """How the caching allocator takes memory from the driver."""
    optimizer: tuple[OptimizerLoop, ...]
    """How the optimizer goes over the parameters."""
    padding: tuple[Padding, ...]
    """Whether norms and attention see padded pixels."""
    norm_groups: tuple[str, ...]
    """Rules for the groups of GroupNorm."""
    norm_kernel: tuple[NormKernel, ...]
    """Whether GroupNorm is torch's kernel or made of reductions."""
    cuda_graphs: tuple[OnOff, ...]
    """Whether the kernels of a pass are replayed as a graph."""
    worker_kind: tuple[WorkerKind, ...]
    """What the loader's workers are."""
    prefetch_factor: tuple[int, ...]
    """Micro-batches ahead per loader worker."""
    pin_memory: tuple[OnOff, ...]
    """Whether batches go to the device through pinned memory."""
    persistent_workers: tuple[OnOff, ...]
    """Whether loader workers live on from epoch to epoch."""
    cache: tuple[Cache, ...]
    """Where decoded images are kept."""
    image_format: tuple[ImageFormat, ...]
    """Which files of the images are read."""
