"""What a training leaves: a localizer to use, and all that it takes to go on; each written in one step.

``localizer.safetensors`` holds what was trained, and which CLIP model it belongs to; CLIP itself it does not hold.
``training.pt`` holds weights, Adam's moments, the history, and what the training was asked to do.
"""

import dataclasses
import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from curation.clip import ClipEncoder
from curation.localize.bridger import BridgeSizes
from curation.localize.decoder import DecoderSizes
from curation.localize.localizer import Localizer
from curation.localize.network import LocalizerNetwork, NetworkSizes
from curation.localize.towers import frozen_towers
from curation.localize.trained import AUTHORS_THRESHOLD, TrainedLocalizer
from manifests.durable import write_bytes
from manifests.errors import ModelError, one_line

# One entry: safetensors writes several in an order that differs from run to run.
_METADATA_KEY = "localizer"


@dataclass(frozen=True)
class LocalizerFacts:
    """What a checkpoint says of itself.

    Attributes
    ----------
    name : str
        For people: the CLIP model, and what the localizer was trained on.
    clip_digest : str
        Digest of the CLIP model that it belongs to.
    clip_name : str
        That model's name.
    sizes : NetworkSizes
        Of the network.
    threshold : float
        As `TrainedLocalizer.threshold`.
    """

    name: str
    clip_digest: str
    clip_name: str
    sizes: NetworkSizes
    threshold: float = AUTHORS_THRESHOLD


def sizes_from(values: Mapping[str, Any]) -> NetworkSizes:
    """Return sizes from what `dataclasses.asdict` made of them."""
    rest = {name: value for name, value in values.items() if name not in ("bridge", "decoder")}
    return NetworkSizes(**rest, bridge=BridgeSizes(**values["bridge"]), decoder=DecoderSizes(**values["decoder"]))


def save_localizer(path: Path, network: LocalizerNetwork, facts: LocalizerFacts) -> None:
    """Write a localizer; equal weights and facts give equal bytes."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {_METADATA_KEY: json.dumps(dataclasses.asdict(facts), sort_keys=True)}
    write_bytes(path, save(weights, metadata))


def load_localizer(checkpoint: Path, encoder: ClipEncoder) -> Localizer:
    """Return a trained localizer on the device of its CLIP model.

    Raises
    ------
    ModelError
        The file is no such checkpoint, or belongs to another CLIP model.
    """
    try:
        with safe_open(checkpoint, framework="pt") as stored:
            said = (stored.metadata() or {}).get(_METADATA_KEY)
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, it is no mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"--checkpoint {checkpoint}: cannot be read ({one_line(error)})") from error
    facts = _facts(checkpoint, said)
    if facts.clip_digest != encoder.digest:
        raise ModelError(
            f"--checkpoint {checkpoint}: it belongs to {facts.clip_name} ({facts.clip_digest}), "
            f"not to {encoder.name} ({encoder.digest}); give that --model and --pretrained"
        )
    network = LocalizerNetwork(frozen_towers(encoder.network), facts.sizes)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"--checkpoint {checkpoint}: its weights do not fit ({one_line(error)})") from error
    return trained_localizer(network.to(encoder.device), encoder, facts)


def trained_localizer(network: LocalizerNetwork, encoder: ClipEncoder, facts: LocalizerFacts) -> TrainedLocalizer:
    """Return a network as a localizer, in evaluation mode."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(facts), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return TrainedLocalizer(facts.name, digest.hexdigest()[:16], encoder, network.eval(), facts.threshold)


def _facts(checkpoint: Path, said: str | None) -> LocalizerFacts:
    if said is None:
        raise ModelError(f"--checkpoint {checkpoint}: this is no localizer; train-localizer makes them")
    try:
        values = json.loads(said)
        return LocalizerFacts(**{**values, "sizes": sizes_from(values["sizes"])})
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"--checkpoint {checkpoint}: its description is damaged ({one_line(error)})") from error


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of a training; equal states give equal bytes."""
    content = io.BytesIO()
    # Through memory: in a file, torch would write the temporary file's name into it.
    torch.save(dict(state), content)
    write_bytes(path, content.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """Return the state of a training, on the CPU; nothing in the file is run.

    Raises
    ------
    ModelError
        It cannot be read, or is not what `save_state` was given by this version.
    """
    try:
        state = tensor_file(path)
    except ModelError as error:
        raise unusable_state(path, str(error)) from error
    kinds = {"asked": dict, "network": dict, "optimizer": dict, "scaler": dict, "history": list}
    for name, kind in kinds.items():
        if not isinstance(state.get(name), kind):
            raise unusable_state(path, f"it has no {name}")
    return state


def tensor_file(path: Path) -> dict[str, Any]:
    """Return what `torch.save` wrote to `path`, on the CPU, where that is tensors and plain values by name alone.

    Raises
    ------
    ModelError
        It cannot be read, or holds anything else.
    """
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, TypeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ModelError(one_line(error)) from error


def unusable_state(path: Path, why: str) -> ModelError:
    """Return the error of a file that is no state of a training, or one that does not fit."""
    return ModelError(f"{path}: not a state of train-localizer ({why}); delete it, or give another --out")
