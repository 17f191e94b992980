"""The name that vnbench.batching.epoch had in earlier versions."""

from vnbench.batching.epoch import own_canvases, plan_epoch, worst_case_budget

__all__ = ["own_canvases", "plan_epoch", "worst_case_budget"]
