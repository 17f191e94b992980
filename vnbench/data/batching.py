"""vnbench.batching.epoch under its name of earlier versions."""

from vnbench.batching.epoch import own_canvases, plan_epoch, worst_case_budget

__all__ = ["own_canvases", "plan_epoch", "worst_case_budget"]
