"""Define the words that a spec may hold, and the limits of its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

DeviceType = Literal["cuda", "cpu"]
TrialKind = Literal["memory", "compute", "loader", "training", "probe", "forecast", "audit", "observed", "snapshot"]
ModelName = Literal["veernet", "veernet-tiny"]
Task = Literal["multiclass", "binary"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
"""What each of them means stands in vnbench.records.spec.precisions."""
NormPrecision = Literal["fp32", "input"]
NormKernel = Literal["native", "split"]
Checkpointing = Literal["none", "stages", "selective"]
SamplerName = Literal["random", "step-sorted", "bucketed", "pixel-budget", "sorted"]
SeenSampler = Literal["random", "step-sorted", "bucketed", "pixel-budget", "sorted", "other"]
"""How a run of somebody else groups its examples; ``other`` is a sampler that is none of these."""
MemoryFormat = Literal["contiguous", "channels-last"]
Compile = Literal["none", "default", "step"]
OptimizerLoop = Literal["fused", "foreach", "for-loop"]
Padding = Literal["plain", "exact"]
WorkerKind = Literal["processes", "threads"]
OnOff = Literal["off", "on"]
Cache = Literal["none", "memory", "disk"]
ImageFormat = Literal["png", "tiff-g4", "tiff-deflate", "tiff-zstd"]
Soak = Literal["none", "sampler-order", "largest-first"]
MemoryBy = Literal["step", "trace"]
ShapeVisits = Literal["auto", "warm", "cold"]
SizeLaw = Literal["uniform", "log-uniform"]
Deterministic = Literal["off", "on", "on-unfilled"]
Loop = Literal["own", "lightning", "lightning-automatic", "fabric"]
LoopFeatures = Literal["barebones", "log", "defaults"]
SnapshotMode = Literal["sync", "async"]
Harm = Literal["none", "torn", "full-disk"]

DEVICE_TYPES: tuple[DeviceType, ...] = get_args(DeviceType)
TRIAL_KINDS: tuple[TrialKind, ...] = get_args(TrialKind)
UNSWEPT_KINDS: tuple[TrialKind, ...] = ("probe", "forecast", "audit", "observed")
"""Kinds that no sweep measures: a probe runs before it to estimate its time, a forecast runs nothing, an audit measures
no cost, and an observed run is somebody else's."""
SWEPT_KINDS: tuple[TrialKind, ...] = tuple(kind for kind in TRIAL_KINDS if kind not in UNSWEPT_KINDS)
"""Kinds that a sweep measures."""
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)
TASKS: tuple[Task, ...] = get_args(Task)
NORM_KERNELS: tuple[NormKernel, ...] = get_args(NormKernel)
CHECKPOINTINGS: tuple[Checkpointing, ...] = get_args(Checkpointing)
SAMPLER_NAMES: tuple[SamplerName, ...] = get_args(SamplerName)
ALLOCATORS = ("native", "expandable-segments")
"""Settings of torch's caching allocator that have a name."""
PADDINGS: tuple[Padding, ...] = get_args(Padding)
IMAGE_FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)
TRAINER_LOOPS: tuple[Loop, ...] = ("lightning", "lightning-automatic")
"""Loops that Lightning's Trainer drives."""
SNAPSHOT_MODES: tuple[SnapshotMode, ...] = get_args(SnapshotMode)
HARMS: tuple[Harm, ...] = get_args(Harm)
SOAKS: tuple[Soak, ...] = get_args(Soak)
MEMORY_BYS: tuple[MemoryBy, ...] = get_args(MemoryBy)
SIZE_LAWS: tuple[SizeLaw, ...] = get_args(SizeLaw)
"""Distributions of the sides of synthetic images."""

DEFAULT_PREFETCH_FACTOR = 2
"""Prefetched micro-batches per worker: one in work and one waiting, which evens out the different times of ragged
batches. Each further one would hold up to 262 MB of shared memory (16 examples of 640 x 12,800)."""

ALIGNMENT = 32
"""Canvas sides are rounded up to this many pixels: the encoder halves the map in five stages."""

NUM_CLASSES: Mapping[Task, int] = {"multiclass": 3, "binary": 2}
"""Classes of each task, background included."""

MAX_CLASSES = 254
"""Most classes of a network: masks are bytes, and two values are reserved for pixels without a class."""

IGNORED_CLASS = 255
"""Value in a decoded mask for pixels that the loss ignores."""

MAX_BATCH_SIZE = 4096
"""Largest batch accepted: for these images a larger number is probably a mistake."""

MAX_SHAPES = 4096
"""Largest limit on the number of canvases: more than an epoch of logs has without a limit."""

MAX_EPOCH = 2**32 - 1
"""Largest epoch: the lower half of the second word of the Philox key from which its plan is drawn."""

USUAL_GROUPS = "half-or-16"
"""Rule for the groups of GroupNorm: half of the channels in each group, or 16 if half is less."""
