"""Scatter plots and small multiples: what is drawn, where the names stand, and that nothing overlaps."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from bigr_features.plots import class_styles, plot_features, scatter
from bigr_features.plots.colors import COLORS, GREY
from bigr_features.plots.figures import turned_to_match
from bigr_features.plots.naming import spread

from .test_projection import groups

matplotlib.use("Agg")
WINDOW = (0.0, 0.0, 400.0, 300.0)


def axes_of(figure: Figure | None = None):
    return (figure or Figure(figsize=(5, 5))).add_subplot()


def drawn(axes) -> dict[str, int]:
    """Points of each colour."""
    counts: dict[str, int] = {}
    for collection in axes.collections:
        if len(collection.get_offsets()):
            color = to_hex(collection.get_facecolor()[0]).upper()
            counts[color] = counts.get(color, 0) + len(collection.get_offsets())
    return counts


def overlaps(one, other) -> bool:
    return one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1


def test_every_item_is_drawn_once_in_the_colour_of_its_class():
    x, labels = groups(30, 3, 2)
    axes = axes_of()
    assert scatter(axes, x, labels, class_names=["a", "b", "c"], title="T", caption="C") is axes
    assert drawn(axes) == dict.fromkeys(COLORS[:3], 30)
    assert {text.get_text() for text in axes.texts} == {"a", "b", "c"}
    assert (axes.get_title(), axes.get_xlabel()) == ("T", "C")


def test_a_name_stands_at_the_median_of_its_class():
    x, labels = groups(30, 2, 2, apart=40)
    axes = axes_of()
    scatter(axes, x, labels, class_names=["left", "right"])
    for text, label in zip(axes.texts, (0, 1), strict=True):
        assert np.linalg.norm(np.array(text.get_position()) - np.median(x[labels == label], axis=0)) < 1.5


def test_names_of_classes_on_one_place_do_not_overlap():
    x = np.random.default_rng(0).normal(size=(400, 2))
    axes = axes_of()
    scatter(axes, x, np.arange(400) % 10, class_names=[f"a long class name {i}" for i in range(10)])
    axes.figure.draw_without_rendering()
    boxes = [text.get_bbox_patch().get_window_extent() for text in axes.texts]
    assert len(boxes) == 10
    assert not any(overlaps(*pair) for pair in itertools.combinations(boxes, 2))


def test_a_thousand_classes_are_grey_but_for_the_highlighted():
    x = np.random.default_rng(0).normal(size=(3000, 2))
    axes = axes_of()
    scatter(axes, x, np.arange(3000) % 1000, highlight=[3, 999])
    assert drawn(axes) == {COLORS[0]: 3, COLORS[1]: 3, GREY: 2994}
    assert [text.get_text() for text in axes.texts] == ["3", "999"]


def test_points_without_labels_and_a_single_class():
    axes = axes_of()
    scatter(axes, np.zeros((5, 2)) + np.arange(5)[:, None])
    assert drawn(axes) == {COLORS[0]: 5}
    assert not axes.texts
    scatter(axes_of(), np.arange(10.0).reshape(5, 2), np.zeros(5, dtype=int), class_names=["only"])


def test_names_are_plain_text(tmp_path):
    """Dollar signs, underscores and line breaks mean nothing to us."""
    x, labels = groups(20, 2, 4)
    names = ["$\\frac{", "_hidden\nname"]
    figure, _, _ = plot_features({"a $x_": x, "_b": x}, labels, class_names=names, method="pca", title="$", note="$\\a")
    figure.savefig(tmp_path / "a.png")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$\\frac{", "_hidden name"]


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (np.zeros((4, 3)), None, r"points have shape \(4, 3\)"),
        (np.zeros((0, 2)), None, r"points have shape \(0, 2\)"),
        (np.array([[0, np.nan], [1, 1]]), None, "1 of 2 points are not finite"),
        (np.zeros((4, 2)), np.zeros(3, dtype=int), "4 points and 3 labels"),
    ],
)
def test_wrong_points(points, labels, message):
    with pytest.raises(ValueError, match=message):
        scatter(axes_of(), points, labels)


@pytest.mark.parametrize("seed", range(5))
def test_spread_moves_boxes_apart_inside_the_window(seed):
    rng = np.random.default_rng(seed)
    centers = rng.uniform((0, 0), (400, 300), size=(10, 2))
    sizes = np.stack([rng.uniform(30, 90, size=10), np.full(10, 14.0)], axis=1)
    moved = spread(centers, sizes, WINDOW)
    for i, j in itertools.combinations(range(10), 2):
        assert (np.abs(moved[i] - moved[j]) >= (sizes[i] + sizes[j]) / 2).any()
    assert (moved >= sizes / 2).all()
    assert (moved <= np.array(WINDOW[2:]) - sizes / 2).all()


def test_spread_leaves_free_boxes_alone():
    centers = np.array([[50.0, 50], [200, 200]])
    np.testing.assert_array_equal(spread(centers, np.full((2, 2), 20.0), WINDOW), centers)


def test_small_multiples_share_colours_and_state_their_scores():
    x, labels = groups(40, 3)
    noise = np.random.default_rng(0).normal(size=x.shape)
    features = {"block 0": noise, "block 1": x, "block 2": 2 * x}
    figure, embeddings, scores = plot_features(
        features, labels, class_names=["a", "b", "c"], perplexity=10, columns=2, note="a note", title="t"
    )
    assert list(embeddings) == list(scores) == list(features)
    assert len(figure.axes) == 3
    assert all(drawn(axes) == dict.fromkeys(COLORS[:3], 40) for axes in figure.axes)
    assert scores["block 0"].features.purity < 0.5 < scores["block 1"].features.purity == 1.0
    texts = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    for part in (
        "a note",
        "120 items",
        "t-SNE, perplexity 10, seed 0",
        "purity by chance 0.33",
        "10-NN purity 1.00 → 1.00",
        "trustworthiness",
    ):
        assert part in texts


def test_nothing_in_a_figure_overlaps():
    x, labels = groups(10, 10)
    names = [f"class with a name {i}" for i in range(10)]
    panels = {f"block {i}": x for i in range(5)}
    figure, _, _ = plot_features(panels, labels, class_names=names, method="pca", columns=3, title="Title", note="long " * 40)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    parts = [axes.get_tightbbox(renderer) for axes in figure.axes] + [text.get_window_extent() for text in figure.texts]
    parts.append(figure.legends[0].get_window_extent())
    assert not any(overlaps(*pair) for pair in itertools.combinations(parts, 2))
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in parts)


def test_panels_are_turned_to_match():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 2))
    mirrored = points @ np.array([[0.6, 0.8], [0.8, -0.6]]) + 5
    np.testing.assert_allclose(turned_to_match(mirrored, points), points - points.mean(0), atol=1e-5)


def test_one_class_and_no_labels_are_drawn():
    x, _ = groups(20)
    figure, _, scores = plot_features({"a": x}, np.zeros(60, dtype=int), class_names=["only"], method="pca")
    assert scores["a"].features.silhouette is None
    assert "one class only" in " ".join(text.get_text() for text in figure.texts)
    figure, _, scores = plot_features({"a": x, "b": x}, method="pca")
    assert scores["b"].features is None
    assert not figure.legends


@pytest.mark.parametrize(
    ("features", "labels", "error", "message"),
    [
        ({}, None, TypeError, "mapping of panel titles"),
        (np.zeros((4, 4)), None, TypeError, "mapping of panel titles"),
        ({"a": np.ones((4, 4))}, None, ValueError, "a: the features of all 4 items are the same"),
        ({"a": np.eye(4)}, np.zeros(3, dtype=int), ValueError, "panel 'a' has 4 items"),
    ],
)
def test_wrong_features(features, labels, error, message):
    with pytest.raises(error, match=message):
        plot_features(features, labels, method="pca")


def test_styles_can_be_shared():
    names = [f"class {i}" for i in range(30)]
    styles = class_styles(np.arange(30), names, highlight=["class 20", "class 25"])
    axes = axes_of()
    scatter(axes, np.eye(2), np.array([25, 1]), styles=styles)
    assert drawn(axes) == {COLORS[1]: 1, GREY: 1}


@pytest.mark.parametrize(("size", "dpi"), [(4, 72), (4, 100), (4, 150), (30, 150)])
def test_every_class_leaves_the_same_ink_however_small_its_markers(size, dpi):
    """Markers snapped to pixels once made a class of plus signs vanish from small panels."""
    points = np.random.default_rng(0).random((200, 2))
    ink = []
    for label in range(10):
        figure = Figure(figsize=(4, 4), dpi=dpi)
        axes = figure.add_axes((0, 0, 1, 1), frameon=False)
        scatter(axes, points, np.full(200, label), class_names=list("abcdefghij"), names=False, size=size)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = 255.0 - np.asarray(canvas.buffer_rgba())[..., :3]
        full = 255 - 255 * np.array(to_rgb(COLORS[label]))
        ink.append(pixels.sum() / full.sum())
    assert max(ink) < 1.4 * min(ink)
