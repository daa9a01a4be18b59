"""Nearest neighbours by cosine similarity: exact, and fast where the processor multiplies bfloat16 matrices.

A bfloat16 product over the whole gallery gives each query a shortlist; the shortlist is ranked again by exact float32 similarities, and a
bound on the rounding errors proves for each query that no item outside can be among its neighbours. Queries without that proof, and
devices without the instructions, are searched in float32: on the CPU by faiss, on another device by a product.

q queries, n gallery items, D features, S shortlisted items
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from ..functional.vectors import unit_length
from .devices import CPU, bfloat16_is_fast

log = logging.getLogger(__name__)

PRODUCT_BYTES = 2**26  # of the similarities computed at a time
MARGIN = 96  # items of a shortlist beyond the neighbours asked for
BLOCK = 1024  # rows of a gallery that are prepared at a time, few enough to stay in cache
GROUP = 32  # items of which only the best is looked at first


class CosineSearch:
    """A gallery, ready to be searched.

    Parameters
    ----------
    gallery : float array (n, D)
        Scaled to unit length here; a zero vector has similarity 0 to everything.
    fast : bool, optional
        Whether to shortlist in bfloat16; default where the device has instructions for it and the gallery is large enough to matter.
    device : torch.device
        Where the shortlists are made.
    copy : bool
        False scales a float32 gallery in place.

    Attributes
    ----------
    num_unproven : int
        Queries of the last search that needed the float32 search.
    """

    def __init__(self, gallery: np.ndarray, fast: bool | None = None, device: torch.device = CPU, copy: bool = True):
        self.gallery = unit_length(gallery, out=None if copy else gallery)
        self.device = device
        self.fast = bfloat16_is_fast(device) and len(gallery) >= 4096 if fast is None else fast
        self.num_unproven = 0
        if self.fast:
            # a query ranks items alike if one vector is taken from all of them, and shorter vectors have smaller rounding errors
            self._centre = self.gallery.mean(0)  # (D,)
            self._rough = torch.empty(self.gallery.shape, dtype=torch.bfloat16, device=device)
            error = length = 0.0
            for start in range(0, len(gallery), BLOCK):
                centred = torch.from_numpy(self.gallery[start : start + BLOCK] - self._centre)
                rough = centred.to(torch.bfloat16)
                self._rough[start : start + BLOCK] = rough.to(device)
                error = max(error, float((centred - rough.float()).norm(dim=1).max()))
                length = max(length, float(rough.float().norm(dim=1).max()))
            self._error, self._length = error, length
        self._items = None if device.type == "cpu" else torch.from_numpy(self.gallery).to(device)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar items of each query, best first; equal similarities by lower index.

        Returns
        -------
        similarities float32 (q, k), indices int64 (q, k)

        Raises
        ------
        ValueError
            If k is not in 1..n.
        """
        n = len(self.gallery)
        if not 1 <= k <= n:
            raise ValueError(f"k={k} neighbours were asked for, but the gallery has {n} items; ask for 1 to {n}.")
        queries, size = unit_length(queries), min(n, k + MARGIN)
        similarities, indices = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        proven = np.zeros(len(queries), bool)
        step = max(16, PRODUCT_BYTES // (2 * n))
        for start in range(0, len(queries), step) if self.fast else ():
            place = slice(start, min(start + step, len(queries)))
            shortlist, ceiling = self._rough_shortlist(queries[place], size)
            similarities[place], indices[place] = self._rank(queries[place], shortlist, k)
            proven[place] = (similarities[place, -1] > ceiling) | (size == n)
            if not proven[place].mean() > 0.5:  # these features lie too close together for the shortlist to pay
                break
        rest = np.flatnonzero(~proven)
        self.num_unproven = len(rest)
        for start in range(0, len(rest), step):
            rows = rest[start : start + step]
            similarities[rows], indices[rows] = self._rank(queries[rows], self._exact_shortlist(queries[rows], size), k)
        return similarities, indices

    def _rough_shortlist(self, queries: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Items (q, S), and a similarity (q,) that no item outside of them exceeds."""
        exact = torch.from_numpy(queries)
        rough = exact.to(torch.bfloat16)
        products = rough.to(self.device) @ self._rough.T  # (q, n)
        values, shortlist = (found.cpu() for found in _largest(products, size))
        cutoff = values[:, -1].float()
        # |q c - q~ c~| <= |q - q~| |c~| + |q| |c - c~|, then the sum's own rounding and that of its result to bfloat16
        error = (exact - rough.float()).norm(dim=1) * self._length + self._error + 1e-7 * queries.shape[1] * self._length
        ceiling = cutoff + cutoff.abs() * 2**-8 + error + exact @ torch.from_numpy(self._centre) + 1e-6
        return shortlist.numpy(), ceiling.numpy()

    def _exact_shortlist(self, queries: np.ndarray, size: int) -> np.ndarray:
        if self._items is not None:
            return _largest(torch.from_numpy(queries).to(self.device) @ self._items.T, size)[1].cpu().numpy()
        import faiss

        return faiss.knn(queries, self.gallery, size, metric=faiss.METRIC_INNER_PRODUCT)[1]

    def _rank(self, queries: np.ndarray, shortlist: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best k of the shortlist (q, S) by similarities that are computed alike for equal vectors, so that ties are ties."""
        import faiss

        queries = np.ascontiguousarray(queries)
        shortlist = np.ascontiguousarray(np.sort(shortlist, axis=1), dtype=np.int64)
        similarities = np.empty(shortlist.shape, np.float32)
        pointers = (faiss.swig_ptr(array) for array in (similarities, queries, self.gallery, shortlist))
        faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *shortlist.shape)
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(similarities, order, 1), np.take_along_axis(shortlist, order, 1)


def _largest(values: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The `size` largest of each row, best first: those of the `size` groups with the largest maxima, which hold them all."""
    width = values.shape[1] // GROUP
    if width < 2 * size:
        return values.topk(size, dim=1)
    grouped = values[:, : width * GROUP].unflatten(1, (GROUP, width))  # item = row of the group * width + group
    groups = grouped.amax(1).topk(size, dim=1, sorted=False).indices  # (q, S)
    candidates = grouped.gather(2, groups[:, None].expand(-1, GROUP, -1)).flatten(1)  # (q, GROUP * S)
    items = (torch.arange(GROUP, device=values.device)[:, None] * width + groups[:, None]).flatten(1)
    rest = values[:, width * GROUP :]
    if rest.shape[1]:
        candidates = torch.cat([candidates, rest], 1)
        items = torch.cat([items, torch.arange(width * GROUP, values.shape[1], device=values.device).expand(len(values), -1)], 1)
    best, order = candidates.topk(size, dim=1)
    return best, items.gather(1, order)
