"""The `finevla` command: verbs registered by each package as entry points."""
