"""Lateness of the control loop, seams between chunks, and the age of commands, beside the ways of other projects."""
