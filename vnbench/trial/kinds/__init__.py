"""The kinds of trials: what each one measures, a module each; memory has two, for a real step and a traced one."""
