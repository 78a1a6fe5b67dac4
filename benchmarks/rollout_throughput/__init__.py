"""Episodes per minute, CPU cost, query latency and memory of rollouts."""
