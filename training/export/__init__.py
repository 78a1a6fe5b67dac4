"""Export of checkpoints to policy bundles."""
