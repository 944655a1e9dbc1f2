"""What makes features of pictures, to be trained: wide residual networks, and any network of timm."""

import math
import re

import torch
from torch import nn

from manifests.errors import ModelError
from scoring.classifier import untrained_features

TIMM_PREFIX = "timm:"
_STEM_CHANNELS = 16
_LEAST_SIDE_PX = 16
"""The tiny network halves its maps four times."""


class WideResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each after batch normalisation and ReLU, and what goes past them.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    stride : int
        Of the first convolution.
    dropout : float
        Share of the values between the two that is dropped in training.
    """

    def __init__(self, n_in: int, n_out: int, *, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(n_in, n_out, 1, stride, bias=False) if n_in != n_out else None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps (n, n_out, height, width)."""
        activated = torch.relu(self.norm1(maps))
        inner = torch.relu(self.norm2(self.conv1(activated)))
        # Where the width changes, what goes past is activated too; elsewhere the maps pass as they came.
        past = maps if self.shortcut is None else self.shortcut(activated)
        return past + self.conv2(self.dropout(inner))


class WideResNet(nn.Module):
    """Features of a wide residual network for small pictures.

    Parameters
    ----------
    depth : int
        Convolutions on the longest way, and the classifier that stands elsewhere: 6 n + 4.
    widen_factor : int
        Channels of the three groups over 16, 32 and 64.
    dropout : float
        See `WideResidualBlock`.

    References
    ----------
    Zagoruyko and Komodakis (2016), Wide Residual Networks, Table 1. The authors of DML train WRN-40-2 with a
    dropout of 0.3; it has 128 features.

    Notes
    -----
    Maps are averaged over their whole area, which at 32 px is the 8 x 8 of the authors' code.
    """

    def __init__(self, depth: int, widen_factor: int, dropout: float) -> None:
        super().__init__()
        blocks_a_group = (depth - 4) // 6
        blocks: list[nn.Module] = []
        n_in = _STEM_CHANNELS
        for group in range(3):
            n_out = 16 * widen_factor * 2**group
            for number in range(blocks_a_group):
                stride = 2 if group > 0 and number == 0 else 1
                blocks.append(WideResidualBlock(n_in, n_out, stride=stride, dropout=dropout))
                n_in = n_out
        self.n_features = n_in
        self.stem = nn.Conv2d(3, _STEM_CHANNELS, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(n_in)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return features (n, n_features) of inputs (n, 3, side, side)."""
        return torch.relu(self.norm(self.blocks(self.stem(pixels)))).mean(dim=(2, 3))


class TinyNet(nn.Sequential):
    """Features of four convolutions that each halve the picture: seconds an epoch on a processor.

    Parameters
    ----------
    dropout : float
        Share of the last maps that is dropped in training.
    """

    n_features = 128

    def __init__(self, dropout: float) -> None:
        layers: list[nn.Module] = []
        n_in = 3
        for n_out in (24, 48, 96, self.n_features):
            layers += [nn.Conv2d(n_in, n_out, 3, 2, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
            n_in = n_out
        super().__init__(*layers, nn.Dropout2d(dropout), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class LinearNetwork(nn.Module):
    """A network and a linear classifier, its weights of any length, with a bias.

    Parameters
    ----------
    body : Module
        Makes features (n, n_features).
    n_features, n_classes : int
        Of the classifier.
    """

    def __init__(self, body: nn.Module, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.body = body
        layer = nn.Linear(n_features, n_classes)
        self.weight, self.bias = layer.weight, layer.bias

    @property
    def classifier(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weights (n_classes, n_features) and the bias (n_classes,)."""
        return self.weight, self.bias

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return penultimate features, (n, n_features)."""
        return self.body(pixels)


class CosineNetwork(nn.Module):
    """A network and the directions of a cosine classifier, which has no bias.

    Parameters
    ----------
    body : Module
        Makes features (n, n_features).
    n_features, n_classes : int
        Of the classifier.
    """

    def __init__(self, body: nn.Module, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.body = body
        # Only its direction counts; the length decides how fast a step of SGD turns it, so it begins at 1.
        start = torch.empty(n_classes, n_features).uniform_(-1, 1)
        self.weight = nn.Parameter(nn.functional.normalize(start))

    @property
    def classifier(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weight vectors over their norms, (n_classes, n_features), and no bias."""
        return nn.functional.normalize(self.weight), None

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return penultimate features, (n, n_features)."""
        return self.body(pixels)


ClassifierNetwork = LinearNetwork | CosineNetwork


def classifier_network(
    name: str, n_classes: int, *, side_px: int, dropout: float, is_cosine: bool = True
) -> ClassifierNetwork:
    """Return a network with random weights, from torch's global generator.

    Parameters
    ----------
    name : str
        ``wrn-DEPTH-WIDTH``, such as ``wrn-40-2``; ``tiny``; or ``timm:NAME``.
    n_classes : int
        Of the classifier.
    side_px : int
        Of the pictures, which are square.
    dropout : float
        Of those that are built here; timm's keep their own.
    is_cosine : bool
        Whether its classifier is one of cosines; of equal draws, the weights before it are equal either way.

    Raises
    ------
    ModelError
        No network has that name, or it cannot take pictures of that size.
    """
    body, n_features = _body(name, side_px, dropout)
    kind = CosineNetwork if is_cosine else LinearNetwork
    return kind(body, n_features, n_classes)


def _body(name: str, side_px: int, dropout: float) -> tuple[nn.Module, int]:
    """Return what makes features, and how many."""
    if name.startswith(TIMM_PREFIX):
        return untrained_features(name.removeprefix(TIMM_PREFIX), side_px)
    if side_px < _LEAST_SIDE_PX:
        raise ModelError(
            f"network {name!r}: expected pictures of at least {_LEAST_SIDE_PX} px (--side), found {side_px}"
        )
    if name == "tiny":
        return TinyNet(dropout), TinyNet.n_features
    found = re.fullmatch(r"wrn-(\d{1,3})-(\d{1,2})", name)
    depth, widen_factor = map(int, found.groups()) if found else (0, 0)
    if depth < 10 or (depth - 4) % 6 or widen_factor < 1:
        raise ModelError(
            f"network {name!r}: expected wrn-DEPTH-WIDTH with a depth of 10, 16, 22, ... (wrn-40-2), tiny, or "
            f"timm:NAME"
        )
    wide = WideResNet(depth, widen_factor, dropout)
    return wide, wide.n_features
