"""Import of StarVLA and FineVLA runs: their weights, statistics and settings, made explicit or refused."""
