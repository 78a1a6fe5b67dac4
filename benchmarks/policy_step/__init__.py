"""One policy step from observation tensors to rows: every engine beside plain Hugging Face, and the floors."""
