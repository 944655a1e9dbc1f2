"""`bench screen`: what embedding, hashing, comparing and searching cost here, beside limits and rivals."""
