"""Open Images' published tables: read in blocks, sorted on disk, fetched by name."""
