"""Pictures of a calibration and of what the screen saw: the home of matplotlib in curation."""
