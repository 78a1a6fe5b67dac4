"""Round trip of the policy server against the pattern of openpi's server."""
