"""The command lines of the demo: what a user would type, stage by stage."""

import csv
from collections.abc import Sequence
from pathlib import Path

from curation.sample.world import World
from manifests.durable import replacing, write_text
from manifests.errors import InputError

WEIGHTS_DIR = Path(__file__).parent / "weights"

LABELLED_EVERY = 3
"""Of the sample's truth, every third row plays the pictures that a user labels to calibrate the screen."""

MAX_LOST = "0.05"
"""The sample's goal: 19 pictures that are truly out will do to fit on, which is half of some fifty."""

REAL_MAX_LOST = "0.01"
"""Of the real pictures: 99 will do, and there are some 125."""

_TINY_CLASSIFIER = (
    "--model", "test_resnet", "--n-classes", "24", "--name", "tiny", "--preprocess", "input_size_px=96",
    "--preprocess", "crop_fraction=1.0", "--preprocess", "crop_mode=squash",
)  # fmt: skip
_REAL_CLASSIFIER = (
    "--model", "mobilenetv2_100", "--n-classes", "1000", "--model-arg", "pad_type=same",
    "--preprocess", "mean=0.5,0.5,0.5", "--preprocess", "std=0.5,0.5,0.5",
    "--preprocess", "interpolation=bilinear",
)  # fmt: skip
_REAL_DIM = "256"
"""D of the principal space: the authors' 512 exceeds the 452 pictures that there are to fit it on."""

Commands = Sequence[Sequence[str]]


_BROKEN_SHARE = "0.15"
"""The sample's world has broken and missing pictures on purpose, 8 in 100; `download` takes 5 for a failed run."""


def commands_to_manifest(world: World, base_url: str, labelled_path: Path) -> Commands:
    """Return the commands that take the embedded sample from metadata to a frozen set; all lack ``--workspace``.

    Parameters
    ----------
    world : World
        The sample.
    base_url : str
        A mirror of its pictures.
    labelled_path : Path
        As `write_labelled` wrote it.
    """
    classes = ("--classes", str(world.classes_path))
    calibration_path = world.root.parent / "calibration.json"
    return [
        ("candidates", "--metadata", str(world.metadata_path)),
        ("download", "--base-url", base_url, "--allow-private", "--max-failures", _BROKEN_SHARE),
        ("embed", *_tiny_clip(), "--tiles", "3"),
        ("quality",),
        ("calibrate", "--labelled", str(labelled_path), "--max-lost", MAX_LOST, *classes),
        ("screen", "--calibration", str(calibration_path), *classes),
        ("simulate-annotators", "--truth", str(world.truth_path), "--annotators", "careful,careful"),
        ("consensus",),
        ("build-manifest", "--name", "openimage_o", "--version", "1.0.0"),
    ]  # fmt: skip


def commands_to_report(
    world: World, classifier_path: Path, manifest: str, certificate_path: Path | None
) -> Commands:
    """Return the commands that take a frozen set of the embedded sample to scores and report.

    Parameters
    ----------
    world : World
        The sample.
    classifier_path : Path
        Weights of the tiny classifier.
    manifest : str
        The version to export and to score on.
    certificate_path : Path or None
        What it is certified by.
    """
    classifier = (*_TINY_CLASSIFIER, "--checkpoint", str(_short(classifier_path)))
    certified = () if certificate_path is None else ("--contamination", str(certificate_path))
    return [
        ("verify-manifest", manifest, "--deep"),
        ("export", "--format", "openood", "--pictures", "--manifest", manifest),
        ("extract-features", *classifier, "--set", "train", "--images", str(world.imagenet_train_dir),
         "--labels", str(world.train_labels_path)),
        ("extract-features", *classifier, "--set", "val", "--images", str(world.imagenet_val_dir),
         "--labels", str(world.val_labels_path)),
        ("extract-features", *classifier, "--set", "openimage_o", "--manifest", manifest),
        ("score", "--train", "train", "--val", "val", "--ood", "openimage_o", *certified),
        ("plot",),
        ("status",),
        ("report",),
    ]  # fmt: skip


def real_commands(data_dir: Path, lists_dir: Path, base_url: str) -> Commands:
    """Return the commands that take a folder of real pictures through the stages; all lack ``--workspace``.

    Parameters
    ----------
    data_dir : Path
        With ``pool/`` (images.csv, test/, truth.csv), ``imagenet_val/`` (pictures, labels.csv), ``classifier/``
        and ``lists/``.
    lists_dir : Path
        Where `write_real_lists` put the lists that it derived from the truth table.
    base_url : str
        A mirror of ``pool/``.
    """
    pool, lists = data_dir / "pool", data_dir / "lists"
    calibration_path = lists_dir.parent / "calibration.json"
    classifier = (*_REAL_CLASSIFIER, "--checkpoint", str(data_dir / "classifier" / "mobilenetv2_100.safetensors"))
    return [
        ("candidates", "--metadata", str(pool / "images.csv")),
        ("download", "--base-url", base_url, "--allow-private"),
        ("embed", *_tiny_clip(), "--tiles", "2"),
        ("extract-features", *classifier, "--set", "candidates"),
        ("embed", "--features", "mobilenetv2_100", "--set", "candidates"),
        ("quality",),
        ("calibrate", "--labelled", str(pool / "truth.csv"), "--max-lost", REAL_MAX_LOST,
         "--embeddings", "mobilenetv2_100"),
        ("screen", "--calibration", str(calibration_path), "--embeddings", "mobilenetv2_100"),
        ("extract-features", *classifier, "--set", "train", "--images", str(pool / "test"),
         "--labels", str(lists_dir / "in_labels.csv"), "--image-ids", str(lists_dir / "in.txt")),
        ("extract-features", *classifier, "--set", "val", "--images", str(data_dir / "imagenet_val"),
         "--labels", str(data_dir / "imagenet_val" / "labels.csv")),
        ("extract-features", *classifier, "--set", "textures", "--image-ids", str(lists_dir / "out.txt")),
        ("score", "--train", "train", "--val", "val", "--ood", "textures", "--dim", _REAL_DIM),
        ("build-manifest", "--from-list", f"val={lists / 'openood_val_openimage_o.txt'}",
         "--from-list", f"test={lists / 'openood_test_openimage_o.txt'}"),
        ("export", "--format", "openood"),
        ("status",),
    ]  # fmt: skip


def write_labelled(truth_path: Path, path: Path) -> None:
    """Write every `LABELLED_EVERY`-th row of a sample's truth, which is sorted by image id."""
    header, *rows = truth_path.read_text(encoding="utf-8").splitlines(keepends=True)
    write_text(path, "".join([header, *rows[::LABELLED_EVERY]]))


def write_real_lists(data_dir: Path, lists_dir: Path) -> None:
    """Write ``in.txt``, ``out.txt`` and ``in_labels.csv`` from the pool's truth table.

    Raises
    ------
    InputError
        `data_dir` is not such a folder.
    """
    path = data_dir / "pool" / "truth.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        chosen = {word: [row for row in rows if row["truth"] == word] for word in ("in", "out")}
        labels = [(f"{row['image_id']}.jpg", row["class_index"]) for row in chosen["in"]]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"--real {data_dir}: expected pool/truth.csv with image_id, truth, class_index ({error})"
        ) from error
    for word, of_word in chosen.items():
        write_text(lists_dir / f"{word}.txt", "".join(f"{row['image_id']}\n" for row in of_word))
    with replacing(lists_dir / "in_labels.csv") as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([("file", "class_index"), *labels])


def _tiny_clip() -> tuple[str, ...]:
    weights_dir = _short(WEIGHTS_DIR)
    return ("--model", f"{weights_dir}/tiny_clip.json", "--pretrained", f"{weights_dir}/tiny_clip.safetensors")


def _short(path: Path) -> Path:
    """Return `path` as a user in this folder would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
