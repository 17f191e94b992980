"""vnbench.batching.plan under its name of earlier versions."""

from vnbench.batching.plan import BatchPlan, MicroBatch, PlanConfig

__all__ = ["BatchPlan", "MicroBatch", "PlanConfig"]
