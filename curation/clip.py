"""CLIP encoders: the one home of open_clip."""

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from PIL import Image
from safetensors import SafetensorError
from torchvision.transforms import Compose, Normalize

from curation.clip_pixels import ClipPixels
from manifests.devices import device_name
from manifests.errors import ModelError, one_line
from manifests.torch_files import TORCH_DAMAGE_ERRORS, check_torch_pickle

TEMPLATE_SETS: dict[str, Sequence[Callable[[str], str]]] = {
    "openai": open_clip.OPENAI_IMAGENET_TEMPLATES,
    "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES,
}
"""The prompt ensembles that come with open_clip: 80 and 7 templates."""

# What open_clip, torch, safetensors, pickle and the hub client (OSError) raise for weights that cannot be loaded;
# ImportError is among them, as some tokenizers, SigLIP's for one, come with libraries of their own.
_LOADING_ERRORS = (
    *TORCH_DAMAGE_ERRORS, SafetensorError,
    StopIteration,  # a checkpoint without weights
)  # fmt: skip


@dataclass(frozen=True)
class ClipEncoder:
    """A CLIP model ready to encode pictures and class names into one space; a `curation.encoder.Encoder`.

    Attributes
    ----------
    name : str
        Model and weights as asked for, for people to read.
    digest : str
        16 hex digits over weights, architecture and preprocessing: equal digests give comparable embeddings.
    n_dimensions : int
        Length of an embedding.
    device : torch.device
        Where it runs.
    """

    name: str
    digest: str
    n_dimensions: int
    device: torch.device
    _model: torch.nn.Module
    _preprocess: Compose
    _tokenizer: Callable[[list[str]], torch.Tensor]

    @property
    def source(self) -> str:
        """``clip``."""
        return "clip"

    @property
    def input_px(self) -> int:
        """Side of the model's input."""
        size: int | Sequence[int] = self.preprocessing["size"]
        return size if isinstance(size, int) else max(size)

    @property
    def pixels(self) -> ClipPixels:
        """Makes the pixels that the model looks at, as open_clip does."""
        return ClipPixels(Compose(self._preprocess.transforms[:-2]))

    def encode(self, pixels: torch.Tensor) -> tuple[npt.NDArray[np.float32], None]:
        """Return unit embeddings (n, n_dimensions) of pixels, uint8 (n, 3, height, width), and no lengths."""
        mean, std = (
            torch.tensor(self.preprocessing[name], device=self.device)[:, None, None] for name in ("mean", "std")
        )
        inputs = pixels.to(self.device, non_blocking=True).float().div_(255).sub_(mean).div_(std)
        return self.encode_inputs(inputs), None

    def save_head(self, folder: Path) -> None:
        """Do nothing: a CLIP model has no head."""

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Return the model's input for one RGB picture, (3, height, width)."""
        return self._preprocess(image)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How `preprocess` makes an input: size, mean, std, interpolation and how the picture is fitted."""
        visual: Any = self._model.visual
        return dict(visual.preprocess_cfg)

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by to become the model's logits, the inverse of its temperature."""
        return float(self._model.logit_scale.exp())  # type: ignore[operator]

    @property
    def logit_bias(self) -> float:
        """What is then added, the same for all classes; 0 but for SigLIP models."""
        bias = getattr(self._model, "logit_bias", None)
        return 0.0 if bias is None else float(bias)

    def image_embeddings(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return unit embeddings, float32 (n, n_dimensions), on the model's device; gradients reach `inputs`."""
        embeddings = self._model.encode_image(inputs.to(self.device)).float()  # type: ignore[operator]
        # Made unit here, in float32, and not by the model, which under autocast would do so in half precision.
        return torch.nn.functional.normalize(embeddings, dim=-1)

    def dense_embeddings(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return unit embeddings of each place of preprocessed pictures, (n, n_dimensions, height, width)."""
        from curation.localize.dense import dense_features

        features = dense_features(self._model.visual, inputs.to(self.device)).float()
        return torch.nn.functional.normalize(features, dim=1)

    @property
    def network(self) -> torch.nn.Module:
        """open_clip's own model, frozen, for what runs its layers one by one."""
        return self._model

    def tokens(self, texts: Sequence[str], n_tokens: int) -> torch.Tensor:
        """Return token ids (n, n_tokens), 0 after a text's end mark; a longer text is cut before its end mark."""
        return self._tokenizer(list(texts), context_length=n_tokens)  # type: ignore[call-arg]

    def encode_inputs(self, inputs: torch.Tensor) -> npt.NDArray[np.float32]:
        """Return unit embeddings (n, n_dimensions) of preprocessed pictures (n, 3, height, width)."""
        with torch.inference_mode():
            return self.image_embeddings(inputs).cpu().numpy()

    def encode_images(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """Return unit embeddings (n, n_dimensions) of RGB pictures."""
        return self.encode_inputs(torch.stack([self.preprocess(image) for image in images]))

    def encode_class_names(self, names: Sequence[str], template_set: str) -> npt.NDArray[np.float32]:
        """Return one unit prototype a class name, (n_classes, n_dimensions).

        The mean of the unit text embeddings over a template set, made unit again, as open_clip's zero-shot
        classifier does (Radford et al. 2021, section 3.1.4).
        """
        prototypes = open_clip.build_zero_shot_classifier(
            self._model,
            self._tokenizer,
            list(names),
            TEMPLATE_SETS[template_set],
            num_classes_per_batch=10,
            device=self.device,
            use_tqdm=False,
        )  # (n_dimensions, n_classes)
        # Contiguous, as safetensors stores a transposed array's memory and not its values.
        return prototypes.T.float().contiguous().cpu().numpy()


def imagenet_class_names() -> list[str]:
    """Return open_clip's names of the 1,000 ImageNet-1K classes, in torchvision's order."""
    return list(open_clip.IMAGENET_CLASSNAMES)


def checked_model(model: str, pretrained: str | None) -> tuple[str, str]:
    """Return open_clip's name of a model and its weights, looked up and not loaded; arguments as `load_encoder`.

    Raises
    ------
    ModelError
        The model or tag is unknown.
    """
    name = _registered_name(model)
    if not pretrained:
        raise ModelError(
            f"--pretrained: {model} needs weights; its tags: {_listed(_tags_of(name))}, or a local checkpoint"
        )
    if not Path(pretrained).is_file() and pretrained.lower() not in (tag.lower() for tag in _tags_of(name)):
        raise ModelError(
            f"--pretrained {pretrained}: neither a file nor a weights tag of {name}; "
            f"its tags: {_listed(_tags_of(name))}"
        )
    return name, pretrained


def load_encoder(model: str, pretrained: str | None, device: str = "cpu") -> ClipEncoder:
    """Return an encoder with trained weights.

    Parameters
    ----------
    model : str
        An open_clip model name such as ``ViT-B-32``, or the path of an open_clip model config (``.json``).
    pretrained : str or None
        A weights tag of that model such as ``laion2b_s34b_b79k``, or the path of a local checkpoint.
    device : str
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ModelError
        The model or tag is unknown, the weights cannot be had, or do not fit the model.
    """
    chosen = torch.device(device_name(device, has_cuda=torch.cuda.is_available()))
    name, pretrained = checked_model(model, pretrained)
    try:
        if pretrained is not None and (local := Path(pretrained)).is_file() and local.suffix != ".safetensors":
            check_torch_pickle(local)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            network, _, preprocess = open_clip.create_model_and_transforms(
                name, pretrained=pretrained, device=chosen, require_pretrained=True
            )
    except _LOADING_ERRORS as error:
        if "Failed to download" in str(error):
            advice = "cannot be fetched; go on-line, or give a local checkpoint"
            raise ModelError(f"{model} with weights {pretrained}: {advice}") from error
        raise ModelError(f"{model} with weights {pretrained}: cannot be loaded ({one_line(error)})") from error
    if any("QuickGELU mismatch" in str(warning.message) for warning in said):
        # The names and shapes fit either activation; the wrong one gives other embeddings and says nothing.
        raise ModelError(
            f"{model} with weights {pretrained}: these were trained with QuickGELU; use {model}-quickgelu"
        )
    if not isinstance(preprocess.transforms[-1], Normalize) or len(preprocess.transforms) < 3:
        raise ModelError(f"{model}: its preprocessing ends in {preprocess.transforms[-1]}, not in normalising")
    network.requires_grad_(False).eval()
    tokenizer = open_clip.get_tokenizer(name)
    with torch.inference_mode():
        n_dimensions = network.encode_text(tokenizer([""]).to(chosen)).shape[1]
    return ClipEncoder(
        name=f"{Path(model).name} with {Path(pretrained).name}",
        digest=_digest(network, open_clip.get_model_config(name)),
        n_dimensions=n_dimensions,
        device=chosen,
        _model=network,
        _preprocess=preprocess,
        _tokenizer=tokenizer,
    )


def untrained_model(config_path: Path) -> torch.nn.Module:
    """Return a model with random weights from an open_clip config file, to train it."""
    name, log = _registered_name(str(config_path)), logging.getLogger()
    # open_clip warns of what is wanted here.
    log.addFilter(_is_not_of_missing_weights)
    try:
        return open_clip.create_model(name)
    finally:
        log.removeFilter(_is_not_of_missing_weights)


def _is_not_of_missing_weights(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("No pretrained weights loaded")


def tokenizer_of(config_path: Path) -> Callable[[list[str]], torch.Tensor]:
    """Return the tokenizer of an open_clip config file: texts to token ids (n, context length)."""
    return open_clip.get_tokenizer(_registered_name(str(config_path)))


def _registered_name(model: str) -> str:
    """Return open_clip's name of `model`, registering a config file under its stem."""
    if model.endswith(".json"):
        path = Path(model)
        if not path.is_file():
            raise ModelError(f"--model {model}: there is no such config file")
        # Before open_clip sees it: a file that it cannot read stays on its list and breaks every later look-up.
        try:
            missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ModelError(f"--model {model}: not an open_clip config ({one_line(error)})") from error
        if missing:
            raise ModelError(f"--model {model}: not an open_clip config, {', '.join(sorted(missing))} missing")
        open_clip.add_model_config(path)
        return path.stem
    if "/" not in model and model not in open_clip.list_models():
        near = get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.4)
        raise ModelError(
            f"--model {model}: open_clip knows no such model; near: {_listed(near)}, or a config file (.json)"
        )
    return model


def _tags_of(name: str) -> list[str]:
    return list(open_clip.list_pretrained_tags_by_model(name))


def _digest(network: Any, config: Any) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(repr(sorted(network.visual.preprocess_cfg.items())).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
