"""ImageNet classifiers: the only file that knows timm."""

import difflib
import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import timm
import timm.data
import torch
from PIL import Image
from torch import nn

from manifests.devices import device_name
from manifests.errors import InputError, ModelError
from manifests.tensor_files import check_is_file
from scoring.feature_model import exact_float32
from scoring.heads import Head
from scoring.weights import first_line, read_weights, weights_digest

_VERIFIED_RELATIVE_ERROR = 1e-4
"""W f + b and the network's own output differ by float32 rounding, about 1e-6 of the largest logit."""

# What timm and the hub client behind it let out where weights cannot be fetched.
_HUB_ERRORS = (OSError, RuntimeError, ValueError)

_INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest")
_CROP_MODES = ("center", "squash", "border")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the input of a network.

    Attributes
    ----------
    input_size_px : int
        Side of the square input.
    mean, std : tuple of float
        Of RGB values in [0, 1], subtracted and divided by.
    interpolation : str
        ``bilinear``, ``bicubic``, ``lanczos`` or ``nearest``.
    crop_fraction : float
        The shorter side is resized to input_size_px / crop_fraction before the centre is cut out; in (0, 1].
    crop_mode : str
        ``center``; or ``squash``, both sides resized alike whatever the shape (what the ViM repository does, with
        crop_fraction 1); or ``border``, the longer side resized and the rest filled with the mean.
    """

    input_size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_fraction: float
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        ranges = {
            "input_size_px": isinstance(self.input_size_px, int) and self.input_size_px > 0,
            "mean": _are_three_numbers(self.mean),
            "std": _are_three_numbers(self.std) and min(self.std) > 0,
            "interpolation": self.interpolation in _INTERPOLATIONS,
            "crop_fraction": isinstance(self.crop_fraction, int | float) and 0 < self.crop_fraction <= 1,
            "crop_mode": self.crop_mode in _CROP_MODES,
        }
        if wrong := [name for name, is_right in ranges.items() if not is_right]:
            raise InputError(f"preprocessing: {wrong[0]} cannot be {getattr(self, wrong[0])!r}")

    def overridden(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with `changes`; raises InputError where one names nothing here."""
        names = [field.name for field in fields(self)]
        if strange := sorted(changes.keys() - set(names)):
            raise InputError(f"preprocessing: {strange[0]!r} is not known, expected some of {', '.join(names)}")
        changed: dict[str, Any] = {
            # JSON and the command line give lists; equal settings must be equal values.
            name: tuple(value) if isinstance(value, list) else value
            for name, value in changes.items()
        }
        return replace(self, **changed)

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Return an upright RGB picture as network input, float32 (3, input_size_px, input_size_px)."""
        return _transform(self)(image)

    def pixel_bytes(self, image: Image.Image) -> torch.Tensor:
        """Return what `pixels` would, before it becomes float and is normalised: uint8 (3, side, side)."""
        return _transform(self, normalize=False)(image)


def _are_three_numbers(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(isinstance(part, int | float) for part in value)


@functools.cache
def _transform(preprocessing: Preprocessing, *, normalize: bool = True) -> Callable[[Image.Image], torch.Tensor]:
    config = asdict(preprocessing)
    side, crop_pct = config.pop("input_size_px"), config.pop("crop_fraction")
    return timm.data.create_transform(input_size=(3, side, side), crop_pct=crop_pct, normalize=normalize, **config)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network split into what makes features and the head that makes logits of them; W f + b was verified.

    Attributes
    ----------
    name : str
        timm's name of the model.
    network : Module
        In evaluation mode.
    head : Head
        W and b, on the device of `network`.
    preprocessing : Preprocessing
        What the network expects of its input.
    weights_digest : str
        SHA-256 of names, shapes, types and bytes of all weights, whatever file held them.
    """

    name: str
    network: nn.Module
    head: Head
    preprocessing: Preprocessing
    weights_digest: str

    @property
    def pixel_std(self) -> tuple[float, float, float]:
        """What RGB values in [0, 1] are divided by."""
        return self.preprocessing.std

    def preprocessing_record(self) -> dict[str, Any]:
        """Return the preprocessing as JSON values."""
        # Tuples become lists, as they come back from a file.
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.preprocessing).items()}

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """Return an upright RGB picture as network input, float32 (3, side, side)."""
        return self.preprocessing.pixels(image)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return penultimate features, float32 (n, n_features), of inputs (n, 3, side, side); differentiable."""
        with exact_float32():
            return _penultimate(self.network, pixels.to(self.head.device))


def load_classifier(
    model: str,
    *,
    checkpoint: Path | None = None,
    n_classes: int | None = None,
    model_arguments: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Classifier:
    """Return a classifier of timm, with its pretrained weights or those of a local file.

    Parameters
    ----------
    model : str
        timm's name, with a tag (``resnet50.tv_in1k``) where one of several weights is meant.
    checkpoint : Path, optional
        Weights: ``.safetensors``, or a file of `torch.save` that holds tensors alone. Without it timm's pretrained
        weights are taken, from the hub or its cache.
    n_classes : int, optional
        Size of the head; timm's own where not given.
    model_arguments : mapping, optional
        Further arguments of the model, such as ``pad_type="same"``.
    preprocessing : mapping, optional
        Fields of `Preprocessing` that replace the model's own.
    device : str
        Where the network goes: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    ModelError
        No such model or tag; weights that cannot be had, read, or do not fit; a network whose last layer is not
        linear, or whose features and head do not give its own output.
    InputError
        `preprocessing` names or holds something impossible, or there is no such device.
    """
    place = torch.device(device_name(device, has_cuda=torch.cuda.is_available()))
    network = _created(model, checkpoint, n_classes, dict(model_arguments or {}))
    if checkpoint is not None:
        _load_weights(network, checkpoint, model)
    network.requires_grad_(False).eval()
    own = _preprocessing_of(network, model).overridden(preprocessing or {})
    head = _head_of(network, model)
    _verify(network, head, own, model)
    digest = weights_digest(network.state_dict())
    return Classifier(model, network.to(place), head.to(place), own, digest)


def check_classifier(
    model: str,
    *,
    checkpoint: Path | None = None,
    n_classes: int | None = None,
    model_arguments: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> None:
    """Check what `load_classifier` takes as far as that needs no weights; errors as there."""
    network = _without_weights(model, checkpoint, n_classes, dict(model_arguments or {}))
    if checkpoint is not None:
        check_is_file(checkpoint)
    _preprocessing_of(network, model).overridden(preprocessing or {})


def untrained_network(model: str, n_classes: int) -> nn.Module:
    """Return a network of timm with random weights, to train it."""
    return timm.create_model(model, num_classes=n_classes)


def untrained_features(model: str, side_px: int) -> tuple[nn.Module, int]:
    """Return a network of timm with random weights that ends in its features, and how many these are.

    Raises
    ------
    ModelError
        There is no such model, or it cannot take pictures of `side_px`.
    """
    _check_known(model)
    body = _Features(timm.create_model(model, num_classes=0))
    try:
        with torch.no_grad():
            # In evaluation mode, in which batch normalisation takes one picture and learns nothing from it.
            found = body.eval()(torch.zeros(1, 3, side_px, side_px))
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(f"model {model!r}: cannot take pictures of {side_px} px ({first_line(error)})") from error
    return body.train(), found.shape[1]


class _Features(nn.Module):
    """A network of timm without its head."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return _penultimate(self.network, pixels)


def _check_known(model: str) -> None:
    name = model.partition(".")[0]
    if not timm.is_model(name):
        matches = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise ModelError(f"model {model!r}: timm has none of that name; close: {', '.join(matches) or 'none'}")


def _created(model: str, checkpoint: Path | None, n_classes: int | None, arguments: dict[str, Any]) -> nn.Module:
    network = _without_weights(model, checkpoint, n_classes, arguments)
    if checkpoint is not None:
        return network
    try:
        return timm.create_model(model, pretrained=True, **arguments)
    except _HUB_ERRORS as error:
        raise ModelError(
            f"model {model!r}: its pretrained weights cannot be fetched ({first_line(error)}); "
            f"go on-line once, or give the weights as a local checkpoint"
        ) from error


def _without_weights(
    model: str, checkpoint: Path | None, n_classes: int | None, arguments: dict[str, Any]
) -> nn.Module:
    _check_known(model)
    name, _, tag = model.partition(".")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise ModelError(f"model {model!r}: no weights of that tag; known for {name}: {', '.join(tags) or 'none'}")
    if checkpoint is None and not tags:
        raise ModelError(f"model {model!r}: timm has no pretrained weights of it; give a checkpoint")
    if n_classes is not None:
        arguments["num_classes"] = n_classes
    try:
        network = timm.create_model(model, pretrained=False, **arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(f"model {model!r}: cannot be made with the arguments {arguments} ({error})") from error
    if checkpoint is not None:
        return network
    n_pretrained = network.pretrained_cfg["num_classes"]
    if n_classes not in (None, n_pretrained):
        # timm would put a random head there and say nothing.
        raise ModelError(f"model {model!r}: its pretrained head has {n_pretrained} classes, asked for {n_classes}")
    return network


def _load_weights(network: nn.Module, checkpoint: Path, model: str) -> None:
    found = read_weights(checkpoint)
    expected = network.state_dict()
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "not known to the model": sorted(found.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tuple(found[name].shape)} for {tuple(expected[name].shape)}"
            for name in expected
            if name in found and found[name].shape != expected[name].shape
        ],
    }
    told = [
        f"{len(names)} {problem} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for problem, names in problems.items()
        if names
    ]
    if told:
        raise ModelError(f"{checkpoint}: does not fit the model {model!r}: {'; '.join(told)}")
    network.load_state_dict(found)


def _preprocessing_of(network: nn.Module, model: str) -> Preprocessing:
    config = timm.data.resolve_model_data_config(network)
    n_channels, height_px, width_px = config["input_size"]
    if n_channels != 3 or height_px != width_px:
        raise ModelError(f"model {model!r}: expected a square RGB input, found {config['input_size']}")
    return Preprocessing(
        input_size_px=height_px,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop_fraction=config["crop_pct"],
        crop_mode=config["crop_mode"],
    )


def _head_of(network: nn.Module, model: str) -> Head:
    if not (hasattr(network, "forward_head") and hasattr(network, "forward_features")):
        raise ModelError(f"model {model!r}: has no features apart from its head")
    layer: Any = network.get_classifier()  # type: ignore[operator]
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1:
        weight = layer.weight.flatten(1)  # BiT's head: a linear layer, written as a 1 x 1 convolution
    elif isinstance(layer, nn.Linear):
        weight = layer.weight
    else:
        raise ModelError(f"model {model!r}: expected a linear layer as classifier, found {type(layer).__name__}")
    bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias
    return Head(weight.detach().clone(), bias.detach().clone())


def _verify(network: nn.Module, head: Head, preprocessing: Preprocessing, model: str) -> None:
    """Refuse a network whose output is not W f + b on a random batch: its features are not what they seem."""
    side = preprocessing.input_size_px
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    try:
        # Not inference_mode: what a network caches there could not take part in a gradient later.
        with torch.no_grad():
            output = network(pixels)
            features = _penultimate(network, pixels)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(f"model {model!r}: cannot take pictures of {side} px ({first_line(error)})") from error
    if features.shape != (2, head.n_features):
        raise ModelError(
            f"model {model!r}: expected {head.n_features} features an image before its head, "
            f"found {tuple(features.shape)}"
        )
    difference = float((head.logits(features) - output).abs().max())
    if not difference <= _VERIFIED_RELATIVE_ERROR * max(1.0, float(output.abs().max())):
        raise ModelError(f"model {model!r}: W f + b differs from the network's own output by {difference:.3g}")


def _penultimate(network: Any, pixels: torch.Tensor) -> torch.Tensor:
    return network.forward_head(network.forward_features(pixels), pre_logits=True)
