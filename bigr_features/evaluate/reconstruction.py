"""What tokenizer training reports.   B images, C channels, N tokens, K bits, V codes"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def psnr(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image (B,), dB, for pixels in [0, 1] (reconstructions are clamped to it)."""
    error = (images - reconstructions.clamp(0, 1)).square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp(min=1e-10))


SSIM_WINDOW = 11  # pixels; a smaller image has no such window


def ssim(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Structural similarity of each image (B,), for pixels in [0, 1] (Wang et al. 2004: 11 x 11 Gaussian window of sigma 1.5).

    The mean is over window positions that lie wholly inside the image, and over channels.

    Raises
    ------
    ValueError
        For images of fewer than 11 pixels in height or width.
    """
    if min(images.shape[-2:]) < SSIM_WINDOW:
        size = " x ".join(map(str, images.shape[-2:]))
        raise ValueError(f"images are {size}; SSIM compares windows of {SSIM_WINDOW} x {SSIM_WINDOW} pixels and needs at least as many.")
    x, y = images, reconstructions.clamp(0, 1)
    line = torch.exp(-((torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2) ** 2) / (2 * 1.5**2))
    line = line / line.sum()
    kernel = (line[:, None] * line[None]).expand(x.shape[1], 1, SSIM_WINDOW, SSIM_WINDOW)

    def blur(z: Tensor) -> Tensor:
        return F.conv2d(z, kernel, groups=z.shape[1])

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y, cov = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.flatten(1).mean(1)


def bit_usage(codes: Tensor) -> Tensor:
    """Share of tokens in which each bit is 1, (K,), of codes (..., N, K)."""
    return codes.float().flatten(0, -2).mean(0)


def binary_entropy(probability: Tensor) -> Tensor:
    """Entropy of a coin with this probability, bits."""
    p = probability.clamp(1e-7, 1 - 1e-7)
    return -(p * p.log2() + (1 - p) * (1 - p).log2())


def code_counts(indices: Tensor, codebook_size: int) -> Tensor:
    """How often each code was chosen, (V,) int64, from indices of any shape; the device does not wait."""
    indices = indices.flatten()
    counts = torch.zeros(codebook_size, dtype=torch.int64, device=indices.device)
    return counts.index_add_(0, indices, torch.ones_like(indices))


def code_usage(counts: Tensor) -> Tensor:
    """Share of the codes that were chosen at all, from their counts (V,)."""
    return (counts > 0).float().mean()


def code_perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of the choices, from their counts (V,): so many codes in equal use would be as hard to guess."""
    share = counts.double() / counts.sum().clamp(min=1)
    return torch.special.entr(share).sum().exp().float()
