"""Checks of what callers hand in: shapes and dtypes anywhere, values once at the data boundary."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


def check_image_batch(images: Tensor, channels: int, height: int, width: int) -> Tensor:
    """The images, if they are a float batch (B, channels, height, width) with B of 1 or more. Looks at no value, so it stays traceable.

    Raises
    ------
    TypeError
        For integers such as uint8.
    ValueError
        For another shape, or an empty batch.
    """
    if not images.is_floating_point():
        raise TypeError(f"images have dtype {images.dtype}; expected floats in [0, 1]. Divide uint8 pixels by 255 first.")
    if images.dim() != 4:
        raise ValueError(f"images have shape {list(images.shape)}; expected (batch, {channels}, {height}, {width}).")
    if images.shape[0] == 0:
        raise ValueError("the batch of images is empty; give at least one image.")
    if images.shape[1] != channels:
        raise ValueError(f"images have {images.shape[1]} channels; the model expects {channels}. Convert them, or build with in_chans.")
    if images.shape[2] != height or images.shape[3] != width:
        raise ValueError(
            f"images are {images.shape[2]} x {images.shape[3]}; the model expects {height} x {width}. Resize them, or build with img_size."
        )
    return images


def check_pixels(images: Tensor, pixel_range: tuple[float, float] = (0.0, 1.0)) -> None:
    """Pixels must be finite and in the range of the model.

    Raises
    ------
    ValueError
        Naming the smallest and largest value given.

    Warns
    -----
    UserWarning
        If the model takes [-1, 1] and no pixel of the batch is negative, as happens with images in [0, 1].
    """
    least, most = pixel_range
    expected = f"[{least:g}, {most:g}]"
    low, high = (value.item() for value in torch.aminmax(images.detach()))
    if not (low == low and high == high):
        where = images.isnan().flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"images {where[:8]} of the batch hold NaN pixels; pixels must lie in {expected}.")
    if low < least or high > most:
        hint = ""
        if high > 2.0 * max(most, -low):
            hint = " They look like 0..255; divide by 255" + (f" and map to {expected}." if least < 0 else ".")
        elif least < 0:
            hint = f" They look ImageNet-normalised; this model takes pixels in {expected} (mean 0.5, std 0.5)."
        elif low < 0:
            hint = " They look ImageNet-normalised; this model takes plain [0, 1] pixels (mean 0, std 1)."
        raise ValueError(f"pixels lie in [{low:.4g}, {high:.4g}]; expected {expected}.{hint}")
    if low >= 0 > least:
        warnings.warn(
            f"no pixel of {len(images)} images is negative, they lie in [{low:.4g}, {high:.4g}], but this model takes {expected}; "
            "if the images lie in [0, 1], map them with the tokenizer's normalize().",
            stacklevel=3,
        )


def check_codes(codes: Tensor, num_tokens: int, code_dim: int) -> None:
    """Codes must be (B, N, K) with B of 1 or more; shape only.

    Raises
    ------
    ValueError
        Naming the shape given and the one expected.
    """
    if codes.dim() == 3 and codes.shape[2] != code_dim and codes.shape[1] == num_tokens:
        raise ValueError(
            f"codes have {codes.shape[2]} bits but this model was built with code_dim={code_dim}; "
            f"load the model with code_dim={codes.shape[2]}, or encode with its own tokenizer."
        )
    if codes.dim() != 3 or codes.shape[1:] != (num_tokens, code_dim) or codes.shape[0] == 0:
        hint = " Indices (B, N) belong to a VQ tokenizer." if codes.dim() == 2 and codes.shape[1] == num_tokens else ""
        raise ValueError(
            f"codes have shape {tuple(codes.shape)}; expected (batch, {num_tokens}, {code_dim}) with a batch of 1 or more.{hint}"
        )


def check_indices(indices: Tensor, num_tokens: int, codebook_size: int) -> None:
    """Indices must be integers (B, N) in 0..V-1, with B of 1 or more.

    Raises
    ------
    TypeError, ValueError
        Naming the dtype, the shape or the index given.
    """
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        hint = " Bits (B, N, K) belong to a binary tokenizer." if indices.dim() == 3 else ""
        raise TypeError(f"indices have dtype {indices.dtype}; expected integers (batch, {num_tokens}), one code a token.{hint}")
    if indices.dim() != 2 or indices.shape[1] != num_tokens or indices.shape[0] == 0:
        raise ValueError(f"indices have shape {tuple(indices.shape)}; expected (batch, {num_tokens}) with a batch of 1 or more.")
    low, high = (value.item() for value in torch.aminmax(indices))
    if low < 0 or high >= codebook_size:
        raise ValueError(
            f"index {low if low < 0 else high} is out of range; this tokenizer has codes 0..{codebook_size - 1}. "
            "Give indices that this tokenizer made."
        )


def check_bits(codes: Tensor) -> None:
    """Codes must hold 0 and 1 only.

    Raises
    ------
    ValueError
        Naming a value found.
    """
    wrong = (codes != 0) & (codes != 1)
    if wrong.any():
        raise ValueError(
            f"codes hold {codes[wrong][0].item():g}; expected bits, 0 and 1 only. Threshold probabilities at 0.5, or draw bits."
        )


def check_labels(labels: Tensor | None, null_class: int, unconditional: bool = False) -> None:
    """Labels must be integers in 0..null_class (None is the null class for all); of a model trained without labels, the null class.

    Raises
    ------
    TypeError, ValueError
        For floats; for a label out of range, naming it; for a class that the model never saw.
    """
    if labels is None:
        return
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"labels have dtype {labels.dtype}; expected integer class indices.")
    wrong = (labels < 0) | (labels > null_class)
    if wrong.any():
        raise ValueError(
            f"label {labels[wrong][0].item()} is out of range; expected 0..{null_class - 1}, or {null_class} for the null class."
        )
    if unconditional and (labels != null_class).any():
        raise ValueError(f"label {labels[labels != null_class][0].item()} was given, but the model was trained without labels; give none.")


def check_timesteps(timesteps: Tensor, shape: tuple[int, int], num_timesteps: int, values: bool = True) -> None:
    """Timesteps must be integers 1..T, one a token, or several in a last dimension.

    Raises
    ------
    ValueError
        Naming the shape or the value given.
    """
    fits = timesteps.shape[:2] == shape and timesteps.dim() in (2, 3) and timesteps.numel() > 0
    if not fits or timesteps.is_floating_point():
        raise ValueError(
            f"timesteps have shape {tuple(timesteps.shape)} and dtype {timesteps.dtype}; expected integers {shape}, "
            f"or {(*shape, 'R')} for R noise levels a token."
        )
    if not values:
        return
    wrong = (timesteps < 1) | (timesteps > num_timesteps)
    if wrong.any():
        raise ValueError(f"timestep {timesteps[wrong][0].item()} is out of range; expected 1..{num_timesteps}.")


def check_noisy_codes(codes: Tensor, shape: tuple[int, int, int], levels: int) -> None:
    """Noisy codes must have the shape of the codes, with the noise levels of a token before its bits if there are several.

    Raises
    ------
    ValueError
        Naming the shape given and the one expected.
    """
    expected = (*shape[:2], levels, shape[2])
    if codes.shape[:2] == shape[:2] and codes.shape[-1] != shape[2]:
        raise ValueError(f"noisy_codes have {codes.shape[-1]} bits but this model was built with code_dim={shape[2]}.")
    if tuple(codes.shape) != expected and not (levels == 1 and tuple(codes.shape) == shape):
        raise ValueError(
            f"noisy_codes have shape {tuple(codes.shape)}; expected {shape if levels == 1 else expected}, as many a token as timesteps."
        )


def some(names, most: int = 4) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def differences(ours: dict, theirs: dict, words: str = "is {theirs} there and {ours} here") -> list[str]:
    """What differs between two settings, as text: "dtype is 'fp32' there and 'bf16' here".

    Of settings within settings, the inner ones are named: "preprocessing.crop_pct is 0.9 there and 1.0 here".
    """
    found = []
    for key in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(key), theirs.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += [f"{key}.{text}" for text in differences(one, other, words)]
        elif one != other:
            found.append(f"{key} {words.format(theirs=short(other), ours=short(one))}")
    return found


def short(value) -> str:
    """A value for a message: long texts are cut."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
