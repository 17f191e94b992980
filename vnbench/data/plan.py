"""The name that vnbench.batching.plan had in earlier versions."""

from vnbench.batching.plan import BatchPlan, MicroBatch, PlanConfig

__all__ = ["BatchPlan", "MicroBatch", "PlanConfig"]
