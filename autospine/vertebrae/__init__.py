"""Vertebrae as individuals: where each one is, what it is called, and whether all of it is in view."""
