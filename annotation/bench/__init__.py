"""`bench annotate`: what an annotator waits for, from the opening of a queue to an answer on disk."""
