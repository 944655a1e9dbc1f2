"""What `train-localizer` does: a training by the paper's recipe, or one on drawn scenes, and its figures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from curation.clip import ClipEncoder, load_encoder
from curation.localize.bridger import BridgeSizes
from curation.localize.checkpoints import load_localizer, load_state
from curation.localize.contact_sheet import write_contact_sheet
from curation.localize.decoder import DecoderSizes
from curation.localize.evaluate import LEAST_EVIDENCE, evaluate, fitted_threshold
from curation.localize.heat_map import HeatMap
from curation.localize.localizer import Localizer
from curation.localize.network import NetworkSizes
from curation.localize.referring_set import ReferringExample, read_examples
from curation.localize.scene_clip import make_scene_clip
from curation.localize.scenes import SCENE_PX, SCENES, write_scenes
from curation.localize.towers import VitTower, frozen_towers
from curation.localize.train import (
    LOCALIZER_FILE,
    STATE_FILE,
    TrainingData,
    TrainingPlan,
    train_localizer,
)
from curation.sample.train_clip import CONFIG_PATH, WEIGHTS_PATH
from manifests.work_plan import WorkPlan, weights_to_fetch

SCENE_SIZES = NetworkSizes(
    input_px=SCENE_PX,
    n_words=16,
    bridge=BridgeSizes(width=32, feed_forward=64, dropout=0.0),
    decoder=DecoderSizes(width=64, n_heads=4, n_layers=2, feed_forward=128, dropout=0.0),
)
"""A network that a CPU trains on scenes in minutes."""

SCENE_PLAN = TrainingPlan(n_epochs=10, milestone=7, batch_size=8, learning_rate=1e-3)

N_HELD_OUT_SCENES = 150
"""Scenes to choose the epoch by, and others to judge it by."""

Recipe = TypeVar("Recipe", NetworkSizes, TrainingPlan)

_N_FOR_THRESHOLD = 100
_N_ON_SHEET = 24


@dataclass(frozen=True)
class ModelOfTowers:
    """The CLIP model whose towers are bridged.

    Attributes
    ----------
    model, pretrained : str or None
        As `curation.clip.load_encoder` takes them; without `model`, the sample's tiny CLIP, whose heat map is then
        put beside a localizer on `curation.localize.scene_clip`.
    device : str
        Where to train.
    """

    model: str | None = None
    pretrained: str | None = None
    device: str = "auto"

    def load(self) -> ClipEncoder:
        """Return the model."""
        if self.model is None:
            return load_encoder(str(CONFIG_PATH), str(WEIGHTS_PATH), self.device)
        return load_encoder(self.model, self.pretrained, self.device)


@dataclass(frozen=True)
class LayoutChoice:
    """A referring set in the layout of `curation.localize.referring_set`.

    Attributes
    ----------
    root : Path
        Its root.
    dataset : str
        ``refcoco``, ``refcoco+``, ``refcocog_u``, ``refcocog_g``, or any other that lies there.
    test_splits : sequence of str
        Judged at the end, all phrases of each example; ``train`` is learnt from, ``val`` chooses the epoch.
    n_workers : int
        Threads that read pictures.
    """

    root: Path
    dataset: str
    test_splits: Sequence[str] = ()
    n_workers: int = 4


def train_on_layout(
    towers: ModelOfTowers,
    layout: LayoutChoice,
    given: Mapping[str, Any],
    *,
    out_dir: Path,
    announce: Callable[[str], None],
) -> list[str]:
    """Train by the paper's recipe but for what is `given`, and return the figures of the test splits as lines."""
    encoder = towers.load()
    n_heads = 8 if isinstance(frozen_towers(encoder.network).image, VitTower) else 4
    sizes = _replaced(NetworkSizes(bridge=BridgeSizes(n_heads=n_heads)), given)
    plan = _replaced(TrainingPlan(), given)
    splits = {
        name: read_examples(layout.root, layout.dataset, name) for name in ("train", "val", *layout.test_splits)
    }
    data = TrainingData(splits["train"], splits["val"], layout.n_workers)
    train_localizer(encoder, sizes, plan, data, out_dir=out_dir, announce=announce)
    localizer = load_localizer(out_dir / LOCALIZER_FILE, encoder)
    lines = [line for name in layout.test_splits for line in _figure_lines(name, localizer, splits[name])]
    write_contact_sheet(out_dir / "contact_sheet.png", splits["val"][:_N_ON_SHEET], [(localizer, LEAST_EVIDENCE)])
    return lines


def train_on_scenes(
    towers: ModelOfTowers,
    n_scenes: int,
    given: Mapping[str, Any],
    *,
    out_dir: Path,
    announce: Callable[[str], None],
) -> list[str]:
    """Draw scenes, train a small network on them, and return its figures and the heat map's on scenes held out."""
    encoder = make_scene_clip(out_dir, towers.device) if towers.model is None else towers.load()
    if encoder.device.type == "cpu":
        # Layers this small are done before a second thread has woken.
        torch.set_num_threads(1)
    sizes, plan = _replaced(SCENE_SIZES, given), _replaced(SCENE_PLAN, given)
    root = out_dir / SCENES
    write_scenes(root, {"train": n_scenes, "val": N_HELD_OUT_SCENES, "test": N_HELD_OUT_SCENES}, plan.seed)
    train, val, test = (read_examples(root, SCENES, split) for split in ("train", "val", "test"))
    train_localizer(encoder, sizes, plan, TrainingData(train, val), out_dir=out_dir, announce=announce)
    trained, baseline = load_localizer(out_dir / LOCALIZER_FILE, encoder), phrase_heat_map(towers.load())
    threshold = fitted_threshold(baseline, train[:_N_FOR_THRESHOLD])
    write_contact_sheet(
        out_dir / "contact_sheet.png", test[:_N_ON_SHEET], [(trained, LEAST_EVIDENCE), (baseline, threshold)]
    )
    return [
        *_figure_lines("trained", trained, test),
        *_figure_lines(f"heat map, from {threshold:g} on (fitted on training scenes)", baseline, test, threshold),
    ]


def plan_training(
    towers: ModelOfTowers, given: Mapping[str, Any], *, n_scenes: int | None, root: Path | None, out_dir: Path
) -> WorkPlan:
    """Return how many epochs are left of a training on scenes, or on the layout in `root`, by its last state.

    Raises
    ------
    InputError
        What is `given` is not possible.
    ModelError
        The state cannot be read.
    """
    plan = _replaced(TrainingPlan() if n_scenes is None else SCENE_PLAN, given)
    state = out_dir / STATE_FILE
    n_done = len(load_state(state)["history"]) if state.exists() else 0
    reads = [
        f"the referring set in {root}" if n_scenes is None else f"{n_scenes:,} scenes, drawn first if need be"
    ]
    fetches = [] if towers.model is None else weights_to_fetch(towers.model, towers.pretrained or "")
    return WorkPlan(
        max(0, plan.n_epochs - n_done), n_done, unit="epochs", reads=reads, fetches=fetches, writes=[str(out_dir)]
    )  # fmt: skip


def phrase_heat_map(encoder: ClipEncoder) -> HeatMap:
    """Return CLIP's heat map of phrases: no class of a label space is a rival there, only what is no object."""
    encode_names = partial(encoder.encode_class_names, template_set="simple")
    return HeatMap.of_label_space(encoder, encode_names, (), np.zeros((0, encoder.n_dimensions), np.float32))


def _figure_lines(
    name: str, localizer: Localizer, examples: Sequence[ReferringExample], threshold: float = LEAST_EVIDENCE
) -> list[str]:
    figures = evaluate(localizer, examples, thresholds=(threshold,)).figures(threshold)
    values = ", ".join(f"{word.replace('_', ' ')} {value:.3f}" for word, value in figures.as_row().items())
    return [f"{name}, {len(examples):,} masks, {figures.n_answers:,} phrases: {values}"]


def _replaced(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """Return a recipe with those of its fields that are given, and not None, as given."""
    fields = {field.name for field in dataclasses.fields(recipe)}
    return dataclasses.replace(
        recipe, **{name: value for name, value in given.items() if name in fields and value is not None}
    )
