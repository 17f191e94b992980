"""Specs of each kind of trial, and the levers that a sweep can vary."""
