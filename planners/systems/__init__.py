"""The published vertebra systems, one file each: how they are planned, and where they come from."""
