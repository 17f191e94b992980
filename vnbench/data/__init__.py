"""Old import paths and nothing else: modules of vnbench.batching under their names of earlier versions."""
