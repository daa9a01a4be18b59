"""MAE's linear probe: every piece against its definition, the whole against torch modules and timm's LARS."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.utils.estimator_checks import parametrize_with_checks
from timm.optim import Lars

from bigr_features import LinearProbe
from bigr_features.evaluate.lars import lars_update, warmup_cosine
from bigr_features.evaluate.mae_probe import MAEProbe


@parametrize_with_checks([MAEProbe(base_lrs=(100.0,), batch_size=5, epochs=8, warmup_epochs=2)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(700, 24, n_informative=10, n_classes=4, class_sep=1.5, random_state=0)
    X = (3 * X + 1).astype(np.float32)
    return X[:500], y[:500], X[500:], y[500:]


def test_the_update_by_hand():
    weight, gradient, momentum = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[0.6, 0.8]]]), torch.tensor([[[0.1, 0.0]]])
    lars_update(weight, gradient, momentum, torch.tensor([2.0]))
    # trust 0.001 x |(3, 4)| / |(0.6, 0.8)| = 0.005;   0.9 x (0.1, 0) + 0.005 x (0.6, 0.8) = (0.093, 0.004);   weights - 2 x that
    torch.testing.assert_close(momentum, torch.tensor([[[0.093, 0.004]]]))
    torch.testing.assert_close(weight, torch.tensor([[[2.814, 3.992]]]))
    bias, momentum = torch.tensor([[1.0, 1.0]]), torch.zeros(1, 2)
    lars_update(bias, torch.tensor([[0.5, 0.0]]), momentum, torch.tensor([2.0]))
    torch.testing.assert_close(bias, torch.tensor([[0.0, 1.0]]))  # no trust scaling of a vector


@pytest.mark.parametrize("zero", ["weight", "gradient"])
def test_a_zero_norm_scales_nothing(zero):
    weight = torch.zeros(1, 2, 2) if zero == "weight" else torch.ones(1, 2, 2)
    gradient = torch.zeros(1, 2, 2) if zero == "gradient" else torch.ones(1, 2, 2)
    expected = weight - 0.5 * gradient
    lars_update(weight, gradient, torch.zeros(1, 2, 2), torch.tensor([0.5]))
    torch.testing.assert_close(weight, expected)


def timm_lars(weight, bias, lr):
    """timm's optimizer as MAE's: matrices adapted, vectors not."""
    return Lars([{"params": [weight], "always_adapt": True}, {"params": [bias]}], lr=lr, momentum=0.9, trust_coeff=0.001, eps=0)


def test_each_head_moves_as_timms_lars_with_two_groups():
    torch.manual_seed(0)
    rates = torch.tensor([0.3, 6.4])
    weight, bias = torch.randn(2, 3, 5), torch.randn(2, 3)
    buffers = torch.zeros_like(weight), torch.zeros_like(bias)
    theirs = [(weight[i].clone().requires_grad_(), bias[i].clone().requires_grad_()) for i in range(2)]
    optimizers = [timm_lars(*parameters, float(rate)) for parameters, rate in zip(theirs, rates, strict=True)]
    for _ in range(5):
        gradients = torch.randn(2, 3, 5), torch.randn(2, 3)
        lars_update(weight, gradients[0], buffers[0], rates)
        lars_update(bias, gradients[1], buffers[1], rates)
        for i, optimizer in enumerate(optimizers):
            theirs[i][0].grad, theirs[i][1].grad = gradients[0][i].clone(), gradients[1][i].clone()
            optimizer.step()
    for i in range(2):
        torch.testing.assert_close(weight[i], theirs[i][0].detach())
        torch.testing.assert_close(bias[i], theirs[i][1].detach())


def test_one_group_without_care_would_not_be_maes_update():
    weight, gradient = torch.ones(1, 2, 2), torch.full((1, 2, 2), 0.5)
    plain = weight[0].clone().requires_grad_()
    plain.grad = gradient[0].clone()
    Lars([plain], lr=1.0, momentum=0.9, trust_coeff=0.001).step()
    lars_update(weight, gradient, torch.zeros(1, 2, 2), torch.tensor([1.0]))
    assert not torch.allclose(weight[0], plain.detach())


def test_learning_rate_by_hand():
    assert [warmup_cosine(epoch, 90, 10) for epoch in (0, 5, 10, 50, 90)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert warmup_cosine(0, 4, 0) == 1


def test_the_probe_is_torchs_batch_norm_and_linear_trained_by_timms_lars(data):
    X, y, X_test, _ = data
    settings = dict(base_lrs=(5.0,), batch_size=64, epochs=6, warmup_epochs=2, random_state=3)
    probe = MAEProbe(**settings).fit(X, y)

    norm, linear = torch.nn.BatchNorm1d(24, affine=False, eps=1e-6), torch.nn.Linear(24, 4)
    torch.nn.init.trunc_normal_(linear.weight, std=0.01, generator=torch.Generator().manual_seed(3))
    torch.nn.init.zeros_(linear.bias)
    optimizer = timm_lars(linear.weight, linear.bias, 1.0)
    rng, losses = np.random.default_rng((3, 0)), []
    for epoch in range(6):
        order, batches = rng.permutation(500), 500 // 64
        for step in range(batches):
            place = epoch + step / batches
            factor = place / 2 if place < 2 else 0.5 * (1 + math.cos(math.pi * (place - 2) / 4))
            for group in optimizer.param_groups:
                group["lr"] = 5.0 * 64 / 256 * factor
            batch = np.sort(order[step * 64 : (step + 1) * 64])
            loss = torch.nn.functional.cross_entropy(linear(norm(torch.from_numpy(X[batch]))), torch.from_numpy(y[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    expected = linear(norm.eval()(torch.from_numpy(X_test))).detach().double().numpy()
    np.testing.assert_allclose(probe.decision_function(X_test), expected, atol=2e-4)
    np.testing.assert_allclose(probe.losses_, np.reshape(losses, (6, -1)).mean(1), rtol=1e-4)


def test_learning_rates_trained_together_are_as_good_as_alone(data):
    X, y, _, _ = data
    settings = dict(batch_size=50, epochs=5, warmup_epochs=1)
    rates = (0.1, 3.0, 20.0)
    together = MAEProbe(base_lrs=rates, **settings)
    together.fit(X, y)
    weight, bias, _ = together._train(X, together.classes_.searchsorted(y), np.arange(500), np.array(rates))
    for i, rate in enumerate(rates):
        alone = MAEProbe(base_lrs=(rate,), **settings).fit(X, y)
        np.testing.assert_allclose(weight[i].numpy(), alone.coef_, atol=1e-5)
        np.testing.assert_allclose(bias[i].numpy(), alone.intercept_, atol=1e-5)
    assert together.base_lr_ == rates[together.holdout_accuracies_.argmax()]


def test_it_learns_as_well_as_its_features_allow(data):
    X, y, X_test, y_test = data
    probe = MAEProbe(base_lrs=(1.0, 30.0, 300.0), batch_size=64, epochs=40).fit(X, y)
    assert probe.score(X_test, y_test) > LinearProbe().fit(X, y).score(X_test, y_test) - 0.03
    assert probe.losses_[-1] < probe.losses_[0]


def test_one_view_equal_to_the_crop_changes_nothing_and_the_protocol_says_what_was_done(data):
    X, y, X_test, _ = data
    settings = dict(base_lrs=(10.0,), batch_size=50, epochs=3, warmup_epochs=1)
    plain, augmented = MAEProbe(**settings).fit(X, y), MAEProbe(**settings).fit(X, y, views=X[None])
    np.testing.assert_array_equal(plain.decision_function(X_test), augmented.decision_function(X_test))
    assert plain.protocol_["augmentation"].startswith("none")
    assert "1 cached crops" in augmented.protocol_["augmentation"]
    assert plain.protocol_["lr"] == pytest.approx(10 * 50 / 256)


def test_every_view_is_trained_on(data):
    X, y, X_test, y_test = data
    # only the second view holds the features, the first is noise: training must see both
    views = np.stack([np.random.default_rng(0).standard_normal(X.shape).astype(np.float32), X])
    probe = MAEProbe(base_lrs=(100.0,), batch_size=50, epochs=20, warmup_epochs=2)
    noise = probe.fit(X, y, views=views[:1]).score(X_test, y_test)
    assert probe.fit(X, y, views=views).score(X_test, y_test) > noise + 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 501}, "batch_size=501, but there are 500"),
        ({"batch_size": 1}, "batch_size=1;"),
        ({"base_lrs": ()}, "one or more positive"),
        ({"epochs": 5, "warmup_epochs": 5}, "warmup_epochs=5 and epochs=5"),
    ],
)
def test_wrong_settings_are_named(data, settings, message):
    X, y, _, _ = data
    with pytest.raises(ValueError, match=message):
        MAEProbe(**settings).fit(X, y)


def test_views_of_other_samples_are_refused(data):
    X, y, _, _ = data
    with pytest.raises(ValueError, match=r"views have shape \(2, 499, 24\)"):
        MAEProbe(batch_size=50).fit(X, y, views=np.zeros((2, 499, 24), np.float32))


def test_views_that_are_not_finite_are_named(data):
    X, y, _, _ = data
    views = X[None].copy()
    views[0, 44, 2] = np.inf
    with pytest.raises(ValueError, match="items 44 hold inf"):
        MAEProbe(batch_size=500, epochs=2, warmup_epochs=1).fit(X, y, views=views)
