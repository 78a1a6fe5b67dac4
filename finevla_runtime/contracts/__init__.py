"""Frozen values and protocols that every flow of the runtime shares."""
