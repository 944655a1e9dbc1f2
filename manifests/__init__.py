"""The common language of all stages: errors, tables, the workspace, reading pictures, frozen manifests."""
