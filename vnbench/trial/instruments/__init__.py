"""Instruments that need torch: memory, times and a description of the device."""
