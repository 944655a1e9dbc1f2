"""Where in a picture is what a phrase or a class names: evidence masks, trained and without training."""
