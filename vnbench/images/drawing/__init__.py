"""The drawing of synthetic logs: strips, curves, print, wear and scan."""
