"""FineVLA Runtime: steerable vision-language-action policies, served, driven and measured."""

__version__ = "0.3.0"
