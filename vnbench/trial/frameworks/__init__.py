"""Training frameworks that run the steps of a trial: Lightning's Trainer and Fabric."""
