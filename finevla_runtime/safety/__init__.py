"""The guard that every command passes, and what has to be true before the first one."""
