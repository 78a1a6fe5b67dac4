"""Wire of the policy server: messages, codec, credentials and client."""
