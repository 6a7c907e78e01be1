"""Imported as ``autospine.trainers``."""

if __name__ != "autospine.trainers":
    # From the checkout, a plain "import trainers" would make a second copy of every class in here.
    raise ImportError("Import autospine.trainers instead of trainers.")
