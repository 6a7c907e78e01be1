"""How good predictions are, measured against reference masks."""
