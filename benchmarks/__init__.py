"""Side-by-side runs of autospine and its peers on the same synthetic inputs: ``python -m benchmarks``."""
