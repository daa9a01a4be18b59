"""One gallery and one page for all tests of the room."""

from __future__ import annotations

import pytest

from .pages import client_of, make_gallery, make_page


@pytest.fixture(scope="session")
def gallery_folder(tmp_path_factory):
    """40 images of the sample, searched in two stages. Not to be changed."""
    return make_gallery(tmp_path_factory.mktemp("web") / "clothes", metric="two_stage", binarize="sign")


@pytest.fixture(scope="session")
def page(gallery_folder):
    """The page of that gallery."""
    found = make_page(gallery_folder)
    yield found
    found.worker.close()


@pytest.fixture(scope="session")
def client(page):
    """A program that knows the token of the page."""
    return client_of(page)
