"""How fast the loader prepares samples, against what a training step eats."""
