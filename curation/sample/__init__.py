"""The embedded sample: a small drawn world that stands in for Open Images, ImageNet and CLIP."""
