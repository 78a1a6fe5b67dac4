"""Measurements; each package writes one table."""
