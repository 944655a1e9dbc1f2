"""Where the pictures of Open Images lie."""

MIRROR_URL = "https://open-images-dataset.s3.amazonaws.com"
"""The official mirror (pictures of at most 1,024 px a side)."""


def picture_url(base_url: str, subset: str, image_id: str) -> str:
    """Return where the mirror, or one laid out as it, holds a picture: ``<base>/<subset>/<image id>.jpg``."""
    return f"{base_url.rstrip('/')}/{subset}/{image_id}.jpg"
