"""Out-of-distribution scores: features and head out of a classifier, one file a method, metrics and tables."""
