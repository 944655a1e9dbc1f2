"""``bench duplicates``: what the search finds of copies planted among real pictures, by how each was made.

Every picture of a folder is put into a workspace of its own, every second one with a copy made in one of the ways
of `COPIES`, in turn. Recall is the share of copies in one group with their source; precision the share of pictures
called a duplicate whose representative is of the same source. Pictures of the folder that are truly the same count
as wrong, as nobody said that they are: they are listed, to be looked at.
"""

import hashlib
import io
import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from curation.duplicates.find import find_duplicates
from curation.duplicates.rules import DuplicateRules
from curation.embedding_store import EmbeddingStore
from manifests import schema
from manifests.durable import write_bytes
from manifests.errors import InputError, UnreadableImageError
from manifests.images import jpeg_bytes, read_image
from manifests.workspace import Workspace

LARGEST_SIDE_PX = 512
"""Pictures are made smaller first, as the ways of copying are what is measured, and not the decoder."""

_QUALITY = 85

Copy = Callable[[Image.Image, np.random.Generator], Image.Image]


def _scaled(image: Image.Image, share: float) -> Image.Image:
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(size, Image.Resampling.BICUBIC)


def _cropped(width_share: float, height_share: float) -> Copy:
    def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = round(image.width * width_share), round(image.height * height_share)
        left = int(rng.integers(image.width - width + 1))
        top = int(rng.integers(image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return crop


def _mirrored(image: Image.Image, _: np.random.Generator) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _re_encoded(quality: int) -> Copy:
    def re_encode(image: Image.Image, _: np.random.Generator) -> Image.Image:
        return Image.open(io.BytesIO(jpeg_bytes(image, quality))).convert("RGB")

    return re_encode


def _lettered(height_share: float) -> Copy:
    def letter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
        place = (image.width * rng.uniform(0, 0.5), image.height * rng.uniform(0.1, 0.8))
        font = ImageFont.load_default(size=max(10, round(image.height * height_share)))
        ImageDraw.Draw(layer).text(place, "(c) sample photo", font=font, fill=(255, 255, 255, 160))
        return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")

    return letter


def _with_logo(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    marked = image.copy()
    side = min(image.size) // 4
    left = int(rng.integers(2)) * (image.width - side)
    top = int(rng.integers(2)) * (image.height - side)
    ImageDraw.Draw(marked).ellipse((left, top, left + side, top + side), fill=(200, 30, 30))
    return marked


def _turned(degrees: float) -> Copy:
    return lambda image, _: image.rotate(degrees, Image.Resampling.BICUBIC)


COPIES: Mapping[str, Copy] = {
    "JPEG quality 90": _re_encoded(90),
    "JPEG quality 30": _re_encoded(30),
    "resized to 50 %": lambda image, _: _scaled(image, 0.5),
    "resized to 25 %": lambda image, _: _scaled(image, 0.25),
    "mirrored": _mirrored,
    "cropped to 90 %": _cropped(0.9, 0.9),
    "cropped to 80 %": _cropped(0.8, 0.8),
    "cropped to 70 %": _cropped(0.7, 0.7),
    "cropped to 60 %": _cropped(0.6, 0.6),
    "cropped to 50 %": _cropped(0.5, 0.5),
    "cropped to 75 % of the width": _cropped(0.75, 1.0),
    "cropped to 75 % of the height": _cropped(1.0, 0.75),
    "mirrored and cropped to 80 %": lambda image, rng: _cropped(0.8, 0.8)(_mirrored(image, rng), rng),
    "letters 8 % high": _lettered(0.08),
    "letters 20 % high": _lettered(0.2),
    "logo in a corner": _with_logo,
    "brighter by 40 %": lambda image, _: ImageEnhance.Brightness(image).enhance(1.4),
    "darker by 40 %": lambda image, _: ImageEnhance.Brightness(image).enhance(0.6),
    "contrast 60 %": lambda image, _: ImageEnhance.Contrast(image).enhance(0.6),
    "grey": lambda image, _: image.convert("L").convert("RGB"),
    "turned by 3 degrees": _turned(3),
    "turned by 8 degrees": _turned(8),
}
"""How copies are made; shares are of a side, the place of a crop or mark is drawn."""


@dataclass(frozen=True)
class Recall:
    """What was found of the copies made in one way."""

    copy: str
    n_planted: int
    n_found: int

    @property
    def recall(self) -> float | None:
        """Share of them that was found; None where fewer pictures than ways left none."""
        return self.n_found / self.n_planted if self.n_planted else None


@dataclass(frozen=True)
class DuplicateBench:
    """What was planted and found.

    Attributes
    ----------
    n_pictures : int
        Pictures of the folder.
    planted, found : Counter
        Copies by the way they were made.
    n_called, n_right : int
        Pictures called a duplicate, and those whose representative is of the same source.
    missed : list of tuple of str
        File and way of each copy that was not found.
    others : list of tuple of str
        Pairs of files whose pictures were put into one group though they are of different sources.
    """

    n_pictures: int
    planted: Counter[str]
    found: Counter[str]
    n_called: int
    n_right: int
    missed: list[tuple[str, str]]
    others: list[tuple[str, str]]

    @property
    def recalls(self) -> list[Recall]:
        """Of every way that copies were made in, and of all together in the end."""
        by_way = [Recall(way, n, self.found[way]) for way, n in self.planted.items()]
        return [*by_way, Recall("all", self.planted.total(), self.found.total())]

    @property
    def precision(self) -> float | None:
        """Share of those called a duplicate that are right; None where none is."""
        return self.n_right / self.n_called if self.n_called else None

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "n_pictures": self.n_pictures,
            "copies": [{**asdict(one), "recall": one.recall} for one in self.recalls],
            "n_called": self.n_called,
            "n_right": self.n_right,
            "precision": self.precision,
            "missed": [{"path": path, "copy": way} for path, way in self.missed],
            "others": self.others,
        }

    def table(self) -> str:
        """Return the figures as a table to print."""
        lines = [f"{'copy':32} planted  found  recall"]
        for one in self.recalls:
            lines.append(f"{one.copy:32} {one.n_planted:7,} {one.n_found:6,} {_share(one.recall, 3):>7}")
        called = f"{self.n_right:,} of {self.n_called:,} called a duplicate"
        lines.append(f"precision {_share(self.precision, 4)}: {called}")
        lines += [f"  of different sources: {first} and {second}" for first, second in self.others]
        return "\n".join(lines)


def bench_duplicates(
    pictures_dir: Path,
    workdir: Path,
    rules: DuplicateRules,
    *,
    embed: Callable[[Workspace], object] | None = None,
    most_pictures: int | None = None,
    seed: int = 0,
) -> dict[str, DuplicateBench]:
    """Plant copies among the pictures below a folder, look for duplicates, and return what was found, and how.

    Parameters
    ----------
    pictures_dir : Path
        JPEG or PNG files at any depth.
    workdir : Path
        The pictures are written below it, and deleted at the end.
    rules : DuplicateRules
        What a duplicate is.
    embed : callable, optional
        Embeds the pictures of a workspace; then the search is made twice, by hashes alone and with embeddings.
    most_pictures : int, optional
        Take so many, evenly spread over the sorted files.
    seed : int
        Draws the places of crops and marks.

    Raises
    ------
    InputError
        The folder holds no picture that can be read.
    """
    paths = sorted(path for path in pictures_dir.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = paths[:: -(-len(paths) // most_pictures)] if most_pictures else paths
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        workspace = Workspace(Path(folder))
        sources, ways = _plant(workspace, paths, seed)
        if not sources:
            raise InputError(f"{pictures_dir}: holds no picture that can be read")
        results = {"hashes alone": _counted(sources, ways, find_duplicates(workspace, rules))}
        if embed is not None:
            embed(workspace)
            store = EmbeddingStore.choose(workspace, None)
            kept_of = find_duplicates(workspace, rules, store=store)
            results[f"hashes and {store.key.model}"] = _counted(sources, ways, kept_of)
        return results


def _plant(workspace: Workspace, paths: Sequence[Path], seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Write pictures and copies; return the source's file of each image id, and how each copy was made."""
    candidates, downloads = [], []
    sources: dict[str, str] = {}
    ways: dict[str, str] = {}
    turns = itertools.cycle(COPIES)
    for number, (path, image) in enumerate(_readable(paths)):
        image.thumbnail((LARGEST_SIDE_PX, LARGEST_SIDE_PX))
        way = next(turns) if number % 2 == 0 else None
        copy = COPIES[way](image, np.random.default_rng([seed, number])) if way else None
        for made, picture in ((None, image), (way, copy)):
            if picture is None:
                continue
            image_id = hashlib.blake2b(f"{path} {made}".encode(), digest_size=8).hexdigest()
            sources[image_id] = str(path)
            if made:
                ways[image_id] = made
            candidate, download = _written(workspace, image_id, picture)
            candidates.append(candidate)
            downloads.append(download)
    workspace.write(schema.CANDIDATES, candidates)
    workspace.write(schema.DOWNLOADS, downloads)
    return sources, ways


def _readable(paths: Sequence[Path]) -> Iterator[tuple[Path, Image.Image]]:
    for path in paths:
        try:
            yield path, read_image(path)
        except UnreadableImageError:
            continue


def _written(
    workspace: Workspace, image_id: str, image: Image.Image
) -> tuple[dict[str, object], dict[str, object]]:
    content = jpeg_bytes(image, _QUALITY)
    path = workspace.relative_image_path(image_id)
    write_bytes(workspace.root / path, content)
    return {"image_id": image_id, "subset": "test", "url": "planted"}, {
        "image_id": image_id, "status": "ok", "attempts": 1, "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content), "width_px": image.width, "height_px": image.height, "path": path,
    }  # fmt: skip


def duplicates_table(results: Mapping[str, DuplicateBench]) -> str:
    """Return the figures of every way of searching as a text to print."""
    return "\n\n".join(f"duplicates by {way}:\n{result.table()}" for way, result in results.items())


def _share(value: float | None, n_digits: int) -> str:
    return "-" if value is None else f"{value:.{n_digits}f}"


def _counted(sources: Mapping[str, str], ways: Mapping[str, str], kept_of: Mapping[str, str]) -> DuplicateBench:
    source_ids = {source: image_id for image_id, source in sources.items() if image_id not in ways}
    planted, found = Counter(dict.fromkeys(COPIES, 0)), Counter[str]()
    missed = []
    for image_id, way in ways.items():
        source_id = source_ids[sources[image_id]]
        planted[way] += 1
        if kept_of.get(image_id, image_id) == kept_of.get(source_id, source_id):
            found[way] += 1
        else:
            missed.append((sources[image_id], way))
    wrong = {(sources[a], sources[b]) for a, b in kept_of.items() if sources[a] != sources[b]}
    n_right = sum(sources[image_id] == sources[kept] for image_id, kept in kept_of.items())
    return DuplicateBench(len(source_ids), planted, found, len(kept_of), n_right, sorted(missed), sorted(wrong))
