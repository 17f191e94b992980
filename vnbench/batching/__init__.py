"""Plan which examples share a batch, from their sizes alone; the interface for your own training scripts.

from vnbench.batching import EpochSampler, PlanConfig

sampler = EpochSampler(sizes_N2, PlanConfig(sampler="bucketed", batch_size=16, micro_batch_size=2))
loader = DataLoader(dataset, batch_sampler=sampler)
"""

from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import BatchPlan, MicroBatch, PlanConfig
from vnbench.batching.resume import EpochSampler, PlanState, read_state
from vnbench.batching.sizes import SizeDistribution, draw_sizes, read_sizes_csv

__all__ = [
    "BatchPlan",
    "EpochSampler",
    "MicroBatch",
    "PlanConfig",
    "PlanState",
    "SizeDistribution",
    "draw_sizes",
    "plan_epoch",
    "read_sizes_csv",
    "read_state",
]
