"""The FiftyOne App around a judging session: the only place that imports FiftyOne."""
