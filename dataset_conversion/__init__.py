"""Imported as ``autospine.dataset_conversion``."""

if __name__ != "autospine.dataset_conversion":
    # From the checkout, a plain "import dataset_conversion" would make a second copy of every class in here.
    raise ImportError("Import autospine.dataset_conversion instead of dataset_conversion.")
