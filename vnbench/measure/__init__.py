"""Instruments: time, memory, device telemetry, environment."""
