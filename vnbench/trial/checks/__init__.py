"""Checks that a step computes correctly before its time counts."""
