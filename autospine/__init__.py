"""autospine: self-configuring segmentation of the vertebrae in spine CT."""

__version__ = "0.1.0"
