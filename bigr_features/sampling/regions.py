"""Where an image is drawn anew: pixel masks, the tokens they hide, and putting the result into the original.

B images, H x W pixels, G x G tokens.  True = to be drawn anew
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDES = ("left", "right", "top", "bottom")


def box_mask(size: int, top: int, left: int, height: int, width: int) -> Tensor:
    """Pixel mask (size, size) that is True in a box.

    Raises
    ------
    ValueError
        If the box is empty or leaves the image.
    """
    if height < 1 or width < 1 or top < 0 or left < 0 or top + height > size or left + width > size:
        raise ValueError(
            f"the box of {height} x {width} pixels at row {top}, column {left} does not lie in an image of {size} x {size}; "
            f"give top and left of 0 or more, and top + height and left + width of at most {size}."
        )
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def center_mask(size: int, fraction: float = 0.5) -> Tensor:
    """Pixel mask (size, size) that is True in the central square of `fraction` of the side."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction}; expected a number between 0 and 1.")
    side = max(1, round(fraction * size))
    start = (size - side) // 2
    return box_mask(size, start, start, side, side)


def side_mask(size: int, side: str, fraction: float = 0.5) -> Tensor:
    """Pixel mask (size, size) that is True in the left, right, top or bottom part of the image."""
    if side not in SIDES:
        raise ValueError(f"side={side!r}; choose one of {', '.join(SIDES)}.")
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction}; expected a number between 0 and 1.")
    depth = max(1, round(fraction * size))
    start = size - depth if side in ("right", "bottom") else 0
    return box_mask(size, 0, start, size, depth) if side in ("left", "right") else box_mask(size, start, 0, depth, size)


def pixel_masks(mask, batch: int, size: int) -> Tensor:
    """Pixel masks (B, H, W), bool, from what callers give.

    Parameters
    ----------
    mask : Tensor or array (H, W), (B, H, W) or (B, 1, H, W)
        bool, or numbers that are 0 or 1. One mask (H, W) holds for every image.

    Raises
    ------
    ValueError
        For another size or number of masks, other values, or a mask that hides nothing, naming the image.
    """
    mask = torch.as_tensor(np.asarray(mask)) if not isinstance(mask, Tensor) else mask
    given = tuple(mask.shape)
    if mask.dim() == 4 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.dim() == 2:
        mask = mask.expand(batch, *mask.shape)
    if mask.dim() != 3 or mask.shape[0] != batch:
        raise ValueError(f"mask has shape {given}; expected ({size}, {size}) for all images, or ({batch}, {size}, {size}), one an image.")
    if tuple(mask.shape[1:]) != (size, size):
        raise ValueError(f"mask is {mask.shape[1]} x {mask.shape[2]} but the images are {size} x {size}; resize the mask first.")
    if mask.dtype != torch.bool:
        wrong = (mask != 0) & (mask != 1)
        if wrong.any():
            raise ValueError(f"mask holds {mask[wrong][0].item():g}; expected True and False, or 0 and 1 (1 = draw anew).")
        mask = mask == 1
    empty = (~mask.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"the mask of image {empty[0]} is empty, so there is nothing to draw; mark at least one pixel with True (1).")
    return mask


def token_masks(masks: Tensor, grid_size: int) -> Tensor:
    """Hidden tokens (B, N) of pixel masks (B, H, W): a token is hidden if any of its pixels is.

    Raises
    ------
    ValueError
        If every token of an image is hidden, naming the image.
    """
    hidden = F.adaptive_max_pool2d(masks[:, None].float(), grid_size).flatten(1) > 0  # (B, N)
    full = hidden.all(1).nonzero().flatten().tolist()
    if full:
        raise ValueError(
            f"the mask of image {full[0]} touches every one of its {grid_size} x {grid_size} tokens, so no token is known; "
            "leave some region free, or use generate."
        )
    return hidden


def conceal(images: Tensor, masks: Tensor) -> Tensor:
    """Images whose masked pixels are replaced by the mean of the image's other pixels, channel by channel."""
    known = (~masks)[:, None].to(images.dtype)  # (B, 1, H, W)
    mean = (images * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
    return torch.where(masks[:, None], mean, images)


def composite(original: Tensor, drawn: Tensor, masks: Tensor) -> Tensor:
    """The drawn images (B, C, H, W) inside the masks (B, H, W), the original's own pixels outside."""
    return torch.where(masks[:, None], drawn, original)


def blend_seams(original: Tensor, drawn: Tensor, masks: Tensor) -> Tensor:
    """As `composite`, with the drawn region's brightness fitted to its surroundings by OpenCV's seamlessClone (Poisson blending).

    Pixels outside the masks stay the original's. Colours are rounded to 8 bits inside.

    Raises
    ------
    ImportError
        If OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError('blending seams needs OpenCV: pip install "bigr-features[edit]"') from error
    blended = drawn.detach().clone()
    for image, (before, new, mask) in enumerate(zip(original, drawn, masks, strict=True)):
        pixels = _seamless_clone(cv2, _to_bgr(before), _to_bgr(new), mask.cpu().numpy())
        colors = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1).to(blended) / 255
        blended[image] = colors if len(before) == 3 else colors.mean(0, keepdim=True)
    return composite(original, blended, masks)


def _to_bgr(image: Tensor) -> np.ndarray:
    pixels = (image.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels[..., ::-1])


def _seamless_clone(cv2, before: np.ndarray, new: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Poisson blending of `new` into `before`, both uint8 (H, W, 3), inside mask (H, W).

    OpenCV shrinks its mask by 3 pixels, takes gradients of the surroundings in between, and needs a margin. So the mask is grown by 3,
    and everything gets a margin of repeated edge pixels. Where the mask meets the border of the image, nothing lies beyond to fit to: the
    mask runs on into the margin, which shows the drawn image there.
    """
    margin, shrink, kernel = 8, 3, np.ones((3, 3), np.uint8)
    source, target, grown = (
        cv2.copyMakeBorder(array, margin, margin, margin, margin, cv2.BORDER_REPLICATE) for array in (new, before, mask.astype(np.uint8))
    )
    inside = np.zeros(grown.shape, dtype=bool)
    inside[margin:-margin, margin:-margin] = True
    target = np.where((grown > 0)[..., None] & ~inside[..., None], source, target)
    frame = margin - shrink - 1
    grown[:frame] = grown[-frame:] = grown[:, :frame] = grown[:, -frame:] = 0
    grown = cv2.dilate(grown, kernel, iterations=shrink)
    x, y, width, height = cv2.boundingRect(grown)
    result = cv2.seamlessClone(source, target, grown * 255, (x + width // 2, y + height // 2), cv2.NORMAL_CLONE)
    return result[margin:-margin, margin:-margin]
