"""The commands of features and scores: each parses, calls one function, prints."""
