"""Everything that touches the disk: images, stored arrays, JSON documents, data sets."""
