"""Loads policy bundles, runs them and answers gRPC."""
