"""hwtune: finds the best classifier for a set of handwriting, and proves that it is the best."""

__version__ = "0.1.0"
