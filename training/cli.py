"""Verbs `finevla train` and `finevla export`: they find out what is asked for and import no more than that needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from finevla_runtime.cli.options import EXIT_USAGE, listing
from finevla_runtime.cli.verbs import did_you_mean

USAGE = "usage: finevla train RECIPE [options]"


def train(argv: Sequence[str]) -> int:
    """Train a policy from demonstrations by a named recipe."""
    from training.recipes import RECIPES, TabletopRecipe

    name = argv[0] if argv else "--help"
    if name in ("-h", "--help", "--list"):
        sys.stdout.write(listing(USAGE, {known: recipe.summary for known, recipe in RECIPES.items()}))
        return 0 if argv else EXIT_USAGE
    if name not in RECIPES:
        sys.stderr.write(
            f"finevla train: unknown recipe '{name}'.{did_you_mean(name, RECIPES)} Known: {', '.join(RECIPES)}.\n"
        )
        return EXIT_USAGE
    if isinstance(RECIPES[name], TabletopRecipe):
        from training.tabletop_cli import train_tabletop

        return train_tabletop(name, argv[1:])
    from training.vla_cli import train_recipe

    return train_recipe(name, argv[1:])


def export(argv: Sequence[str]) -> int:
    """Export a training checkpoint as a policy bundle."""
    from training.export_cli import export_checkpoint

    return export_checkpoint(argv)
