"""Drawing of synthetic logs: form, curves, wear and scan."""
