"""Draws the pictures of this documentation; run it from the repository's root."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from autospine.phantom import DEFAULT, generate
from autospine.rendering import overlay_png

PICTURES = Path(__file__).parent / "pictures"


def main() -> None:
    """Draw a phantom with its labels."""
    recipe = replace(
        DEFAULT, field_of_view="thoracolumbar", spacing=(1.2, 1.2), anisotropy=(1.0, 1.0), noise=(8.0, 8.0)
    )
    phantom = generate(recipe, 4)
    overlay_png(PICTURES / "phantom_overlay.png", phantom.image, phantom.labels.array[0])


if __name__ == "__main__":
    main()
