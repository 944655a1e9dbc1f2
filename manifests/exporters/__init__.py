"""A frozen manifest in the forms that evaluation loaders read: one file a format, `export.py` in front."""
