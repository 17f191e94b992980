"""Names of earlier versions, for those who import them; vnbench.batching is their home."""
