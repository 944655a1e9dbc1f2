"""The authors' checkpoints, turned into ours: whose weight is whose, by name.

Their ``{last,best}_model.pth`` holds under ``state_dict`` the whole network as it was on several GPUs, so that
every name begins with ``module.``; CLIP (``backbone``) is in it. It has to be kept: their training froze CLIP's
weights but not the statistics of its BatchNorm layers, which by its end are not OpenAI's any more. So converting
writes two files: CLIP as open_clip takes it, and the localizer that belongs to it.

The network is theirs to the weight; its input is not to the last pixel, as pictures are shrunk by another filter
(`curation.localize.letterbox`).
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from curation.clip import load_encoder
from curation.localize.bridger import BridgeSizes
from curation.localize.checkpoints import LOCALIZER_FILE, LocalizerFacts, save_localizer
from curation.localize.network import LocalizerNetwork, NetworkSizes
from curation.localize.towers import VitTower, frozen_towers
from manifests.durable import write_bytes
from manifests.errors import ModelError, one_line
from manifests.tensor_files import check_is_file
from manifests.torch_files import TORCH_DAMAGE_ERRORS, check_torch_pickle

CLIP_FILE = "clip.safetensors"

_MOST_SHOWN = 100
"""Letters of a name; theirs have 60."""

_CLIP_PREFIX = "backbone."
_POSITIONS = {
    "positional_embedding": "word_positions",
    "visual.positional_embedding": "image_positions",
    "visual.attnpool.positional_embedding": "image_positions",
}
_IN_INTERACTOR = {
    "self_attn": "self_attention",
    "multihead_attn": "cross_attention",
    "linear1": "expand",
    "linear2": "contract",
    "norm1": "norm_self",
    "norm2": "norm_cross",
    "norm3": "norm_feed",
}
_IN_LAYER = {
    "self_attn": "self_attention",
    "multihead_attn": "cross_attention",
    "self_attn_norm": "norm_after_self",
    "cross_attn_norm": "norm_after_cross",
    "norm1": "norm_before_self",
    "norm2": "norm_before_cross",
    "norm3": "norm_before_feed",
    "ffn": "feed_forward",
}
# Their name, a pattern for the whole start of it; our name; and what the word after it becomes.
_RULES: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (r"bridger\.fusion_v\.(\d)\.(\w+)", r"bridger.image_interactors.\1", _IN_INTERACTOR),
    (r"bridger\.fusion_t\.(\d)\.(\w+)", r"bridger.word_interactors.\1", _IN_INTERACTOR),
    (r"bridger\.(zoom_in|zoom_out)", r"bridger.\1", {}),
    (r"bridger\.linear1", "bridger.words_in", {}),
    (r"bridger\.linear2", "bridger.words_out", {}),
    (r"bridger\.ln_v", "bridger.image_norms", {}),
    (r"bridger\.ln_t", "bridger.word_norms", {}),
    (r"neck\.txt_proj", "hierarchical.sentence", {}),
    (r"neck\.fusion3\.(\w+)", "hierarchical.interactors.0", _IN_INTERACTOR),
    (r"neck\.fusion4\.(\w+)", "hierarchical.interactors.1", _IN_INTERACTOR),
    (r"neck\.fusion5\.(\w+)", "hierarchical.interactors.2", _IN_INTERACTOR),
    (r"neck\.f3_proj", "hierarchical.projections.0", {}),
    (r"neck\.f4_proj", "hierarchical.projections.1", {}),
    (r"neck\.f5_proj", "hierarchical.projections.2", {}),
    (r"neck\.aggr", "hierarchical.merge", {}),
    (r"neck\.coordconv\.0\.conv1", "hierarchical.place", {}),
    (r"neck\.coordconv\.1", "hierarchical.smooth", {}),
    (r"decoder\.layers\.(\d)\.(\w+)", r"alignment.layers.\1", _IN_LAYER),
    (r"decoder\.norm", "alignment.norm", {}),
    (r"proj\.vis", "projector.finer", {}),
    (r"proj\.txt", "projector.kernel", {}),
    (r"backbone\.visual\.attnpool\.connect", "shortcut", {}),
)


def our_name(theirs: str) -> str | None:
    """Return our name of one of the authors' weights, without their ``module.``; None of one that is CLIP's.

    Raises
    ------
    ModelError
        It is none of theirs.
    """
    for pattern, ours, words in _RULES:
        found = re.match(rf"{pattern}(?=\.)", theirs)
        if found and not words:
            return found.expand(ours) + theirs[found.end() :]
        if found and found.groups()[-1] in words:
            return f"{found.expand(ours)}.{words[found.groups()[-1]]}{theirs[found.end() :]}"
    if theirs.startswith(_CLIP_PREFIX):
        return _POSITIONS.get(theirs.removeprefix(_CLIP_PREFIX))
    raise ModelError(f"{theirs[:_MOST_SHOWN]!r} is no weight of the authors' network")


def split_weights(
    state: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return CLIP's weights by open_clip's names, and the localizer's by ours; position embeddings are in both.

    Raises
    ------
    ModelError
        A name is none of the authors'.
    """
    clip, localizer = {}, {}
    for name, tensor in state.items():
        theirs = name.removeprefix("module.")
        ours = our_name(theirs)
        if ours is not None:
            localizer[ours] = tensor.float() if tensor.is_floating_point() else tensor
        if theirs.startswith(_CLIP_PREFIX) and ".connect." not in theirs:
            clip[theirs.removeprefix(_CLIP_PREFIX)] = tensor
    return clip, localizer


def convert_checkpoint(source: Path, model: str, out_dir: Path, *, n_words: int = 17) -> tuple[Path, Path]:
    """Write CLIP and the localizer of one of the authors' checkpoints, and return both paths.

    Parameters
    ----------
    source : Path
        Their file.
    model : str
        open_clip's name of the architecture, with QuickGELU, as OpenAI's weights were trained with:
        ``RN50-quickgelu``, ``RN101-quickgelu`` or ``ViT-B-16-quickgelu``.
    out_dir : Path
        Where the files go.
    n_words : int
        Of the phrases that it was trained on.

    Raises
    ------
    ModelError
        The file is not such a checkpoint, or of another architecture.
    """
    clip, weights = split_weights(_state_of(source))
    if not clip or not weights:
        raise ModelError(
            f"{source}: expected weights of CLIP and of the authors' network, found one of both at most"
        )
    clip_path, localizer_path = out_dir / CLIP_FILE, out_dir / LOCALIZER_FILE
    # Copies, as two names may share the memory of one tensor.
    clip_content = save({name: tensor.contiguous().clone() for name, tensor in clip.items()})
    with tempfile.TemporaryDirectory() as folder:
        # What lies in `out_dir` is replaced when both parts are known to fit, and not before.
        trial = Path(folder) / CLIP_FILE
        trial.write_bytes(clip_content)
        encoder = load_encoder(model, str(trial))
    towers = frozen_towers(encoder.network)
    network = LocalizerNetwork(towers, authors_sizes(is_vit=isinstance(towers.image, VitTower), n_words=n_words))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"{source}: does not fit {model} ({one_line(error)})") from error
    facts = LocalizerFacts(
        name=f"{source.name} of the authors, on {model}",
        clip_digest=encoder.digest,
        clip_name=f"{model} with {clip_path.name}",
        sizes=network.sizes,
    )
    write_bytes(clip_path, clip_content)
    save_localizer(localizer_path, network, facts)
    return clip_path, localizer_path


def _is_plain(tensor: torch.Tensor) -> bool:
    is_dense = tensor.layout is torch.strided and not (
        tensor.is_meta or tensor.is_quantized or tensor.is_complex()
    )
    # One number can stand for any count of places, which would all be written.
    return is_dense and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def authors_sizes(*, is_vit: bool, n_words: int = 17) -> NetworkSizes:
    """Return the sizes of the authors' settings for RefCOCO."""
    return NetworkSizes(n_words=n_words, interactor="published", bridge=BridgeSizes(n_heads=8 if is_vit else 4))


def _state_of(source: Path) -> dict[str, torch.Tensor]:
    """Return the weights of one of the authors' checkpoints, on the CPU, read without running code from it.

    Raises
    ------
    ModelError
        It cannot be read, or holds anything else.
    """
    check_is_file(source, "--convert")
    try:
        check_torch_pickle(source)
        content = torch.load(source, map_location="cpu", weights_only=True)
    except TORCH_DAMAGE_ERRORS as error:
        raise ModelError(f"{source}: not a checkpoint of the authors ({one_line(error)})") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ModelError(f"{source}: expected one of the authors' checkpoints, with a state_dict")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            found = f"{type(name).__name__} and {type(tensor).__name__}"
            raise ModelError(f"{source}: state_dict: expected named tensors, found {found}")
        if not _is_plain(tensor):
            raise ModelError(f"{source}: {name[:_MOST_SHOWN]}: expected a tensor with a real number at each place")
    return state
