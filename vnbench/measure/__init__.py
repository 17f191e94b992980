"""Instruments that work without torch: the state and telemetry of the host and its GPU."""
