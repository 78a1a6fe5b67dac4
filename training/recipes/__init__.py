"""Named training recipes: frozen settings with the source of every figure; the command line may override them."""

from __future__ import annotations

from finevla_runtime.contracts.errors import SetupError, unknown_name
from training.recipes.finetuning import FINETUNING_RECIPES
from training.recipes.pretraining import PRETRAINING_RECIPES
from training.recipes.tabletop import TABLETOP_RECIPES, LossSettings, TabletopRecipe
from training.recipes.tiny import TINY_RECIPES
from training.recipes.vla import VLARecipe

__all__ = [
    "RECIPES",
    "AnyRecipe",
    "LossSettings",
    "TabletopRecipe",
    "VLARecipe",
    "find_recipe",
    "tabletop_recipe",
    "vla_recipe",
]

AnyRecipe = TabletopRecipe | VLARecipe
_ALL: tuple[AnyRecipe, ...] = (*TABLETOP_RECIPES, *PRETRAINING_RECIPES, *FINETUNING_RECIPES, *TINY_RECIPES)
RECIPES: dict[str, AnyRecipe] = {recipe.name: recipe for recipe in _ALL}


def find_recipe(name: str) -> AnyRecipe:
    """Return a named recipe (FV-TRN-008 with the nearest match for an unknown one)."""
    if name not in RECIPES:
        raise unknown_name("FV-TRN-008", "recipe", name, RECIPES)
    return RECIPES[name]


def tabletop_recipe(name: str) -> TabletopRecipe:
    """Return a recipe of the tabletop suite (FV-TRN-008 for any other)."""
    found = find_recipe(name)
    if not isinstance(found, TabletopRecipe):
        raise SetupError("FV-TRN-008", f"{name!r} is no recipe of the tabletop suite.")
    return found


def vla_recipe(name: str) -> VLARecipe:
    """Return a recipe of a policy on a vision-language backbone (FV-TRN-008 for any other)."""
    found = find_recipe(name)
    if not isinstance(found, VLARecipe):
        raise SetupError("FV-TRN-008", f"{name!r} is no recipe of a policy on a vision-language backbone.")
    return found
