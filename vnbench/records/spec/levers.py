"""Declare all levers of a sweep, one per field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from vnbench.parsers import several, whole, wholes, word_or
from vnbench.records.spec.lever import Lever, LeverValue
from vnbench.records.spec.precisions import swept_precisions
from vnbench.records.spec.words import (
    ALLOCATORS,
    DEFAULT_PREFETCH_FACTOR,
    MAX_BATCH_SIZE,
    MAX_SHAPES,
    USUAL_GROUPS,
    Cache,
    Checkpointing,
    Compile,
    Deterministic,
    ImageFormat,
    Loop,
    LoopFeatures,
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


def _read_micro_batch(spec: Any) -> LeverValue:
    """Return the micro-batch; None if it equals the batch, because it then varies with the batch."""
    return spec.micro_batch_size if spec.accumulation_steps > 1 else None


def _read_norm_precision(spec: Any) -> LeverValue:
    return None if spec.model_id is not None and spec.norm_precision == "fp32" else spec.norm_precision


def _read_norm_groups(spec: Any) -> LeverValue:
    return None if spec.model_id is not None and spec.norm_groups == USUAL_GROUPS else spec.norm_groups


def _read_shapes(spec: Any) -> LeverValue:
    return "any" if spec.shapes is None else spec.shapes


def _parse_groups(text: str, where: str) -> str:
    return USUAL_GROUPS if text == USUAL_GROUPS else str(whole(1, 1024)(text, where))


@dataclass(frozen=True, kw_only=True, slots=True)
class Levers:
    """One value of each lever.

    A new lever needs a field here and its effect in the trial. Give it a default, so that the identity of older specs
    does not change.
    """

    batch_size: Annotated[
        int,
        Lever(
            header="batch",
            phrased="batch {}",
            help="Images per optimizer step",
            metavar="N,...",
            parse_axis=wholes(1, MAX_BATCH_SIZE),
            swept={"cuda": "1,2,4,8,16", "cpu": "1,2"},
            centre={"cuda": 4},
        ),
    ]
    """Examples per optimizer step."""
    micro_batch_size: Annotated[
        int | None,
        Lever(
            header="micro",
            phrased="micro-batch {}",
            as_phrase={None: "micro-batch = batch"},
            read=_read_micro_batch,
            help="Images per forward and backward pass, or same as the batch",
            metavar="N,...",
            parse_axis=several(word_or("same", None, whole(1, MAX_BATCH_SIZE))),
            swept="same",
        ),
    ]
    """Examples per forward and backward pass; None for the whole batch."""
    precision: Annotated[
        Precision,
        Lever(
            header="precision",
            phrased="{}",
            help="Precision of convolutions and matrix products",
            swept={"cuda": ",".join(swept_precisions("cuda")), "cpu": ",".join(swept_precisions("cpu"))},
            part="computing",
        ),
    ]
    """Arithmetic of convolutions and matrix products."""
    norm_precision: Annotated[
        NormPrecision,
        Lever(
            header="norm",
            phrased="norm in {}",
            as_phrase={None: "own norm", "input": "norm in input precision"},
            read=_read_norm_precision,
            help="Precision of norms: fp32, or input (that of their input)",
            swept="fp32,input",
            part="computing",
            neutral="fp32",
        ),
    ]
    """Whether norms compute in fp32 or in the precision of their input."""
    norm_groups: Annotated[
        str,
        Lever(
            header="norm\ngroups",
            phrased="norm groups {}",
            as_phrase={None: "own norm groups"},
            read=_read_norm_groups,
            help="Groups of GroupNorm: half-or-16 (half the channels, at most 16), or a number",
            metavar="RULE,...",
            parse_axis=several(_parse_groups),
            part="computing",
            neutral=USUAL_GROUPS,
            words=(USUAL_GROUPS,),
        ),
    ] = USUAL_GROUPS
    """Rule for the groups of GroupNorm: ``half-or-16``, or a number of groups."""
    checkpointing: Annotated[
        Checkpointing,
        Lever(
            header="checkpoint",
            phrased="checkpointing {}",
            as_phrase={"none": "no checkpointing"},
            help="Which activations to recompute in the backward pass",
            swept="none,stages",
            part="computing",
            neutral="none",
        ),
    ]
    """Which activations are recomputed in the backward pass."""
    sampler: Annotated[
        SamplerName | None,
        Lever(
            header="sampler",
            phrased="{} sampler",
            help="How images are grouped into batches",
            swept="bucketed,random",
            part="loading",
            needs="several examples",
        ),
    ] = None
    """How examples are grouped into batches (``loader``, ``training``; ``memory`` after a soak)."""
    shapes: Annotated[
        int | None,
        Lever(
            header="shapes",
            phrased="{} shapes",
            as_phrase={1: "1 shape"},
            read=_read_shapes,
            quiet="any",
            help="Most padded sizes (canvases), or any",
            metavar="N,...",
            parse_axis=several(word_or("any", None, whole(1, MAX_SHAPES))),
            swept="any",
            part="loading",
        ),
    ] = None
    """Most distinct canvases; None for no limit (``loader``, ``training``)."""
    shape_visits: Annotated[
        ShapeVisits,
        Lever(
            header="shape\nvisits",
            phrased="{} shapes",
            as_phrase={"auto": "shapes visited as usual"},
            quiet="auto",
            help="warm: visit each canvas before it is timed; cold: do not; auto: warm on CUDA or if compiled",
        ),
    ] = "auto"
    """Whether a pass over each canvas precedes its timing; see TrialSpec.visits_shapes (``training``)."""
    num_workers: Annotated[
        int | None,
        Lever(
            header="workers",
            phrased="{} workers",
            as_phrase={1: "1 worker"},
            help="Loader workers; 0 loads in the training process",
            metavar="N,...",
            parse_axis=wholes(0, 256),
            swept={"cuda": "0,2,4,8", "cpu": "0,2"},
            centre={"cuda": 4},
            part="loading",
        ),
    ] = None
    """Loader workers; 0 decodes in the training process (``loader``, ``training``)."""
    memory_format: Annotated[
        MemoryFormat,
        Lever(
            header="memory\nformat",
            phrased="{} memory",
            help="Memory layout of feature maps",
            part="computing",
            is_switch=True,
        ),
    ] = "contiguous"
    """Memory layout of feature maps."""
    compile: Annotated[
        Compile,
        Lever(
            header="compile",
            phrased="compile {}",
            as_phrase={"none": "not compiled"},
            help="What torch.compile compiles: none, default (the network), step (with its loss)",
            part="computing",
            is_switch=True,
        ),
    ] = "none"
    """What torch.compile compiles: the network (``default``), a pass with its loss (``step``), or nothing."""
    cudnn_benchmark: Annotated[
        OnOff,
        Lever(
            header="cudnn\nbench",
            phrased="cudnn-benchmark {}",
            help="Let cuDNN time its algorithms on each new shape",
            part="computing",
            is_switch=True,
            is_cuda_only=True,
        ),
    ] = "off"
    """Whether cuDNN times its algorithms on each new shape."""
    allocator: Annotated[
        str,
        Lever(
            header="allocator",
            phrased="{} allocator",
            help="How torch's allocator takes memory from the driver",
            part="computing",
            is_switch=True,
            is_cuda_only=True,
            words=ALLOCATORS,
        ),
    ] = "native"
    """How the caching allocator takes memory from the driver: one of ALLOCATORS, or for a forecast a text of
    PYTORCH_ALLOC_CONF."""
    optimizer: Annotated[
        OptimizerLoop,
        Lever(
            header="optimizer",
            phrased="{} optimizer",
            help="How the optimizer updates the parameters",
            part="computing",
            is_switch=True,
        ),
    ] = "fused"
    """How the optimizer updates the parameters."""
    padding: Annotated[
        Padding,
        Lever(
            header="padding",
            phrased="{} padding",
            help="plain, or exact: norms and attention ignore padded pixels",
            part="computing",
            is_switch=True,
            neutral="plain",
        ),
    ] = "plain"
    """Whether norms and attention see padded pixels (``plain``) or leave them out (``exact``)."""
    norm_kernel: Annotated[
        NormKernel,
        Lever(
            header="norm\nkernel",
            phrased="{} norm kernel",
            help="Kernel of GroupNorm: native (torch's), split (reductions over many blocks)",
            part="computing",
            is_switch=True,
            neutral="native",
        ),
    ] = "native"
    """GroupNorm by torch's kernel (``native``), or by reductions that use many multiprocessors (``split``)."""
    cuda_graphs: Annotated[
        OnOff,
        Lever(
            header="CUDA\ngraphs",
            phrased="CUDA graphs {}",
            help="Whether passes are replayed as CUDA graphs, captured once per canvas",
            part="computing",
            is_switch=True,
            is_cuda_only=True,
        ),
    ] = "off"
    """Whether a pass is replayed as a graph captured on each canvas; if off, its kernels are launched one by one."""
    deterministic: Annotated[
        Deterministic,
        Lever(
            header="deter-\nministic",
            phrased="deterministic {}",
            help="Kernels that repeat themselves: off, on, or on-unfilled (new memory is not filled)",
            part="computing",
            is_switch=True,
        ),
    ] = "off"
    """Whether torch takes kernels that repeat themselves to the bit, or fails; ``on`` also fills new memory."""
    loop: Annotated[
        Loop,
        Lever(
            header="loop",
            phrased="{} loop",
            help="Who runs the step: own loop, Lightning (manual or automatic optimization), or Fabric",
            part="computing",
            is_switch=True,
        ),
    ] = "own"
    """Who runs the passes of a step (``compute``, ``training``); memory is always that of the own loop."""
    loop_features: Annotated[
        LoopFeatures,
        Lever(
            header="loop\nfeatures",
            phrased="{}",
            as_phrase={"log": "with log", "defaults": "with Lightning's defaults"},
            help="Lightning's Trainer: barebones, log (loss into a CSV file), or defaults (its own)",
            part="computing",
            is_switch=True,
            needs="Trainer",
        ),
    ] = "barebones"
    """What Lightning's Trainer does beside training (``compute``, ``training``)."""
    worker_kind: Annotated[
        WorkerKind,
        Lever(
            header="worker\nkind",
            phrased="workers are {}",
            help="Kind of loader workers",
            part="loading",
            is_switch=True,
            needs="workers",
        ),
    ] = "processes"
    """Whether the loader's workers are processes or threads (``loader``, ``training``)."""
    prefetch_factor: Annotated[
        int,
        Lever(
            header="prefetch",
            phrased="prefetch {}",
            help="Micro-batches that each loader worker prefetches",
            metavar="N,...",
            parse_axis=wholes(1, 64),
            part="loading",
            is_switch=True,
            needs="workers",
        ),
    ] = DEFAULT_PREFETCH_FACTOR
    """Micro-batches that each loader worker prefetches (``loader``, ``training``)."""
    pin_memory: Annotated[
        OnOff,
        Lever(
            header="pin",
            phrased="pinned {}",
            as_phrase={"on": "pinned", "off": "not pinned"},
            help="Copy batches to the GPU through pinned memory",
            part="loading",
            is_switch=True,
        ),
    ] = "on"
    """Whether batches go to the device through pinned memory; no effect without CUDA (``loader``, ``training``)."""
    persistent_workers: Annotated[
        OnOff,
        Lever(
            header="persist",
            phrased="workers persist {}",
            help="Whether loader workers persist between epochs",
            part="loading",
            is_switch=True,
            needs="workers",
        ),
    ] = "on"
    """Whether loader workers persist between epochs (``loader``, ``training``)."""
    cache: Annotated[
        Cache,
        Lever(
            header="cache",
            phrased="cache in {}",
            as_phrase={"none": "no cache"},
            help="Where decoded images are cached",
            part="loading",
            is_switch=True,
        ),
    ] = "none"
    """Where decoded images are cached (``loader``, ``training``)."""
    image_format: Annotated[
        ImageFormat,
        Lever(
            header="image\nformat",
            phrased="{} files",
            help="File format of the synthetic images",
            part="loading",
            is_switch=True,
        ),
    ] = "png"
    """Format of the image files of a synthetic corpus (``loader``, ``training``)."""
