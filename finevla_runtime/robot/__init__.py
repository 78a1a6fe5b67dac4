"""One robot body around motion and guard: its topics, units, status and limits."""
