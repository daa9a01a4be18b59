"""Promises of checkpoint files: nothing in them is executed, damage is named, and equal weights have equal fingerprints."""

from __future__ import annotations

import argparse
import copy
import pickle
import re
from pathlib import Path

import pytest
import torch

from bigr_features import checkpoints
from bigr_features.checkpoints import load_official_generator, load_official_tokenizer

from ..helpers import GoldenSet, tiny_generator

GEN_A, AE = GoldenSet("gen_a"), GoldenSet("ae")
TRAINING_FILE = GEN_A.folder / "official_checkpoint.pt"
TOKENIZER_FILE = AE.folder / "official_bae.th"


class Attack:
    """Unpickling it would create a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


LOADERS = {
    "generator": lambda path: load_official_generator(path, GEN_A.config),
    "tokenizer": lambda path: load_official_tokenizer(path, AE.config),
    "read_pickle": checkpoints.read_pickle,
}
each_loader = pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)


@each_loader
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["args", "ema"])
def test_a_pickle_that_would_execute_code_is_refused_and_executes_nothing(tmp_path, load, zipped, where):
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    content = {"ema": {"mask_tok": torch.zeros(1)}, "ae.x": torch.zeros(1)}
    torch.save({**content, where: Attack(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"evil\.pt was refused and nothing in it was executed"):
        load(path)
    assert not marker.exists()


@each_loader
def test_a_plain_pickle_that_would_execute_code_is_refused(tmp_path, load):
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"ema": Attack(marker)}, protocol=2))
    with pytest.raises(ValueError, match=r"evil\.pt"):
        load(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # the attack itself is real
    assert marker.exists()


def test_the_namespace_is_allowed_while_a_file_is_read_and_not_afterwards():
    checkpoints.read_pickle(TRAINING_FILE)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


@each_loader
def test_a_missing_file_is_named(tmp_path, load):
    with pytest.raises(FileNotFoundError, match=re.escape(f"there is no checkpoint file {tmp_path / 'nowhere.pt'}")):
        load(tmp_path / "nowhere.pt")


@each_loader
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("source", [TRAINING_FILE, TOKENIZER_FILE], ids=["pt", "th"])
def test_a_truncated_or_empty_file_is_refused(tmp_path, load, share, source):
    content = source.read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"cut\.pt"):
        load(tmp_path / "cut.pt")


@each_loader
@pytest.mark.parametrize("content", [b"not a checkpoint", b"<html>404</html>", b"\x80\x02}q\x00.", bytes(1000)])
def test_a_file_of_something_else_is_refused(tmp_path, load, content):
    (tmp_path / "other.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.pt"):
        load(tmp_path / "other.pt")


@each_loader
@pytest.mark.parametrize(("content", "kind"), [([torch.zeros(1)], "list"), (torch.zeros(2), "Tensor"), (3, "int")])
def test_content_that_is_no_dictionary_is_refused(tmp_path, load, content, kind):
    torch.save(content, tmp_path / "list.pt")
    with pytest.raises(ValueError, match=f"holds a {kind}, but a checkpoint is a dictionary of weights"):
        load(tmp_path / "list.pt")


def test_fingerprint_is_that_of_the_weights():
    one, same, other = tiny_generator(seed=1), tiny_generator(seed=1), tiny_generator(seed=2)
    assert checkpoints.fingerprint(one) == checkpoints.fingerprint(same) != checkpoints.fingerprint(other)
    with torch.no_grad():
        same.position_embedding[0, 0, 0] += 1e-3
    assert checkpoints.fingerprint(one) != checkpoints.fingerprint(same)
    assert checkpoints.fingerprint(one) != checkpoints.fingerprint(copy.deepcopy(one).bfloat16())
