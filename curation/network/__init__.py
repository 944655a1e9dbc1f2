"""What stands between a URL and a picture's bytes: whom to ask, how often, how long, and how much to take."""
