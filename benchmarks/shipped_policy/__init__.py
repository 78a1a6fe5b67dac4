"""The shipped bundle against its bar."""
