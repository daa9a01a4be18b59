"""Promises of the whole report: every metric, what is left out and why, and what may stand side by side."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from bigr_features.evaluate.generation import MetricSettings, NetworkOutputs, ReferenceOutputs, generation_metrics
from bigr_features.evaluate.generation_report import check_comparable, comparison, table
from bigr_features.evaluate.spatial import spatial_features

SETTINGS = MetricSettings(resamples=20, kid_subsets=5)
NAMES = ("frechet", "spatial_frechet", "kid", "inception_score", "precision", "recall", "density", "coverage", "recognised", "memorisation")
NETWORK = {"name": "net", "sha256": "ab" * 32, "features": 6, "spatial_layer": "layer3", "spatial_channels": 7, "transform": "T"}


def outputs(seed: int, n: int = 200, shift: float = 0.0) -> NetworkOutputs:
    rng = np.random.default_rng(seed)
    return NetworkOutputs(rng.normal(shift, 1, (n, 6)), rng.normal(shift, 1, (n, 12)), rng.normal(size=(n, 4)))


def test_every_metric_has_a_value_within_its_interval():
    samples, reference = outputs(0, shift=0.3), ReferenceOutputs.of(outputs(1, 300))
    found = generation_metrics(samples, reference, SETTINGS, unseen=outputs(2).pooled, labels=np.arange(200) % 4)
    assert found["left_out"] == {}
    assert found["images"] == 200
    for name in NAMES:
        low, high = found[name]["interval"]
        assert low <= found[name]["value"] <= high, name
    assert (found["frechet"]["rank"], found["frechet"]["features"], found["spatial_frechet"]["features"]) == (6, 6, 12)
    json.dumps(found, allow_nan=False)


def test_nothing_is_said_that_the_outputs_do_not_allow():
    samples = NetworkOutputs(outputs(0).pooled)
    whole = ReferenceOutputs.of(outputs(1))
    reference = ReferenceOutputs(whole.mean, whole.covariance, count=None)
    found = generation_metrics(samples, reference, SETTINGS)
    assert set(found) == {"images", "left_out", "frechet"}
    assert set(found["left_out"]) == set(NAMES) - {"frechet"}
    assert found["left_out"]["inception_score"] == "the network has no classifier"
    one_class = NetworkOutputs(samples.pooled, logits=np.zeros((200, 1)))
    assert "1 class" in generation_metrics(one_class, reference, SETTINGS)["left_out"]["inception_score"]


@pytest.mark.parametrize(
    ("labels", "reason"), [(np.full(200, -1), "no labels"), (np.arange(200) % 5, "label 4 is none of the network's 4")]
)
def test_labels_that_mean_nothing_are_left_out(labels, reason):
    found = generation_metrics(outputs(0), ReferenceOutputs.of(outputs(1)), SETTINGS, labels=labels)
    assert reason in found["left_out"]["recognised"]


def test_few_samples_are_refused_unless_asked_for():
    samples, reference = outputs(0, 11), ReferenceOutputs.of(outputs(1))
    with pytest.raises(ValueError, match=r"11 samples are too few for the Frechet distance of 6 features: about .* would be bias"):
        generation_metrics(samples, reference, SETTINGS)
    found = generation_metrics(samples, reference, MetricSettings(few_samples=True, resamples=0))
    assert found["frechet"]["interval"] is None
    assert found["frechet"]["expected_bias"] > 0
    found = generation_metrics(outputs(0, 20), reference, SETTINGS)  # enough for 6 features, too few for 12
    assert "20 samples are too few" in found["left_out"]["spatial_frechet"]


@pytest.mark.parametrize("images", ["one picture again and again", "of one class"])
def test_a_collapsed_model_gets_numbers_that_say_so(images):
    """Covariance singular, or all pictures of one class: every number is finite, and none flatters."""
    reference = ReferenceOutputs.of(outputs(1, 300))
    samples = outputs(0)
    same = (
        samples.take(np.zeros(200, int))
        if images != "of one class"
        else NetworkOutputs(samples.pooled, samples.spatial, np.eye(4)[[2]] * 9 + np.zeros((200, 1)))
    )
    found = generation_metrics(same, reference, SETTINGS, unseen=outputs(2).pooled, labels=np.full(200, 2))
    json.dumps(found, allow_nan=False)
    assert found["left_out"] == {}
    assert found["inception_score"]["value"] == pytest.approx(1)
    if images != "of one class":
        assert (found["frechet"]["rank"], found["spatial_frechet"]["rank"], found["recall"]["value"]) == (0, 0, 0)
        assert found["frechet"]["value"] >= np.trace(reference.covariance)
        assert found["coverage"]["value"] < 0.2
    else:
        assert found["recognised"]["value"] == 1


def test_features_of_another_network_are_refused():
    samples = outputs(0)
    with pytest.raises(ValueError, match="5 dimensions and the reference's statistics 6"):
        generation_metrics(NetworkOutputs(samples.pooled[:, :5]), ReferenceOutputs.of(outputs(1)), SETTINGS)


def test_reference_images_of_the_manifold_are_limited_and_drawn_once():
    settings = MetricSettings(manifold_images=50, resamples=0)
    found = generation_metrics(outputs(0), ReferenceOutputs.of(outputs(1)), settings)
    assert found["coverage"]["reference_images"] == 50
    assert found == generation_metrics(outputs(0), ReferenceOutputs.of(outputs(1)), settings)


def a_report(**changes) -> dict:
    reference = {"sha256": "cd" * 32, "images": 300}
    metrics = {"frechet": {"value": 1.5, "interval": (1.25, 2.0)}, "kid": {"value": 0.001, "interval": None}}
    made = {"comparison": comparison(NETWORK, reference, 200, SETTINGS.compared()), "metrics": metrics}
    for path, value in changes.items():
        part, _, key = path.partition("__")
        if key:
            made["comparison"][part][key] = value
        else:
            made["comparison"][part] = value
    return made


def test_a_table_has_metrics_in_rows_and_reports_in_columns():
    text = table({"ours": a_report(), "floor": a_report()})
    lines = text.splitlines()
    assert lines[0].split() == ["ours", "floor"]
    assert lines[1].split() == ["Frechet", "distance", "(less)", *["1.500", "[1.250,", "2.000]"] * 2]
    assert lines[2].split() == ["KID", "x", "1000", "(less)", "1.000", "1.000"]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network__sha256": "ef" * 32}, "ours and theirs differ in network .sha256 abababababab... and efefefefefef"),
        ({"network__spatial_layer": "layer2"}, "spatial_layer layer3 and layer2"),
        ({"network__transform": "other"}, "network"),
        ({"reference__sha256": "00" * 32}, "reference"),
        ({"reference__images": 299}, "reference .images 300 and 299"),
        ({"images": 100}, "images .200 and 100"),
        ({"settings__k": 5}, "settings .k 3 and 5"),
        ({"settings__score_block": 100}, "settings"),
    ],
)
def test_numbers_that_cannot_be_compared_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        table({"ours": a_report(), "theirs": a_report(**changes)})
    check_comparable({"one": a_report(**changes), "two": copy.deepcopy(a_report(**changes))})


def test_spatial_features_are_the_first_channels_row_by_row():
    maps = np.arange(2 * 5 * 3 * 2).reshape(2, 5, 3, 2)
    flat = spatial_features(maps, channels=4)
    assert flat.shape == (2, 24)
    np.testing.assert_array_equal(flat[1].reshape(3, 2, 4)[2, 0], maps[1, :4, 2, 0])
    assert spatial_features(maps, channels=9).shape == (2, 30)
    np.testing.assert_array_equal(spatial_features(maps.reshape(2, 5, 6).swapaxes(1, 2), 4), flat)  # tokens
    with pytest.raises(ValueError, match="expected"):
        spatial_features(maps[0, 0])
