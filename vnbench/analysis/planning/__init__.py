"""Plan a whole training run: its time, its memory, and the configuration to choose."""
