"""What `train-localizer` does: a training by the paper's recipe, or one on drawn scenes, and its figures."""

import contextlib
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
from curation.localize.checkpoints import LOCALIZER_FILE, load_localizer
from curation.localize.decoder import DecoderSizes
from curation.localize.heat_map import HeatMap
from curation.localize.judgement import Judgement
from curation.localize.network import NetworkSizes
from curation.localize.recipe import Recipe
from curation.localize.referring_set import ReferringExample, read_examples
from curation.localize.scene_clip import make_scene_clip
from curation.localize.scenes import SCENE_PX, SCENES, check_scenes, write_scenes
from curation.localize.towers import VitTower, frozen_towers
from curation.localize.train import (
    OTHER_FOLDER,
    STATE_FILE,
    TrainingExamples,
    settings_without_data,
    train_localizer,
)
from curation.localize.training_state import read_state
from curation.localize.trial import Entrant, Trial, judge_once
from curation.localize.trivial_answers import CentredBox, ColourContrast, mean_area_share
from curation.sample.train_clip import CONFIG_PATH, WEIGHTS_PATH
from curation.threads import one_thread
from manifests.devices import device_name
from manifests.training_files import ONLY_THE_RUN_SEES, check_same_settings
from manifests.work_plan import WorkPlan, weights_to_fetch

SCENE_SIZES = NetworkSizes(
    input_px=SCENE_PX,
    n_words=16,
    bridge=BridgeSizes(width=32, feed_forward=64, dropout=0.0),
    decoder=DecoderSizes(width=64, n_heads=4, n_layers=2, feed_forward=128, dropout=0.0),
)
"""A network that a CPU trains on scenes in minutes."""

SCENE_RECIPE = Recipe(n_epochs=10, milestone=7, batch_size=8, learning_rate=1e-3)

N_HELD_OUT_SCENES = 150
"""Scenes to choose the epoch by, and others to judge it by."""

SettingsT = TypeVar("SettingsT", NetworkSizes, Recipe)

_N_TO_FIT = 100
"""Examples of the training that thresholds and areas of what is not trained are fitted on."""

_N_ON_SHEET = 24

_OF_SAME_CLIP = "heat map of the same CLIP"


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
    amp: bool | None = None,
    announce: Callable[[str], None],
) -> list[Judgement]:
    """Train by the paper's recipe but for what is `given`, and return the figures on each test split.

    Without a test split they are of ``val``, and their title says that it chose the epoch.
    """
    encoder = towers.load()
    n_heads = 8 if isinstance(frozen_towers(encoder.network).image, VitTower) else 4
    sizes = _replaced(NetworkSizes(bridge=BridgeSizes(n_heads=n_heads)), given)
    recipe = _replaced(Recipe(), given)
    splits = {
        name: read_examples(layout.root, layout.dataset, name) for name in ("train", "val", *layout.test_splits)
    }
    data = TrainingExamples(splits["train"], splits["val"], layout.n_workers)
    announce(_announced(data, recipe))
    train_localizer(encoder, sizes, recipe, data, out_dir=out_dir, amp=amp, announce=announce)
    titles = {name: name for name in layout.test_splits} or {"val": "val, by which the epoch was chosen too"}
    fitted_on = splits["train"][:_N_TO_FIT]
    trial = Trial(
        entrants=[_trained(out_dir, encoder), *_boxes(fitted_on)],
        judged_on={title: splits[name] for name, title in titles.items()},
        fitted_on=fitted_on,
        shown=splits["val"][:_N_ON_SHEET],
        device=encoder.device.type,
    )
    return judge_once(trial, out_dir, announce=announce)


def train_on_scenes(
    towers: ModelOfTowers,
    n_scenes: int,
    given: Mapping[str, Any],
    *,
    out_dir: Path,
    amp: bool | None = None,
    announce: Callable[[str], None],
) -> list[Judgement]:
    """Draw scenes, train a small network on them, and return its figures on scenes held out.

    Beside them stand those of the heat map of the same CLIP model, by default that of the sample's CLIP too, and
    of answers that read no phrase.
    """
    encoder = make_scene_clip(out_dir, towers.device) if towers.model is None else towers.load()
    sizes, recipe = _replaced(SCENE_SIZES, given), _replaced(SCENE_RECIPE, given)
    root, counts = out_dir / SCENES, _scene_counts(n_scenes)
    announce(f"train-localizer: {n_scenes:,} scenes, and {counts['val'] + counts['test']:,} held out")
    # On a CPU, layers this small are done before a second thread has woken.
    with one_thread() if encoder.device.type == "cpu" else contextlib.nullcontext():
        write_scenes(root, counts, recipe.seed)
        train, val, test = (read_examples(root, SCENES, split) for split in ("train", "val", "test"))
        data = TrainingExamples(train, val)
        announce(_announced(data, recipe))
        train_localizer(encoder, sizes, recipe, data, out_dir=out_dir, amp=amp, announce=announce)
        fitted_on = train[:_N_TO_FIT]
        entrants = [_trained(out_dir, encoder), *_untrained(towers, encoder), *_boxes(fitted_on)]
        trial = Trial(entrants, {"scenes held out": test}, fitted_on, test[:_N_ON_SHEET], encoder.device.type)
        return judge_once(trial, out_dir, announce=announce)


def _scene_counts(n_scenes: int) -> dict[str, int]:
    return {"train": n_scenes, "val": N_HELD_OUT_SCENES, "test": N_HELD_OUT_SCENES}


def _announced(data: TrainingExamples, recipe: Recipe) -> str:
    """Return in one line how much is to be done."""
    n_phrases = sum(len(example.phrases) for example in data.train)
    return (
        f"train-localizer: {len(data.train):,} masks with {n_phrases:,} phrases to learn from, {len(data.val):,} "
        f"masks to choose the epoch by; epochs: {recipe.n_epochs:,}"
    )


def _trained(out_dir: Path, encoder: ClipEncoder) -> Entrant:
    return Entrant("trained", load_localizer(out_dir / LOCALIZER_FILE, encoder))


def _untrained(towers: ModelOfTowers, encoder: ClipEncoder) -> list[Entrant]:
    """Return the heat map of the CLIP of the scenes, by default that of the sample's too, and what stands out."""
    # The scenes' own CLIP has a text tower that was never trained: there is nothing to look at.
    heat_maps = [
        Entrant(_OF_SAME_CLIP, phrase_heat_map(encoder), is_fitted=True, is_shown=towers.model is not None)
    ]
    if towers.model is None:
        heat_maps.append(Entrant("heat map of the sample's CLIP", phrase_heat_map(towers.load()), is_fitted=True))
    contrast = ColourContrast()
    return [*heat_maps, Entrant(contrast.name, contrast, is_fitted=True)]


def _boxes(examples: Sequence[ReferringExample]) -> list[Entrant]:
    """Return answers that see nothing at all: the middle, as large as objects are on average, and everything."""
    boxes = (CentredBox(mean_area_share(examples)), CentredBox())
    return [Entrant(box.name, box, is_shown=False) for box in boxes]


def plan_training(
    towers: ModelOfTowers,
    given: Mapping[str, Any],
    *,
    n_scenes: int | None,
    root: Path | None,
    out_dir: Path,
    amp: bool | None = None,
) -> WorkPlan:
    """Return how many epochs are left of a training on scenes, or on the layout in `root`, by its last state.

    Raises
    ------
    InputError
        What is `given` is not possible, or the folder holds a training, or scenes, of other settings; model and
        pictures are not read, and not compared.
    ModelError
        The state cannot be read.
    """
    is_layout = n_scenes is None
    recipe = _replaced(Recipe() if is_layout else SCENE_RECIPE, given)
    if n_scenes is not None:
        check_scenes(out_dir / SCENES, _scene_counts(n_scenes), recipe.seed)
    place = torch.device(device_name(towers.device, has_cuda=torch.cuda.is_available()))
    sizes = _replaced(NetworkSizes() if is_layout else SCENE_SIZES, given)
    now = settings_without_data(sizes, recipe, place, amp)
    if is_layout:
        # Its heads depend on the kind of the model's image tower.
        del now["network"]["bridge"]
    n_done = _n_epochs_done(out_dir / STATE_FILE, now)
    reads = [
        f"the referring set in {root}" if n_scenes is None else f"{n_scenes:,} scenes, drawn first if need be"
    ]
    fetches = [] if towers.model is None else weights_to_fetch(towers.model, towers.pretrained or "")
    return WorkPlan(
        max(0, recipe.n_epochs - n_done), n_done, unit="epochs", reads=reads, fetches=fetches,
        writes=[str(out_dir)], notes=[ONLY_THE_RUN_SEES] if n_done else [],
    )  # fmt: skip


def _n_epochs_done(path: Path, now: Mapping[str, Any]) -> int:
    """Return how many epochs a state holds that has the settings of `now`, as far as these go."""
    if not path.exists():
        return 0
    found = read_state(path)
    check_same_settings(path, found.settings, now, instead=OTHER_FOLDER, is_plan=True)
    return len(found.history)


def phrase_heat_map(encoder: ClipEncoder) -> HeatMap:
    """Return CLIP's heat map of phrases: no class of a label space is a rival there, only what is no object."""
    encode_names = partial(encoder.encode_class_names, template_set="simple")
    return HeatMap.of_label_space(encoder, encode_names, (), np.zeros((0, encoder.n_dimensions), np.float32))


def _replaced(settings: SettingsT, given: Mapping[str, Any]) -> SettingsT:
    """Return settings with those of their fields that are given, and not None, as given."""
    fields = {field.name for field in dataclasses.fields(settings)}
    return dataclasses.replace(
        settings, **{name: value for name, value in given.items() if name in fields and value is not None}
    )
