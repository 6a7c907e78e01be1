"""The vocabulary: value objects that need nothing but numpy and the standard library."""
