"""What the instruments of a trial read: the parts of its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vnbench.records.values.strict import Bytes, Count, Number, Pixels, Ratio, Seconds, SignedBytes, SignedSeconds


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchingAccount:
    """Padding accounts of one epoch's plan."""

    num_examples: Count
    """Examples in the plan."""
    num_batches: Count
    """Micro-batches: forward and backward passes."""
    num_steps: Count
    """Optimizer steps."""
    valid_pixels: Pixels
    """Sum of height x width."""
    padded_pixels: Pixels
    """Sum of the canvases' pixels."""
    padding_ratio: Number
    """1 - valid_pixels / padded_pixels."""
    lower_bound_padding_ratio: Number
    """No grouping into as many micro-batches pads less than this."""
    distinct_shapes: Count
    """Number of different (examples, height, width) canvases."""
    repeated_pair_ratio: Ratio | None
    """Share of the pairs within a step that were together in the epoch before; None where there are no pairs."""
    repeated_pair_ratio_two_before: Ratio | None = None
    """The same with the epoch before that one."""
    largest_padded_pixels: Pixels | None = None
    """Pixels of the largest micro-batch: what sets the memory of the plan."""
    lag_1_width_correlation: Number | None = None
    """Correlation of the mean widths of neighbouring full steps; near 0 where their order is random."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryReading:
    """Peak memory of a trial, in bytes. What an instrument does not see is None."""

    instrument: Literal["cuda-caching-allocator", "live-tensor-tracker", "traced", "process"]
    """Who counted. The live-tensor tracker does not see oneDNN's workspace; ``traced`` is that tracker too, in a step
    on fake tensors that computed nothing."""
    peak_allocated_bytes: Bytes | None
    """Most bytes held by tensors at once."""
    peak_reserved_bytes: Bytes | None
    """Most bytes held by the caching allocator (CUDA), those from before the peaks were reset included: what has to fit
    on the card."""
    num_alloc_retries: Count | None
    """Times that the caching allocator gave its cache back and tried again (CUDA)."""
    process_peak_rss_bytes: Bytes | None
    """Largest resident set of the trial's process on the host."""
    capacity_bytes: Bytes | None
    """Memory of the device, or the limit that was set; of the host, or its container, on the CPU."""
    cold_peak_allocated_bytes: Bytes | None = None
    """Most bytes held by tensors in the first step on the worst case, in which libraries may try algorithms (CUDA)."""
    soak_peak_allocated_bytes: Bytes | None = None
    """Most bytes held by tensors in the passes before the worst case; None where there were none."""
    peak_requested_bytes: Bytes | None = None
    """Most bytes asked for at once, before the caching allocator rounds them up (CUDA)."""
    num_operators: Count | None = None
    """Operations that torch dispatched in the step that the live-tensor tracker watched (CPU), run or traced."""
    outside_allocator_bytes: SignedBytes | None = None
    """Bytes of the device that are in use and not the caching allocator's, after the step: the context, libraries, and
    other processes if there are any (CUDA)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EqualityReading:
    """How far one step of a configuration is from the plain one, on the same canvas, weights and examples.

    Plain is fp32, no checkpointing, contiguous layout, not compiled, a single pass. Errors are relative: of the loss,
    and of the whole gradient the norm of the difference over the norm.
    """

    loss_error: Ratio | None
    """Of the loss; None where it was no number."""
    gradient_error: Ratio | None
    """Of the gradient; None where it was no number."""
    rounding_loss_error: Ratio
    """What rounding weights and images to the configuration's precision does to the plain step's loss."""
    rounding_gradient_error: Ratio
    """And to its gradient."""
    loss_tolerance: Ratio
    """Largest error of the loss that counts as equal."""
    gradient_tolerance: Ratio
    """Largest error of the gradient that counts as equal."""
    height: Pixels
    """Height of the canvas in pixels."""
    width: Pixels
    """Width of the canvas in pixels."""
    num_examples: Count
    """Examples of the step."""
    num_passes: Count
    """Passes into which the configuration divided them."""
    elapsed_s: SignedSeconds
    """What the comparison took, before anything was timed."""

    @property
    def is_equal(self) -> bool:
        """Whether both errors are tolerated."""
        return (
            self.loss_error is not None
            and self.gradient_error is not None
            and self.loss_error <= self.loss_tolerance
            and self.gradient_error <= self.gradient_tolerance
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LargeTensorReading:
    """A pass with a tensor of more than 2^31 elements, and how far it is from the same examples in smaller passes.

    What is None was not compared: there was no room for it, or no smaller pass.
    """

    num_elements: Count
    """Elements of the largest tensor of the forward pass."""
    height: Pixels
    """Height of the examples in pixels."""
    width: Pixels
    """Width of the examples in pixels."""
    num_examples: Count
    """Examples of the pass."""
    num_parts: Count | None = None
    """Smaller passes that it was held against."""
    logits_error: Ratio | None = None
    """Of the last example's logits, where they differ most: the root mean square of the difference over that of the
    logits; None where it was no number."""
    gradient_error: Ratio | None = None
    """Norm of the gradients' difference over the norm; None where it was no number."""
    image_gradient_error: Ratio | None = None
    """Of the gradient on the last example's image, told as that of its logits; None where it was no number."""
    tolerance: Ratio | None = None
    """Largest error that counts as equal."""
    elapsed_s: SignedSeconds | None = None
    """What the comparison took."""

    @property
    def is_equal(self) -> bool | None:
        """Whether both errors are tolerated; None where nothing was compared."""
        if self.tolerance is None:
            return None
        errors = (self.logits_error, self.image_gradient_error, self.gradient_error)
        return all(error is not None and error <= self.tolerance for error in errors)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The measured blocks of a trial as a whole."""

    wall_time_s: Seconds
    """Wall clock from the synchronised start to the synchronised end, summed over the blocks."""
    num_steps: Count
    """Measured optimizer steps."""
    num_examples: Count
    """Measured examples."""
    valid_pixels: Pixels
    """Valid pixels of the measured examples."""
    padded_pixels: Pixels
    """Padded pixels of the measured examples."""


StopRule = Literal["noise-target", "max-steps", "max-epochs", "max-measuring-time"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """Why measuring ended where it did."""

    rule: StopRule
    """The rule that fired first."""
    noise_target: Ratio | None
    """Relative half-width that was asked for; None where the number of steps was fixed."""
    relative_half_width: Ratio | None
    """Relative half-width of the 95 % interval when it ended; None below two observations.

    Of a training trial it covers what steps on one canvas differ by, and is None where no canvas was repeated. In older
    records it covers how canvases differ in their cost per pixel as well, which is no noise.
    """
    num_steps: Count
    """Measured steps."""
    num_observations: Count | None
    """What the interval rests on, its degrees of freedom plus 1: the steps, or where neighbouring ones were alike,
    groups of steps; of a training trial less a step for each canvas."""
    measuring_s: SignedSeconds
    """Seconds of wall clock in the measured blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastReading:
    """What was forecast of a training trial before it ran, from trials of its parts."""

    value_s: SignedSeconds
    """Seconds of one epoch of the measured subset."""
    low_s: SignedSeconds | None
    """Lower end of its 90 % interval; None where it has none."""
    high_s: SignedSeconds | None
    """Upper end."""
    num_examples: Count
    """Examples of that epoch."""


LoaderStageName = Literal[
    "plan",  # planning an epoch of all training examples; each plan is one wait
    "decode",  # decoding, in the training process
    "collate",  # decoding and padding, in the training process
    "empty-workers",  # worker processes that hand over batches without pixels
    "workers",  # decoding and padding in workers, and handing over
    "pinned",  # with a copy into pinned memory
    "h2d",  # with the copy to the device
    "device",  # with the conversion on the device to what the network takes
]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderStage:
    """What the way of a batch takes up to some stage, where nothing is done with it but to ask for the next."""

    name: LoaderStageName
    """How far the way goes; each stage holds those before it."""
    waits_s: tuple[SignedSeconds, ...]
    """Seconds that the training process spent on each measured batch."""
    num_examples: Count
    """Measured examples."""
    valid_pixels: Pixels
    """Sum of their height x width."""
    padded_pixels: Pixels
    """Sum of the canvases' pixels."""
    payload_bytes: Bytes
    """Bytes of the batches that came from worker processes."""
    start_up_s: SignedSeconds | None
    """Seconds from asking for the workers to the first batch; None without workers."""
    host_bytes: Bytes | None
    """Memory of the process and its workers after the last batch, shared memory counted once; None where unknown."""
    stop: Stop
    """Why measuring ended."""
    is_cold: bool = False
    """Whether the files had to come from the disk."""
    cached_ratio: Ratio | None = None
    """Share of the files that the operating system still had in memory before a cold stage; None where unknown."""

    @property
    def wall_time_s(self) -> float:
        """Seconds that all measured batches took."""
        return sum(self.waits_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class CanvasReading:
    """What a compute trial saw of one canvas."""

    height: Pixels
    """Height of the canvas in pixels."""
    width: Pixels
    """Width of the canvas in pixels."""
    first_seen_s: SignedSeconds
    """The first step on this canvas; against later ones it pays for plans, compilation and new memory."""
    peak_allocated_bytes: Bytes | None
    """Most bytes held by tensors at once: in the measured steps (CUDA), in a step of its own after them (CPU)."""
    peak_reserved_bytes: Bytes | None
    """Most bytes held by the caching allocator by the end of the measured steps (CUDA)."""
    host_growth_bytes: SignedBytes | None
    """Growth of the process's resident set from before the first step on this canvas to after the last."""
    flop_per_step: Count | None
    """Floating-point operations of forward and backward passes of one step, a multiplication and an addition as two,
    without recomputation under checkpointing; torch's counter."""
    stop: Stop
    """Why measuring this canvas ended."""


Metric = Literal[
    "status",  # how the trial ended
    "time",  # of a step, a megapixel or a benchmark's round
    "memory",  # most bytes held by tensors
    "reserved",  # most bytes held by the caching allocator
    "padding",  # padded pixels per valid pixel of what was measured
    "epoch_padding",  # the same of the plan of all training examples
    "shapes",  # canvases of an epoch's plan
    "operators",  # operations of one step
]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""What a candidate is compared with its baseline in."""
