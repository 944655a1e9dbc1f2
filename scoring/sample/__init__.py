"""The embedded sample's classifier: tiny weights that mean something on the drawn world, and their training."""
