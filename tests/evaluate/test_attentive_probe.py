"""The attentive probe finds the one token that matters, and its pooling is attention by hand."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from bigr_features import LinearProbe
from bigr_features.evaluate.attention_pooling import AttentionPooling, EfficientPooling
from bigr_features.evaluate.attentive_probe import AttentiveProbe, EfficientProbe


@pytest.fixture(scope="module")
def needle():
    """Six tokens of noise; at a random place one is marked, and its other entries tell the class. Their mean hardly does."""
    rng = np.random.default_rng(0)
    X, y = 2 * rng.standard_normal((900, 6, 16)).astype(np.float32), rng.integers(0, 3, 900)
    place = rng.integers(0, 6, 900)
    X[np.arange(900), place] = 0.3 * rng.standard_normal((900, 16))
    X[np.arange(900), place, 0] += 12
    X[np.arange(900), place, 1 + y] += 5
    return X[:600], y[:600], X[600:], y[600:]


def test_attention_finds_what_the_mean_hides(needle):
    X, y, X_test, y_test = needle
    probe = AttentiveProbe(num_heads=2, lrs=(3e-3, 1e-2), epochs=(4, 12), batch_size=64).fit(X, y)
    mean = LinearProbe(Cs=(0.1,)).fit(X.mean(1), y).score(X_test.mean(1), y_test)
    assert probe.score(X_test, y_test) > mean + 0.1
    i, j = np.unravel_index(probe.holdout_accuracies_[0].argmax(), (2, 2))
    assert (probe.lr_, probe.epochs_) == ((3e-3, 1e-2)[i], (4, 12)[j])


def test_the_same_seed_gives_the_same_probe(needle):
    X, y, X_test, _ = needle
    probe = AttentiveProbe(num_heads=2, lrs=1e-3, epochs=1)
    first, second = (clone(probe).fit(X[:200], y[:200]).predict_proba(X_test) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first.sum(1), 1, rtol=1e-5)


def test_pooling_by_its_definition():
    pooling = AttentionPooling(8, 2, 3, torch.Generator().manual_seed(0)).eval()
    torch.nn.init.normal_(pooling.query)
    tokens = torch.randn(4, 5, 8)
    key, value = pooling.key(tokens / (1 + 1e-6) ** 0.5), pooling.value(tokens / (1 + 1e-6) ** 0.5)
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        weights = torch.softmax(key[..., part] @ pooling.query[head, 0] / 4**0.5, 1)
        heads.append((weights[..., None] * value[..., part]).sum(1))
    torch.testing.assert_close(pooling(tokens), pooling.head(torch.cat(heads, 1)))


def test_efficient_pooling_by_its_definition():
    """Queries score raw tokens, each pools its own slice of one map of values, computed token by token here."""
    pooling = EfficientPooling(12, 3, 5, torch.Generator().manual_seed(0)).eval()
    torch.nn.init.normal_(pooling.query)
    tokens = torch.randn(4, 7, 12)
    x = tokens / (1 + 1e-6) ** 0.5
    value, parts = pooling.value(x), []
    for query in range(3):
        weights = torch.softmax(x @ pooling.query[query] / 12**0.5, 1)
        parts.append((weights[..., None] * value[..., 4 * query : 4 * query + 4]).sum(1))
    torch.testing.assert_close(pooling(tokens), pooling.head(torch.cat(parts, 1) / (1 + 1e-6) ** 0.5))
    assert sum(p.numel() for p in pooling.parameters()) == 3 * 12 + 12 * 12 + 13 * 5


def test_few_queries_find_what_the_mean_hides(needle):
    X, y, X_test, y_test = needle
    probe = EfficientProbe(num_queries=(1, 2), lrs=1e-2, epochs=12, batch_size=64).fit(X, y)
    mean = LinearProbe(Cs=(0.1,)).fit(X.mean(1), y).score(X_test.mean(1), y_test)
    assert probe.score(X_test, y_test) > mean + 0.1
    assert probe.holdout_accuracies_.shape == (2, 1, 1)
    assert probe.num_queries_ == (1, 2)[probe.holdout_accuracies_.argmax()]


@pytest.mark.parametrize("max_bytes", [0, 2**32])
def test_half_precision_tokens_on_disk_give_the_probe_of_the_array(needle, tmp_path, max_bytes, caplog):
    X, y, X_test, _ = needle
    half = X.astype(np.float16)
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=half.dtype, shape=half.shape)
    mapped[:] = half
    probe = EfficientProbe(num_queries=2, lrs=1e-3, epochs=1, max_bytes=max_bytes)
    with caplog.at_level("INFO"):
        stored = clone(probe).fit(mapped, y).predict_proba(X_test)
    np.testing.assert_array_equal(stored, clone(probe).fit(half.astype(np.float32), y).predict_proba(X_test))
    assert ("read from disk again in every pass" in caplog.text) == (max_bytes == 0)


@pytest.mark.parametrize(
    ("num_queries", "message"),
    [
        (7, "num_queries=7, but there are 6 tokens"),
        ((2, 5), "num_queries=5 does not divide the width 16 of the tokens; choose of 1, 2, 4"),
        (0, "num_queries=0"),
        (1.5, r"num_queries=1\.5"),
        ((), "one or more integers"),
    ],
)
def test_wrong_numbers_of_queries_are_named(needle, num_queries, message):
    with pytest.raises(ValueError, match=message):
        EfficientProbe(num_queries).fit(*needle[:2])


def test_string_labels_come_back(needle):
    X, y, X_test, _ = needle
    names = np.array(["ant", "bee", "cat"])
    assert set(AttentiveProbe(lrs=1e-3, epochs=1).fit(X, names[y]).predict(X_test)) <= set(names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_heads": 3}, "num_heads=3 does not divide the width 16"), ({"lrs": ()}, r"lrs=\(\)"), ({"batch_size": 0}, "batch_size=0")],
)
def test_wrong_settings_are_named(needle, settings, message):
    with pytest.raises(ValueError, match=message):
        AttentiveProbe(**settings).fit(*needle[:2])


def test_what_is_no_token_array_is_refused(needle):
    X, y, X_test, _ = needle
    with pytest.raises(ValueError, match="use LinearProbe"):
        AttentiveProbe().fit(X[:, 0], y)
    with pytest.raises(ValueError, match="multilabel"):
        AttentiveProbe().fit(X, np.eye(3, dtype=int)[y])
    probe = AttentiveProbe(lrs=1e-3, epochs=1).fit(X, y)
    with pytest.raises(ValueError, match=r"\(5, 16\) each; the probe was fitted on \(6, 16\)"):
        probe.predict(X_test[:, :5])
    broken = X_test.copy()
    broken[7, 2, 3] = np.nan
    with pytest.raises(ValueError, match="items 7 hold NaN"):
        probe.predict(broken)
