"""Promises about names that are neither a folder nor a data set, and about the cache of `datasets`: one quick answer in words."""

from __future__ import annotations

import errno

import pytest

from bigr_features.data import hub
from bigr_features.data.sources import open_items

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.mark.parametrize("name", ["my_fotos", "me/fotos", "holiday-2024"])
@pytest.mark.parametrize("offline", [True, False])
def test_a_mistyped_folder_is_answered_without_a_network(tmp_path, monkeypatch, name, offline):
    calls = []

    def unreachable(self, *args, **kwargs):
        calls.append(kwargs["timeout"])
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline") if offline else ConnectionRefusedError(111, "refused")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    with pytest.raises(FileNotFoundError, match=f"there is no file or folder {name}, and the Hub cannot be reached"):
        open_items(name, "train")
    assert calls == [hub.TIMEOUT]  # asked once, for a moment


@pytest.mark.parametrize("name", ["my fotos", "fotos?", "fotos.git"])
def test_what_cannot_be_a_name_on_the_hub_is_no_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        open_items(name, "train")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENOSPC])
def test_a_cache_that_cannot_be_written_is_named(number):
    with pytest.raises(OSError, match=r"d\.parquet cannot be read, .*set HF_HOME or HF_DATASETS_CACHE"), hub.cache_named("d.parquet"):
        raise OSError(number, "no", "/home/x/huggingface/datasets/a.lock")


def test_an_error_of_the_source_itself_passes():
    for error in (PermissionError(errno.EACCES, "no", "d.parquet"), FileNotFoundError("there is no file"), OSError(errno.EIO, "no")):
        with pytest.raises(OSError) as raised, hub.cache_named("d.parquet"):  # noqa: PT011
            raise error
        assert raised.value is error
