"""k-NN: exact neighbours by either search, votes by hand, no query finds itself."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.utils.estimator_checks import parametrize_with_checks

from bigr_features import KNNClassifier
from bigr_features.evaluate.knn import voted_scores
from bigr_features.evaluate.metrics import top_k_correct
from bigr_features.evaluate.neighbors import CosineSearch, _largest


@parametrize_with_checks([KNNClassifier(n_neighbors=3), KNNClassifier(n_neighbors=(1, 3), temperature=(0.07, 0.2), holdout=0.5)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(900, 30, n_informative=12, n_classes=4, random_state=0)
    X = X.astype(np.float32)
    return X[:600], y[:600], X[600:], y[600:]


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("offset", [0, 30])
def test_neighbours_are_scikit_learns(fast, offset):
    rng = np.random.default_rng(1)
    gallery, queries = (rng.standard_normal((n, 48)).astype(np.float32) + offset for n in (5000, 300))
    search = CosineSearch(gallery, fast=fast)
    similarities, indices = search.search(queries, 20)
    distances, expected = (
        NearestNeighbors(n_neighbors=20, algorithm="brute", metric="cosine").fit(gallery.astype(float)).kneighbors(queries.astype(float))
    )
    np.testing.assert_allclose(similarities, 1 - distances, atol=1e-6)
    assert (indices == expected).mean() > (0.999 if offset == 0 else 0.9)  # similarities of 0.9999 differ in the last digit of float32
    assert fast or search.num_unproven == 300


def test_the_shortlist_is_proven_for_most_queries_and_the_rest_is_searched_again():
    rng = np.random.default_rng(2)
    gallery, queries = (rng.standard_normal((n, 64)).astype(np.float32) for n in (6000, 200))
    easy = CosineSearch(gallery, fast=True)
    easy.search(queries, 5)
    assert easy.num_unproven < 50
    # 500 copies, apart by less than a bfloat16 digit: no shortlist can be proven, and the answer is right all the same
    gallery[:500] = queries[0] + 1e-4 * rng.standard_normal((500, 64)).astype(np.float32)
    hard, exact = CosineSearch(gallery, fast=True), CosineSearch(gallery, fast=False)
    found, expected = hard.search(queries[:1], 5), exact.search(queries[:1], 5)
    assert hard.num_unproven == 1
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("fast", [False, True])
def test_equal_items_come_by_lower_index(fast):
    rng = np.random.default_rng(3)
    gallery = np.repeat(rng.standard_normal((100, 33)).astype(np.float32), 5, axis=0)
    _, indices = CosineSearch(gallery, fast=fast).search(gallery[::5], 5)
    np.testing.assert_array_equal(indices, np.arange(500).reshape(100, 5))


@pytest.mark.parametrize("n", [10, 700, 4096, 5003])
def test_largest_by_groups_is_topk(n):
    values = torch.randn(20, n, generator=torch.Generator().manual_seed(0))
    size = min(n, 37)
    best, items = _largest(values, size)
    torch.testing.assert_close(best, values.topk(size).values)
    torch.testing.assert_close(values.gather(1, items), best)


def test_votes_by_hand():
    angles = np.deg2rad([0.0, 30, 60, 90])
    X, y = np.stack([np.cos(angles), np.sin(angles)], 1), np.array(["a", "b", "b", "c"])
    probe = KNNClassifier(n_neighbors=3, temperature=0.5).fit(X, y)
    weights = np.exp(np.cos(np.deg2rad([0.0, 30, 60])) / 0.5)
    expected = np.array([weights[0], weights[1] + weights[2], 0]) / weights.sum()
    np.testing.assert_allclose(probe.predict_proba(X[:1])[0], expected, rtol=1e-5)


def test_votes_and_accuracy_are_scikit_learns_with_the_same_weights(data):
    X, y, X_test, y_test = data
    theirs = KNeighborsClassifier(7, algorithm="brute", metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)).fit(X, y)
    ours = KNNClassifier(n_neighbors=7).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X_test), theirs.predict_proba(X_test), atol=1e-4)
    assert ours.score(X_test, y_test) == pytest.approx(theirs.score(X_test, y_test), abs=0.002)
    plain = KNeighborsClassifier(7, algorithm="brute", metric="cosine").fit(X, y)
    np.testing.assert_allclose(KNNClassifier(7, 1e6).fit(X, y).predict_proba(X_test), plain.predict_proba(X_test), atol=1e-4)


def test_a_tiny_temperature_does_not_overflow(data):
    X, y, X_test, _ = data
    shares = KNNClassifier(n_neighbors=7, temperature=1e-6).fit(X, y).predict_proba(X_test)
    np.testing.assert_allclose(shares.sum(1), 1)


def test_several_k_in_one_pass_equal_one_at_a_time(data):
    X, y, X_test, _ = data
    shares = KNNClassifier(n_neighbors=(1, 5, 20)).fit(X, y).predict_proba_each(X_test)
    for k, share in shares.items():
        np.testing.assert_allclose(share, KNNClassifier(n_neighbors=k).fit(X, y).predict_proba(X_test))


def test_k_and_temperature_are_chosen_on_held_out_training_data(data):
    X, y, X_test, _ = data
    probe = KNNClassifier(n_neighbors=(1, 5, 400), temperature=(0.07, 5.0)).fit(X, y)
    assert probe.holdout_accuracies_.shape == (1, 3, 2)
    i, j = np.unravel_index(probe.holdout_accuracies_[0].argmax(), (3, 2))
    assert (probe.n_neighbors_, probe.temperature_) == ((1, 5, 400)[i], (0.07, 5.0)[j])
    plain = KNNClassifier(n_neighbors=probe.n_neighbors_, temperature=probe.temperature_).fit(X, y)
    np.testing.assert_array_equal(probe.predict(X_test), plain.predict(X_test))


def test_left_out_one_by_one(data):
    X, y, _, _ = data
    X, y = X[:60], y[:60]
    probe = KNNClassifier(n_neighbors=(1, 5)).fit(X, y)
    for k, accuracy in probe.leave_one_out_accuracy().items():
        others = [np.delete(np.arange(60), i) for i in range(60)]
        hits = [KNNClassifier(n_neighbors=k).fit(X[rest], y[rest]).predict(X[i : i + 1])[0] == y[i] for i, rest in enumerate(others)]
        assert accuracy == pytest.approx(np.mean(hits))


def test_left_out_among_copies_of_itself():
    X, y = np.repeat(np.eye(3), 4, axis=0), np.array([0, 0, 0, 1] * 3)
    # the 1 of each four sees the three 0 only; each 0 sees two 0 and the 1
    assert KNNClassifier(n_neighbors=3).fit(X, y).leave_one_out_accuracy() == {3: 0.75}
    # with one neighbour, the first 0 sees the second and everything else sees the first
    assert KNNClassifier(n_neighbors=1).fit(X, y).leave_one_out_accuracy() == {1: 0.75}


def test_a_class_without_votes_is_no_top_5_hit(data):
    X, y, X_test, y_test = data
    probe = KNNClassifier(n_neighbors=1).fit(X, y)
    scores = voted_scores(probe.predict_proba(X_test))
    assert top_k_correct(scores, y_test, probe.classes_, 5).mean() == probe.score(X_test, y_test) < 1
    assert probe.leave_one_out_accuracy(top=4) == probe.leave_one_out_accuracy()


def test_a_class_seen_only_in_the_test_set_counts_as_wrong(data):
    X, y, X_test, y_test = data
    probe = KNNClassifier(n_neighbors=5).fit(X[y != 3], y[y != 3])
    assert 3 not in probe.predict(X_test)
    assert probe.score(X_test, y_test) <= (y_test != 3).mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_neighbors": 601}, "n_neighbors=601, but there are 600 training samples"),
        ({"n_neighbors": (5, 481)}, "n_neighbors=481, but there are 480 training samples that are not held out"),
        ({"n_neighbors": 0}, "n_neighbors=0"),
        ({"n_neighbors": 2.5}, r"n_neighbors=2\.5"),
        ({"n_neighbors": ()}, "one or more integers"),
        ({"temperature": 0}, "temperature=0"),
        ({"temperature": (0.1, np.nan)}, "positive"),
    ],
)
def test_wrong_settings_are_named(data, settings, message):
    X, y, _, _ = data
    with pytest.raises(ValueError, match=message):
        KNNClassifier(**settings).fit(X, y)


def test_items_that_are_not_finite_are_named(data):
    X, y, X_test, _ = data
    probe = KNNClassifier(n_neighbors=5).fit(X, y)
    X_test = X_test.copy()
    X_test[3, 0] = np.nan
    with pytest.raises(ValueError, match="items 3 hold NaN"):
        probe.predict(X_test)


def test_multilabel_targets_are_refused(data):
    X, y, _, _ = data
    with pytest.raises(ValueError, match="multilabel"):
        KNNClassifier().fit(X, np.eye(4, dtype=int)[y])
