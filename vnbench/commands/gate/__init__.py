"""The gate: two sides read, compared, measured in turn, and what a machine's own noise makes of it."""
