"""The built-in synthetic spine: CT scans with exact vertebra masks and body centres."""

from autospine.phantom.dataset import write_dataset
from autospine.phantom.recipe import DEFAULT, DEMO, RECIPES, Recipe
from autospine.phantom.scan import PhantomScan, generate

__all__ = ["DEFAULT", "DEMO", "RECIPES", "PhantomScan", "Recipe", "generate", "write_dataset"]
