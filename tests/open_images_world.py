"""Made-up files of Open Images, in its formats: tables of images (V3), of labels, and of the names of classes."""

import base64
import csv
import hashlib
import io

V3 = [
    "ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title",
    "OriginalSize", "OriginalMD5", "Thumbnail300KURL",
]  # fmt: skip
MD5 = hashlib.md5(b"original").digest()

LABELS_HEADER = ["ImageID", "Source", "LabelName", "Confidence"]
JAGUAR, DRUM, HAT = "/m/0449p", "/m/026t6", "/m/02dl1y"
CLASS_NAMES = [(JAGUAR, "Jaguar"), (DRUM, "Drum"), (HAT, 'Hat, "any"')]


def cells(image_id="000026e7ee790996", subset="test", **changes):
    """A row of the table of images, by column."""
    row = dict(zip(V3, [
        image_id, subset, "https://farm7.staticflickr.com/1/a_o.jpg", "https://www.flickr.com/photos/x/1",
        "https://creativecommons.org/licenses/by/2.0/", "https://www.flickr.com/people/x/",
        'Ana "A", X', "Dôme,\nat night",
        "1234", base64.b64encode(MD5).decode(), "",
    ], strict=True))  # fmt: skip
    return row | changes


def images_csv(rows, columns=None):
    """A table of images."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns or V3, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write_csv(path, rows, columns=None):
    path.write_text(images_csv(rows, columns), encoding="utf-8")
    return path


def labels_csv(rows, header=LABELS_HEADER):
    """A table of labels, or of the names of classes."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *rows] if header else rows)
    return stream.getvalue()
