"""Promise: what the page offers works in a real browser, by mouse and by keyboard, without a complaint and without another host."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bigr_features.gallery import Gallery

from .browser import Browser, Served, file_of
from .pages import make_page, png

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright (pip install bigr-features[test])")
expect = sync_api.expect
pytestmark = pytest.mark.browser
WAIT = 60_000  # milliseconds
expect.set_options(timeout=WAIT)
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()


@pytest.fixture(scope="module")
def served(gallery_folder):
    found = Served(make_page(gallery_folder))
    yield found
    found.close()


@pytest.fixture(scope="module")
def playwright():
    with sync_api.sync_playwright() as found:
        yield found


@pytest.fixture(scope="module")
def shared(playwright, served):
    found = Browser(playwright, served)
    yield found
    found.close()


@pytest.fixture
def browser(shared):
    """A window that complains of nothing by the end of the test."""
    shared.complaints.clear()
    yield shared
    assert shared.complaints == []


@pytest.fixture(scope="module")
def ids(gallery_folder):
    with Gallery(gallery_folder) as gallery:
        return gallery.ids.tolist()


def test_a_picture_that_is_dropped_finds_itself_and_explains_itself(browser, served, ids, gallery_folder, tmp_path):
    window = browser.open()
    from bigr_features.gallery.sheets import item_image

    with Gallery(gallery_folder) as gallery:
        path = file_of(tmp_path, png(item_image(gallery, ids[5])))
    window.locator("#search-file").set_input_files(path)
    expect(window.locator("#query li")).to_have_count(1)
    expect(window.locator("#hits li").first).to_have_attribute("data-id", ids[5])
    window.get_by_role("button", name="why this was found").first.click()
    expect(window.locator("#why-hit")).to_have_attribute("data-grid", re.compile(".+"))
    assert json.loads(window.locator("#why-query").get_attribute("data-grid")) == json.loads(
        window.locator("#why-hit").get_attribute("data-grid")
    )
    window.keyboard.press("Escape")
    expect(window.locator("#why")).to_be_hidden()
    here = window.url
    assert "sent=" in here
    window.locator("#hits .face").nth(1).click()
    expect(window.locator("#query img")).to_have_attribute("src", re.compile("thumbnail"))
    window.go_back()
    expect(window.locator("#hits li").first).to_have_attribute("data-id", ids[5])
    assert window.url == here
    window.reload()
    expect(window.locator("#hits li").first).to_have_attribute("data-id", ids[5])


def test_a_class_chip_shows_only_that_class_and_what_is_chosen_can_be_saved(browser):
    window = browser.open()
    window.locator("#class-chips button", has_text="Bag").click()
    expect(window.locator("#search-status")).to_contain_text("typical")
    names = window.locator("#hits .same, #hits .other").all_text_contents()
    assert len(names) == 4
    assert {name.removeprefix("✓ ") for name in names} == {"Bag"}
    window.get_by_role("button", name="choose").nth(0).click()
    window.get_by_role("button", name="choose").nth(1).click()
    with window.expect_download() as download:
        window.get_by_role("button", name="Save as CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 3
    window.locator("#search-text").fill("no such file")
    window.keyboard.press("Enter")
    expect(window.locator("#search-status")).to_contain_text("0 of 40")


def test_likes_and_less_likes_stand_in_the_link(browser, ids):
    window = browser.open(f"#search?gallery=clothes&like={ids[0]}")
    expect(window.locator("#hits li")).to_have_count(39)
    window.get_by_role("button", name="less like this").nth(3).click()
    expect(window.locator("#query li.unlike")).to_have_count(1)
    expect(window.locator("#hits li")).to_have_count(38)
    window.locator("#search-metric").select_option("hamming")
    expect(window).to_have_url(re.compile("metric=hamming"))
    expect(window.locator("#search-status")).to_contain_text("1 unlike")


def test_paint_run_watch_replay_and_reload(browser, ids):
    window = browser.open(f"#paint?gallery=clothes&id={ids[0]}")
    expect(window.locator("#model-name")).to_contain_text("8 × 8 tokens")
    expect(window.locator("#board")).to_have_attribute("aria-label", "8 by 8 tokens, 0 painted")
    expect(window.locator("#paint-run")).to_be_disabled()
    box = window.locator("#board").bounding_box()

    def at(column, row):
        return box["x"] + (column + 0.5) * box["width"] / 8, box["y"] + (row + 0.5) * box["height"] / 8

    window.locator("#tool-box").click()
    window.mouse.move(*at(2, 2))
    window.mouse.down()
    window.mouse.move(*at(4, 3), steps=4)
    window.mouse.up()
    expect(window.locator("#board")).to_have_attribute("aria-label", "8 by 8 tokens, 6 painted")
    expect(window.locator("#paint-steps")).to_have_value("6")
    window.get_by_role("button", name="Trouser").click()
    window.locator("#paint-steps").fill("3")
    window.locator("#paint-run").click()
    expect(window.locator("#paint-status")).to_contain_text("done")
    assert "job=" in window.url
    expect(window.locator("#replay")).to_have_attribute("max", "2")
    expect(window.locator("#stages canvas")).to_have_attribute("data-step", "2")
    window.locator("#replay").focus()
    window.keyboard.press("Home")
    expect(window.locator("#stages canvas")).to_have_attribute("data-step", "0")
    window.reload()
    expect(window.locator("#paint-status")).to_contain_text("done")
    expect(window.locator("#board")).to_have_attribute("aria-label", "8 by 8 tokens, 6 painted")
    window.locator("#paint-seed").fill("99")
    window.get_by_role("button", name="again with the settings").click()
    expect(window.locator("#paint-seed")).to_have_value("0")
    expect(window.locator("#paint-steps")).to_have_value("3")
    expect(window.locator("#paint-classes [aria-pressed=true]")).to_have_text("Trouser")


def test_a_drawing_is_cancelled(browser, served):
    window = browser.open("#paint")
    expect(window.locator("#model-name")).to_contain_text("tokens")
    if window.locator("#paint-none").is_enabled():
        window.locator("#paint-none").click()
    window.locator("#paint-steps").fill("64")
    window.locator("#paint-four").check()
    window.locator("#paint-run").click()
    expect(window.locator("#paint-status")).to_contain_text("step")
    window.locator("#paint-cancel").click()
    expect(window.locator("#paint-status")).to_have_text("cancelled")
    expect(window.locator("#paint-run")).to_be_enabled()


def test_clusters_hover_lasso_and_click(browser):
    window = browser.open("#clusters?gallery=clothes&method=pca")
    canvas = window.locator(".plot canvas")
    expect(canvas).to_be_visible(timeout=WAIT)
    expect(window.locator("#clusters-status")).to_contain_text("40 of 40")
    expect(window.locator("#legend button")).to_have_count(10)
    canvas.focus()
    window.keyboard.press("h")
    expect(window.locator(".tip img")).to_be_visible()
    named = window.locator(".tip p").last.text_content()
    window.locator("#clusters-lasso").click()
    box = canvas.bounding_box()
    window.mouse.move(box["x"] + 3, box["y"] + 3)
    window.mouse.down()
    for x, y in ((0.99, 0.02), (0.99, 0.98), (0.01, 0.98)):
        window.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)
    window.mouse.up()
    expect(window.locator("#lasso-items li")).to_have_count(40)
    counts = window.locator("#shares td:nth-child(2)").all_text_contents()
    assert sum(map(int, counts)) == 40
    window.locator("#clusters-lasso").click()
    canvas.focus()
    window.keyboard.press("h")
    expect(window.locator(".tip p").last).to_have_text(named)
    window.keyboard.press("Enter")
    expect(window.locator("#query li")).to_have_count(1)


def test_the_depth_of_a_store_and_two_side_by_side(playwright, tmp_path, gallery_folder):
    from bigr_features.cli import main

    out = tmp_path / "layers"
    main(
        [
            "extract",
            "--model",
            "bigr_nano.fashion_mnist",
            "--source",
            "sample:fashion_mnist",
            "--limit",
            "40",
            "--layers",
            "2",
            "6",
            "--out",
            str(out),
        ]
    )
    served = Served(make_page(out, gallery_folder, model=None))
    browser = Browser(playwright, served, reduced_motion="reduce", color_scheme="dark")
    try:
        window = browser.open("#clusters?gallery=layers&method=pca&other=clothes")
        expect(window.locator(".plot canvas")).to_have_count(2)
        expect(window.locator("#depth-name")).to_have_text("block2_mean")
        before = window.locator(".plot canvas").first.screenshot()
        window.locator("#depth").focus()
        window.keyboard.press("End")
        expect(window.locator("#depth-name")).to_have_text("block6_mean")
        window.wait_for_timeout(200)
        assert window.locator(".plot canvas").first.screenshot() != before
        assert browser.complaints == []
    finally:
        browser.close()
        served.close()


def test_all_of_it_by_keyboard(browser, ids):
    """No mouse: search, a hit, the view of painting, tokens, a drawing."""
    window = browser.open()
    expect(window.locator("#hits li")).to_have_count(40)
    window.locator("#search-text").focus()
    window.keyboard.type("bag")
    window.keyboard.press("Enter")
    expect(window.locator("#search-status")).to_contain_text("typical")
    for _ in range(60):
        window.keyboard.press("Tab")
        if "face" in (window.evaluate("() => document.activeElement.className") or ""):
            break
    window.keyboard.press("Enter")
    expect(window.locator("#query li")).to_have_count(1)
    window.locator("nav a", has_text="Paint").focus()
    window.keyboard.press("Enter")
    expect(window.locator("#model-name")).to_contain_text("tokens")
    window.evaluate("(id) => { location.hash = `#paint?gallery=clothes&id=${id}`; }", ids[1])
    expect(window.locator("#board")).to_have_attribute("aria-label", re.compile("8 by 8"))
    window.locator("#board").focus()
    window.keyboard.press("c")
    for key in (" ", "ArrowRight", " ", "ArrowDown", " ", "Shift+ArrowDown"):
        window.keyboard.press(key)
    expect(window.locator("#board")).to_have_attribute("aria-label", "8 by 8 tokens, 4 painted")
    window.keyboard.press("i")
    expect(window.locator("#board")).to_have_attribute("aria-label", "8 by 8 tokens, 60 painted")
    window.keyboard.press("i")
    window.locator("#paint-steps").focus()
    window.keyboard.press("Enter")
    expect(window.locator("#paint-status")).to_contain_text("done")


def test_every_control_has_a_name(browser):
    window = browser.open()
    nameless = """() => [...document.querySelectorAll('button, input, select, canvas[tabindex], img, [role=group]')].filter((one) => {
      const label = one.labels?.[0]?.textContent ?? one.closest('label')?.textContent ?? '';
      return !(one.getAttribute('aria-label') || one.getAttribute('alt') || label.trim() || one.textContent.trim() || one.title);
    }).map((one) => one.outerHTML)"""
    expect(window.locator("#hits li")).to_have_count(40)
    for view in ("search", "clusters", "paint"):
        window.locator(f"nav [data-view={view}]").click()
        expect(window.locator(f"#view-{view}")).to_be_visible()
        assert [one for one in window.evaluate(nameless) if 'id="board"' not in one] == []
    assert window.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast_and_nothing_sticks_out_of_a_narrow_window(playwright, served, scheme):
    browser = Browser(playwright, served, viewport={"width": 390, "height": 800}, color_scheme=scheme)
    try:
        window = browser.open()
        expect(window.locator("#hits li")).to_have_count(40)
        for view in ("search", "clusters", "paint"):
            window.locator(f"nav [data-view={view}]").click()
            expect(window.locator(f"#view-{view}")).to_be_visible()
            assert window.evaluate(CONTRAST) == []
            assert window.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), view
        assert browser.complaints == []
    finally:
        browser.close()
