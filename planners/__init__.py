"""Imported as ``autospine.planners``."""

if __name__ != "autospine.planners":
    # From the checkout, a plain "import planners" would make a second copy of every class in here.
    raise ImportError("Import autospine.planners instead of planners.")
