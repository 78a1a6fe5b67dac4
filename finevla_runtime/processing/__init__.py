"""The one path from camera frames and text to model tensors, and from model rows to joint targets.

Training, serving, simulation and the real robot all call this package; nothing else may resize, normalise,
permute or build prompts. Train/test mismatch in these steps is the field's costliest silent bug.
"""
