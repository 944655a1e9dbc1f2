"""How one stream of a Bridger takes in the other: the paper's Interactor, and the one of the authors' ViT."""

import torch
from torch import nn

INTERACTORS = ("paper", "published")
"""``published``: on a vision transformer as in the authors' code, which departs from the paper there only."""


class Interactor(nn.Module):
    """Self-attention, attention to the other stream, a feed-forward layer, each with a residual and a norm after.

    The paper's Interactor, and the authors' code for ResNets.

    Parameters
    ----------
    width : int
        Features of both streams.
    n_heads : int
        Of both attentions.
    feed_forward : int
        Hidden features of the feed-forward layer.
    dropout : float
        Of attentions, hidden features and residuals.

    References
    ----------
    Xu, Chen, Zhang, Song, Wan, Li: Bridging Vision and Language Encoders: Parameter-Efficient Tuning for Referring
    Image Segmentation, ICCV 2023, section 3.2.
    """

    def __init__(self, width: int, n_heads: int, *, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, n_heads, dropout=dropout, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, n_heads, dropout=dropout, batch_first=True)
        self.expand = nn.Linear(width, feed_forward)
        self.contract = nn.Linear(feed_forward, width)
        self.norm_self = nn.LayerNorm(width)
        self.norm_cross = nn.LayerNorm(width)
        self.norm_feed = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Return (n, own places, width) of streams (n, own places, width) and (n, other places, width)."""
        attended, _ = self.self_attention(own, own, own, need_weights=False)
        own = self.norm_self(own + self.dropout(attended))
        attended, _ = self.cross_attention(own, other, other, need_weights=False)
        own = self.norm_cross(own + self.dropout(attended))
        hidden = self.dropout(torch.relu(self.expand(own)))
        return self.norm_feed(own + self.dropout(self.contract(hidden)))


class GatedInteractor(nn.Module):
    """Attention to the other stream, multiplied into the own; no residual, self-attention or feed-forward layer.

    Parameters
    ----------
    width, n_heads : int
        As of `Interactor`.
    """

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.cross_attention = nn.MultiheadAttention(width, n_heads, batch_first=True)

    def forward(self, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Return (n, own places, width), as `Interactor`."""
        attended, _ = self.cross_attention(own, other, other, need_weights=False)
        return own * attended
