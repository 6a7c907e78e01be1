"""Predictions in the form a challenge wants them, and whether a folder is in that form."""
