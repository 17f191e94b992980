"""Figures of audited training loops."""
