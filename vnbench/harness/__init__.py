"""Running trials: one optimizer step, one trial in its own process, one sweep."""
