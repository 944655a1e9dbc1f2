"""The file of a localizer: what was trained, and which CLIP model it belongs to. CLIP itself it does not hold."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from curation.clip import ClipEncoder
from curation.localize.bridger import BridgeSizes
from curation.localize.decoder import DecoderSizes
from curation.localize.localizer import Localizer
from curation.localize.network import LocalizerNetwork, NetworkSizes
from curation.localize.towers import frozen_towers
from curation.localize.trained import AUTHORS_THRESHOLD, TrainedLocalizer
from manifests.errors import ModelError, one_line
from manifests.tensor_files import check_is_file, read_record, read_tensors, write_tensors

LOCALIZER_FILE = "localizer.safetensors"
"""What a training or a conversion calls it, in its folder."""

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
    write_tensors(path, network.state_dict(), _METADATA_KEY, dataclasses.asdict(facts))


def load_localizer(checkpoint: Path, encoder: ClipEncoder) -> Localizer:
    """Return a trained localizer on the device of its CLIP model.

    Raises
    ------
    ModelError
        The file is no such checkpoint, or belongs to another CLIP model.
    """
    facts = check_checkpoint(checkpoint)
    if facts.clip_digest != encoder.digest:
        raise ModelError(
            f"--checkpoint {checkpoint}: it belongs to {facts.clip_name} ({facts.clip_digest}), "
            f"not to {encoder.name} ({encoder.digest}); give that --model and --pretrained"
        )
    network = LocalizerNetwork(frozen_towers(encoder.network), facts.sizes)
    try:
        weights, _ = read_tensors(checkpoint, _METADATA_KEY)
        network.load_state_dict(weights)
    except (OSError, SafetensorError) as error:
        raise _unreadable(checkpoint, error) from error
    except RuntimeError as error:
        raise ModelError(f"--checkpoint {checkpoint}: its weights do not fit ({one_line(error)})") from error
    return trained_localizer(network.to(encoder.device), encoder, facts)


def check_checkpoint(checkpoint: Path) -> LocalizerFacts:
    """Return what the header of a checkpoint says, before any CLIP model is loaded; raises as `load_localizer`."""
    check_is_file(checkpoint, "--checkpoint", file_name=LOCALIZER_FILE)
    try:
        said = read_record(checkpoint, _METADATA_KEY)
    except (OSError, SafetensorError) as error:
        raise _unreadable(checkpoint, error) from error
    return _facts(checkpoint, said)


def _unreadable(checkpoint: Path, error: Exception) -> ModelError:
    return ModelError(f"--checkpoint {checkpoint}: cannot be read ({one_line(error)})")


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
