"""Instruments that read torch: memory, times, what the device says of itself."""
