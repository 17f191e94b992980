"""Declare the properties of each precision once, for modules with and without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from vnbench.records.spec.words import DeviceType, Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic:
    """The arithmetic of convolutions and matrix products in one precision, and the devices that support it."""

    autocast: Literal["bfloat16", "float16"] | None = None
    """torch's name of the type that autocast converts inputs to; None without autocast (fp32, tf32)."""
    scales_loss: bool = False
    """Whether the loss must be scaled up, because small gradients would become 0."""
    fp32_products: Literal["ieee", "tf32"] = "ieee"
    """Value of ``fp32_precision`` of torch's libraries: the arithmetic of products whose inputs are fp32."""
    significant_bits: int
    """Bits to which the check of a step rounds weights and images, to measure the effect of rounding alone."""
    tolerance: float = 3.0
    """Largest error of a step, as a multiple of the error from that rounding; see vnbench.trial.checks.equality."""
    capability: tuple[int, int] = (0, 0)
    """Lowest compute capability from which all NVIDIA GPUs have units for it."""
    earlier_capabilities: frozenset[tuple[int, int]] = frozenset()
    """Lower compute capabilities that also have units for it."""
    onednn_question: str | None = None
    """Function of ``torch.ops.mkldnn`` that returns whether a CPU has instructions for it; None if all CPUs do."""
    is_cuda_only: bool = False
    """Whether no CPU supports it."""
    swept_on: frozenset[DeviceType]
    """Devices on which a sweep measures it by default."""

    @property
    def is_reduced(self) -> bool:
        """Whether it runs under autocast; only under autocast can a norm's precision differ from its input's.

        A device without units for it emulates a reduced precision, far slower than fp32, and computes any other
        precision as fp32.
        """
        return self.autocast is not None

    @property
    def is_tf32(self) -> bool:
        """Whether products whose inputs are in fp32 are computed in TF32."""
        return self.fp32_products == "tf32"

    @property
    def preference(self) -> tuple[bool, bool, bool]:
        """The sort key among equally fast precisions: reduced first, preferably without loss scaling; fp32 last."""
        return not self.is_reduced, self.scales_loss, not self.is_tf32

    def has_units(self, capability: tuple[int, int]) -> bool:
        """Return whether an NVIDIA GPU of this compute capability has units for it.

        Other GPUs compute it too, by converting to fp32 and back. Source: NVIDIA's CUDA C++ Programming Guide. Section
        "Compute Capabilities": tf32 and bf16 from 8.0. Table "Throughput of Native Arithmetic Instructions" (CUDA
        12.6): 16-bit multiply-adds from 7.0 and on 5.3, 6.0 (P100) and 6.2. 6.1 (GTX 10, P4, P40) has 2 per clock and
        multiprocessor, against 128 in fp32, so it counts as having none.
        """
        return capability >= self.capability or capability in self.earlier_capabilities


PRECISIONS: Mapping[Precision, Arithmetic] = {
    # The check rounds to the bits of TF32, so that TF32 arithmetic does not pass as fp32.
    "fp32": Arithmetic(significant_bits=11, tolerance=0.5, swept_on=frozenset({"cuda", "cpu"})),
    "tf32": Arithmetic(
        fp32_products="tf32",
        significant_bits=11,
        capability=(8, 0),
        is_cuda_only=True,
        swept_on=frozenset({"cuda"}),
    ),
    "bf16": Arithmetic(
        autocast="bfloat16",
        significant_bits=8,
        capability=(8, 0),
        onednn_question="_is_mkldnn_bf16_supported",
        swept_on=frozenset({"cuda", "cpu"}),
    ),
    "fp16": Arithmetic(
        autocast="float16",
        scales_loss=True,
        significant_bits=11,
        capability=(7, 0),
        earlier_capabilities=frozenset({(5, 3), (6, 0), (6, 2)}),
        onednn_question="_is_mkldnn_fp16_supported",
        swept_on=frozenset({"cuda"}),
    ),
}
"""Every precision, in the order for people."""

REDUCED_PRECISIONS: tuple[Precision, ...] = tuple(name for name, one in PRECISIONS.items() if one.is_reduced)


def preferred_first(precisions: Iterable[Precision]) -> tuple[Precision, ...]:
    """Return the precisions with the preferred one first, the others in their order."""
    names = tuple(precisions)
    first = min(names, key=lambda name: PRECISIONS[name].preference)
    return (first, *(name for name in names if name != first))


def swept_precisions(device: DeviceType) -> tuple[Precision, ...]:
    """Return the precisions that a sweep on a device measures by default, the preferred one first."""
    return preferred_first(name for name, one in PRECISIONS.items() if device in one.swept_on)
