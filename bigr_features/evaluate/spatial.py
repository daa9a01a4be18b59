"""Where things are in a picture: a Frechet distance of feature maps that are not pooled.   n images, C channels, h x w positions"""

from __future__ import annotations

import numpy as np

CHANNELS = 7  # the first ones of the layer, as in sFID (arXiv:2103.03841)


def spatial_features(maps: np.ndarray, channels: int = CHANNELS) -> np.ndarray:
    """The first channels of feature maps, flattened row by row with the channels last, for a spatial Frechet distance.

    With the maps of Inception's `mixed_6/conv` (17 x 17) these are the 2,023 numbers of ADM's sFID, in the order of its `mu_s`. Of another
    network or layer, call the distance by their names: it is no sFID.

    Parameters
    ----------
    maps : array (n, C, h, w), or (n, h w, C) of a network of tokens

    Returns
    -------
    array (n, h w min(C, channels))
    """
    maps = np.asarray(maps)
    if maps.ndim not in (3, 4) or channels < 1:
        raise ValueError(f"maps have shape {maps.shape}, channels={channels}; expected (n, C, h, w) or (n, tokens, C), and 1 or more.")
    last = maps.transpose(0, 2, 3, 1) if maps.ndim == 4 else maps
    return np.ascontiguousarray(last[..., :channels]).reshape(len(maps), -1)
