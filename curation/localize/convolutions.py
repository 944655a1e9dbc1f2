"""Blocks of convolution, BatchNorm and ReLU that Bridger and decoder share."""

from torch import nn


def convolution(n_in: int, n_out: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """Return a convolution with BatchNorm and ReLU; it keeps the size at stride 1, and divides it else."""
    padding = kernel // 2 if stride == 1 else 0
    layer = nn.Conv2d(n_in, n_out, kernel, stride, padding, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(n_out), nn.ReLU())


def upward_convolution(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    """Return a transposed convolution with BatchNorm and ReLU that multiplies the size by its stride."""
    layer = nn.ConvTranspose2d(n_in, n_out, stride, stride, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(n_out), nn.ReLU())
