"""The command line of a next step: which options a stage is given again, and what stands for the user's own."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from manifests.run_report import NextStep
from manifests.stage_state import record_of
from manifests.workspace import Workspace

EXAMPLE_CLIP = ("--model", "ViT-B-32", "--pretrained", "laion2b_s34b_b79k")
_EXAMPLE_CLASSIFIER = ("--model", "resnet50.tv_in1k")
EXAMPLE_SETS = {
    "train": ("--images", "imagenet/train", "--labels", "train.csv"),
    "val": ("--images", "imagenet/val", "--labels", "val.csv"),
}
# Words of the examples above, of annotators and of labelled pictures that stand for the user's own.
_PLACEHOLDERS = ("NAME", "imagenet/train", "imagenet/val", "train.csv", "val.csv", "truth.csv")

_MODEL_OPTIONS = (
    "model", "checkpoint", "n_classes", "model_arg", "preprocess", "clip", "pretrained", "classes", "templates",
    "name",
)  # fmt: skip


def step_of(workspace: Workspace, words: Iterable[str], why: str) -> NextStep:
    """Return a command on the workspace as a next step.

    Parameters
    ----------
    workspace : Workspace
        For ``--workspace``.
    words : iterable of str
        The command and its other options; words of examples are told as placeholders.
    why : str
        In words.
    """
    words = list(words)
    placeholders = [word for word in _PLACEHOLDERS if word in words]
    why += f"; put your own for {', '.join(placeholders)}" if placeholders else ""
    command = shlex.join(["python", "cli.py", *words, "--workspace", str(workspace.root)])
    return NextStep(command, why, placeholders)


def embed_options(key: Mapping[str, Any]) -> list[str]:
    """Return the options of `embed` that lead to the store with this description."""
    model, pretrained = str(key.get("model", "")), str(key.get("pretrained", ""))
    if key.get("source") == "features":
        return ["--features", model, "--set", pretrained]
    words = ["--tiles", str(key.get("grid", 0))]
    if key.get("source") == "classifier":
        settings = key.get("settings", {})
        words = ["--classifier", model, *(["--checkpoint", pretrained] if pretrained else []), *words]
        words += ["--n-classes", str(settings["n_classes"])] if settings.get("n_classes") else []
        words += [
            word
            for pair in settings.get("model_arguments", {}).items()
            for word in ("--model-arg", "=".join(pair))
        ]
        words += [word for one in settings.get("preprocess", ()) for word in ("--preprocess", one)]
    else:
        words = ["--model", model, *(["--pretrained", pretrained] if pretrained else []), *words]
    return [*words, *(["--fast-decode"] if key.get("decoding") == "fast" else [])]


def localize_options(given: Mapping[str, Any]) -> list[str]:
    """Return the options of `localize` that choose the localizer of the run with these arguments."""
    names = ["checkpoint", "model", "pretrained", "embeddings"]
    # With a checkpoint, which asks for no prompts, the option is refused.
    names += [] if given.get("checkpoint") else ["templates"]
    return option_words({name: given[name] for name in names if given.get(name)})


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Return options as the words of a command line, by their names in a record; a list gives its option again."""
    words = []
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", str(one)]
    return words


def classifier_options(workspace: Workspace, features_dir: Path | None) -> Sequence[str]:
    """Return the options that `extract-features` was given for the sets that are there."""
    records = workspace.record_names(f"extract-features.{features_dir.name}.") if features_dir is not None else []
    if not records:
        return _EXAMPLE_CLASSIFIER
    given = record_of(workspace, records[0]).get("arguments", {})
    return option_words({name: given[name] for name in _MODEL_OPTIONS if name in given})
