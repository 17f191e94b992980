"""Run functions in fresh processes; locks, interrupts and streams."""
