"""Promises of binarizers: bits that keep what is near near."""

from __future__ import annotations

import numpy as np
import pytest

from bigr_features.nearest.binarize import Binarizer, fit_binarizer
from bigr_features.nearest.exact import nearest_by_hamming

from ..gallery.test_gallery import cosines


def test_bits_by_sign_by_hand():
    features = np.array([[1.0, 5], [3, 1], [2, 9]], np.float32)  # means 2 and 5
    assert np.unpackbits(fit_binarizer("sign", features).bits(features), axis=1)[:, :2].tolist() == [[0, 0], [1, 0], [0, 1]]


def test_itq_is_a_rotation_of_principal_axes_that_loses_less():
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((2000, 12)) * np.linspace(3, 0.2, 12)) @ np.linalg.qr(rng.standard_normal((12, 12)))[0] + 5

    def loss(binarizer: Binarizer) -> float:
        projected = (features - binarizer.mean) @ binarizer.rotation
        return float(((np.sign(projected) - projected) ** 2).mean())

    turned, plain = (fit_binarizer("itq", features, 4, iterations=n) for n in (50, 0))
    np.testing.assert_allclose(turned.rotation.T @ turned.rotation, np.eye(4), atol=1e-5)
    kept = ((features - turned.mean) @ turned.rotation).var(0).sum()
    assert kept == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(features.T)))[-4:].sum(), rel=1e-3)
    assert loss(turned) < loss(plain)
    assert turned.bits(features).shape == (2000, 1)


def test_learned_bits_find_more_neighbours_than_signs():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1000, 32)) * np.linspace(3, 0.1, 32)
    exact = np.argsort(-cosines(features[:50], features), 1)[:, 1:11]
    recall = {}
    for kind in ("sign", "itq"):
        bits = fit_binarizer(kind, features, 32).bits(features)
        found = nearest_by_hamming(bits[:50], bits, 51)[1]
        recall[kind] = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)])
    assert recall["itq"] > recall["sign"] + 0.05
