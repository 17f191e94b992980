"""vnbench.batching.resume under its name of earlier versions."""

from vnbench.batching.resume import EpochSampler, PlanState, read_state, settings_of

__all__ = ["EpochSampler", "PlanState", "read_state", "settings_of"]
