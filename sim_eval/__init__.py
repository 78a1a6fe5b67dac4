"""Simulated evaluation: the embedded tabletop suite and its judges."""
