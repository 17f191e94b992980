"""Which fields each kind of trial needs, and which it may have."""

from __future__ import annotations

from collections.abc import Mapping

KIND_FIELDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "memory": (("worst_case_height", "worst_case_width"), ("soak", "soak_passes", "sampler")),
    "compute": (
        ("canvas_sizes", "num_warm_up_steps", "noise_target", "min_steps", "max_steps", "max_measuring_s"),
        (),
    ),
    "loader": (
        ("sampler", "num_workers", "corpus_id", "subset_size", "max_epochs", "max_measuring_s"),
        ("noise_target", "pixel_budget", "shapes", "cache_limit_bytes"),
    ),
    # Without the optional ones, as in the first records, a trial measures one epoch.
    "training": (
        ("sampler", "num_workers", "corpus_id", "subset_size", "num_warm_up_steps"),
        ("noise_target", "max_epochs", "max_measuring_s", "pixel_budget", "shapes", "cache_limit_bytes"),
    ),
    "probe": (("canvas_sizes", "precisions", "max_measuring_s"), ("sweep_id",)),
}
"""Fields that each kind needs, and those that it may have; it must leave the others out."""
ALL_KIND_FIELDS = sorted({name for groups in KIND_FIELDS.values() for group in groups for name in group})
"""Every field that some kind needs or may have, sorted."""
