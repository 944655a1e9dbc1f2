"""A trained network as a maker of features, and the features of pictures that are in memory."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from manifests.devices import device_name
from manifests.durable import write_json
from manifests.errors import FeatureError, InputError, ModelError, one_line
from manifests.workspace import checked_name
from scoring.classifier import Preprocessing
from scoring.dml.augmentation import inputs_of
from scoring.dml.data import LabelledPixels
from scoring.dml.networks import ClassifierNetwork, classifier_network
from scoring.dml.recipe import Recipe
from scoring.dml.training_state import TrainingState
from scoring.feature_model import exact_float32
from scoring.feature_sets import feature_set_writer
from scoring.heads import Head, write_head
from scoring.set_records import check_sets_agree, features_settings, record_path_of
from scoring.weights import weights_digest


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network of `scoring.dml.train`, as `scoring.extract` asks for a model.

    The features are as the network makes them. The head of ``linear`` is its classifier; that of the others has
    the directions of theirs and no bias, so that the logits W f are norm(f) cos(f, w_c). Of ``linear`` and ``mnc``
    these are the logits of the training. Of ``cosine`` and ``mcf`` they are not: those were cosines times
    `Recipe.scale`, whose largest orders images as MaxCosine does. MaxLogit of these features has one factor more,
    a norm that the loss never saw.

    Attributes
    ----------
    name : str
        Loss and network.
    network : ClassifierNetwork
        In evaluation mode.
    head : Head
        On the device of `network`.
    preprocessing : Preprocessing
        Of the pictures that it learnt from.
    weights_digest : str
        SHA-256 of all weights.
    """

    name: str
    network: ClassifierNetwork
    head: Head
    preprocessing: Preprocessing
    weights_digest: str

    @property
    def pixel_std(self) -> tuple[float, float, float]:
        """What RGB values in [0, 1] are divided by."""
        return self.preprocessing.std

    def preprocessing_record(self) -> dict[str, Any]:
        """Return the preprocessing as JSON values."""
        return preprocessing_record(self.preprocessing)

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Return an upright RGB picture as network input, float32 (3, side, side)."""
        return self.preprocessing.pixels(image)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return features, float32 (n, n_features), of inputs (n, 3, side, side); differentiable."""
        with exact_float32():
            return self.network(pixels.to(self.head.device))

    def features_of_bytes(self, pixels: torch.Tensor, batch_size: int) -> torch.Tensor:
        """Return features, float32 (n, n_features) on the CPU, of pixels, uint8 (n, 3, side, side)."""
        return evaluated(self.network, pixels, self.preprocessing, batch_size)


def trained_network(state: TrainingState, path: Path, device: str = "cpu") -> TrainedNetwork:
    """Return the network of a state of `scoring.dml.train`, which was read from `path`.

    Raises
    ------
    ModelError
        Its tensors are not those of the network that it names.
    InputError
        There is no such device.
    """
    place = torch.device(device_name(device, has_cuda=torch.cuda.is_available()))
    try:
        recipe, data = Recipe(**state.settings["recipe"]), state.settings["data"]
        changes = state.settings["preprocessing"]
        preprocessing = Preprocessing(32, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0).overridden(changes)
        # Its first weights are drawn, and then replaced: nobody else's draws may change for it.
        with torch.random.fork_rng([]):
            side = preprocessing.input_size_px
            network = classifier_network(
                recipe.network, data["n_classes"], side_px=side, dropout=recipe.dropout,
                is_cosine=recipe.has_cosine_classifier,
            )  # fmt: skip
        network.load_state_dict(dict(state.network))
    except (KeyError, TypeError, RuntimeError, InputError) as error:
        raise ModelError(f"{path}: does not hold the network that it names ({one_line(error)})") from error
    network.requires_grad_(False).eval().to(place)
    name = f"{recipe.loss} {recipe.network}"
    return TrainedNetwork(name, network, head_of(network), preprocessing, weights_digest(network.state_dict()))


def head_of(network: ClassifierNetwork) -> Head:
    """Return the classifier as a head; of one without a bias, the bias is 0."""
    weight, bias = network.classifier
    found = torch.zeros(len(weight), device=weight.device) if bias is None else bias.detach().clone()
    return Head(weight.detach().clone(), found)


def preprocessing_record(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return a preprocessing as JSON values, equal to itself read back."""
    return dict(json.loads(json.dumps(asdict(preprocessing))))


def evaluated(
    network: ClassifierNetwork, pixels: torch.Tensor, preprocessing: Preprocessing, batch_size: int
) -> torch.Tensor:
    """Return features, float32 (n, n_features) on the CPU, of pixels, uint8 (n, 3, side, side).

    They are those of evaluation mode; the network is left in the mode that it was in.
    """
    device = network.weight.device
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    was_training = network.training
    network.eval()
    with torch.no_grad(), exact_float32():
        parts = [network(inputs_of(part.to(device), mean, std)).float().cpu() for part in pixels.split(batch_size)]
    network.train(was_training)
    return torch.cat(parts)


def write_pixel_features(
    pictures: LabelledPixels,
    model: TrainedNetwork,
    *,
    set_name: str,
    features_dir: Path,
    batch_size: int,
    has_classes: bool = True,
) -> Path:
    """Write the feature set of pictures in memory, with head and record, as `extract_features` does of files.

    A set that is there and was made of the same pictures by the same model is left as it is. Without
    `has_classes` the classes of the pictures, which are not the model's, stay out.

    Raises
    ------
    FeatureError
        The folder holds the head or sets of another model; a feature is NaN or infinite.
    """
    features_path = features_dir / f"{checked_name(set_name, 'feature set')}.parquet"
    settings = features_settings(model, None, batch_size)
    check_sets_agree(features_dir, settings, set_name)
    write_head(features_dir, model.head)
    record = {
        **settings,
        "model": model.name,
        "n_features": model.head.n_features,
        "n_classes": model.head.n_classes,
        "manifest": None,
        "inputs_sha256": pictures.sha256(),
        "has_classes": has_classes,
        "counts": {"images": len(pictures.image_ids)},
    }
    record_path = record_path_of(features_path)
    if features_path.is_file() and _record(record_path) == record:
        return features_path
    features = model.features_of_bytes(pictures.pixels, batch_size)
    is_finite = torch.isfinite(features).all(dim=1)
    if not is_finite.all():
        first = pictures.image_ids[int(is_finite.int().argmin())]
        raise FeatureError(f"model {model.name!r}: image {first} gets a NaN or infinite feature")
    # From here to the new record there is none: an old one must not speak of the new rows.
    record_path.unlink(missing_ok=True)
    with feature_set_writer(features_path, model.head.n_features) as writer:
        classes = pictures.targets.tolist() if has_classes else [None] * len(features)
        writer.write(pictures.image_ids, classes, features)
    write_json(record_path, record)
    return features_path


def _record(path: Path) -> Any:
    """Return what a record says; nothing where it cannot be read, as the set is then made anew."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
