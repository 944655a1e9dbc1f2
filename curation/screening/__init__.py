"""Screening: which pictures annotators see, with which ten classes, in which order, and what that loses."""
