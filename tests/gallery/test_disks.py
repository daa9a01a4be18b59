"""Promises about disks: a full one leaves the old state, a read-only one is read, a copy holds an old or the new state."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import shutil
import threading
import time

import numpy as np
import pytest

from bigr_features import Gallery

from .test_gallery import names, vectors

FORK = multiprocessing.get_context("fork")


def in_a_process(function, *args) -> str:
    """What a function returned or raised in a process of its own, which may limit itself."""
    receiving, sending = FORK.Pipe()

    def run() -> None:
        try:
            sending.send(str(function(*args)))
        except BaseException as error:
            sending.send(f"{type(error).__name__}: {error}")
        os._exit(0)

    process = FORK.Process(target=run)
    process.start()
    process.join(60)
    return receiving.recv() if receiving.poll() else f"ended with {process.exitcode}"


def limited(folder, size: int, kind: str) -> str:
    gallery = Gallery(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if kind == "add":
        gallery.add(vectors(3000, seed=1), ids=names(3000, 500), thumbnails=[b"x" * 200] * 3000)
    elif kind == "update":
        gallery.update(names(200), vectors(200, seed=1))
    elif kind == "compact":
        gallery.compact()
    else:
        gallery.reindex(index="HNSW32")
    return "done"


@pytest.mark.parametrize("size", [1000, 20_000, 40_000, 100_000, 200_000, 400_000])
@pytest.mark.parametrize("kind", ["add", "update", "compact", "reindex"])
def test_a_disk_that_fills_leaves_the_old_state(tmp_path, kind, size):
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(500), ids=names(500))
    gallery.remove(names(10, 300))
    before, features = gallery.ids.tolist(), gallery.features
    gallery.close()
    said = in_a_process(limited, tmp_path / "g", size, kind)
    opened = Gallery(tmp_path / "g", verify=True)
    if said != "done":
        assert str(tmp_path / "g") in said, "the file is not named"
        assert said.startswith(("OSError", "PermissionError")), said
        assert opened.ids.tolist() == before
        np.testing.assert_array_equal(opened.features, features)
    opened.add(vectors(5, seed=3), ids=[f"new{i}" for i in range(5)])
    opened.compact()
    assert len(list((tmp_path / "g").glob("features_*"))) == 1


def as_nobody(folder) -> str:
    os.setgid(65534)
    os.setuid(65534)
    gallery = Gallery(folder)
    assert gallery.search_ids(["item0001"], k=3).ids.shape == (1, 3)
    assert len(list(gallery.items())) == len(gallery) == 30
    try:
        gallery.remove(["item0001"])
    except PermissionError as error:
        return f"refused: {error}"
    return "changed"


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become a user who may not write")
@pytest.mark.parametrize("log", [False, True], ids=["closed", "log of a killed process"])
def test_a_disk_that_cannot_be_written_to_is_read(tmp_path, log):
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(30), ids=names(30))
    if log:
        shutil.copytree(tmp_path / "g", tmp_path / "copy")
        (tmp_path / "copy" / "gallery.sqlite3-shm").unlink()
        assert (tmp_path / "copy" / "gallery.sqlite3-wal").stat().st_size
    gallery.close()
    folder = tmp_path / ("copy" if log else "g")
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    parents = [parent for parent in folder.parents if parent.is_relative_to("/tmp") and parent.stat().st_uid == os.getuid()]
    modes = {parent: parent.stat().st_mode for parent in parents if str(parent) != "/tmp"}
    try:
        for parent in modes:
            parent.chmod(0o755)
        assert in_a_process(as_nobody, folder).startswith("refused: [Errno 13] the gallery can only be read")
    finally:
        for parent, mode in modes.items():
            parent.chmod(mode)


def test_a_copy_taken_during_a_write_is_an_old_state_or_the_new_one(tmp_path):
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(50), ids=names(50))
    states, stop, draw = [frozenset(gallery.ids.tolist())], threading.Event(), random.Random(0)
    rows = vectors(100_000)

    def write() -> None:
        added = 50
        while not stop.is_set():
            if draw.random() < 0.6:
                count = draw.randint(1, 400)
                ids = names(count, added)
                states.append(states[-1] | set(ids))
                gallery.add(rows[added : added + count], ids=ids)
                added += count
            else:
                gone = draw.sample(sorted(states[-1]), 5)
                states.append(states[-1] - set(gone))
                gallery.remove(gone)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(25):
            time.sleep(draw.random() * 0.02)
            copy = tmp_path / f"copy{i}"
            copy.mkdir()
            order = sorted((tmp_path / "g").iterdir(), key=lambda _: draw.random())  # whatever order a program copies in
            for path in order:
                try:
                    shutil.copyfile(path, copy / path.name)
                except FileNotFoundError:
                    continue
            opened = Gallery(copy)
            ids = opened.ids.tolist()
            assert frozenset(ids) in states
            np.testing.assert_array_equal(opened.features, rows[[int(item[4:]) for item in ids]])
            opened.close()
    finally:
        stop.set()
        writer.join()
    whole = gallery.save(tmp_path / "saved")
    assert whole.ids.tolist() == gallery.ids.tolist()


def test_a_copy_taken_while_files_are_replaced_is_a_whole_state_or_says_copy_again(tmp_path):
    gallery = Gallery.create(tmp_path / "g", embedding={"model": "0"})
    gallery.add(vectors(300), ids=names(300))
    stop, rows = threading.Event(), vectors(300)

    def write() -> None:
        step = 0
        while not stop.is_set():
            step += 1
            if step % 3:
                gallery.remove(names(1, step))
                gallery.add(rows[step : step + 1] + np.float32(step - step % 3), ids=names(1, step))
            else:
                ids = gallery.ids.tolist()
                numbers = [int(item[4:]) for item in ids]
                gallery.replace_vectors(ids, rows[numbers] + np.float32(step), None, {"model": str(step)}, gallery.settings)
            if step == 290:
                break

    writer, whole, draw = threading.Thread(target=write), 0, random.Random(1)
    writer.start()
    try:
        for i in range(25):
            time.sleep(draw.random() * 0.02)
            copy = tmp_path / f"copy{i}"
            copy.mkdir()
            for path in sorted((tmp_path / "g").iterdir(), key=lambda _: draw.random()):
                try:
                    shutil.copyfile(path, copy / path.name)
                except FileNotFoundError:
                    continue
            try:
                opened = Gallery(copy, verify=True)
            except (FileNotFoundError, ValueError) as error:
                if "again" not in str(error):
                    raise
                continue
            step = np.float32(opened.embedding["model"])
            numbers = [int(item[4:]) for item in opened.ids]
            np.testing.assert_array_equal(opened.features, rows[numbers] + step)
            whole += 1
            opened.close()
    finally:
        stop.set()
        writer.join()
    assert whole
