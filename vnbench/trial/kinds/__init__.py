"""The kinds of trials: what each one measures."""
