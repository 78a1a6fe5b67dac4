"""Datasets as training sees them: frame stores, twins, mixtures."""
