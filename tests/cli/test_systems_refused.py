"""Promise: what does not fit a compared system is refused by every command with one message that says what is expected instead."""

from __future__ import annotations

import shlex

import pytest
import timm
import torch

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import save_model
from bigr_features.cli import main
from bigr_features.cli.main import _parsed

NAMES = ("llamagen_nano", "bigr_nano_cat_ar", "bigr_nano_cat_mask", "bigr_nano_bin_ar", "bigr_nano")
SMALL = {"depth": 1, "width": 16, "num_heads": 1, "channels": 32, "num_res_blocks": 1, "embed_dim": 32, "channel_multipliers": (1, 1, 1)}
ARGS = "--model-args " + " ".join(f"{name}={str(value).replace(' ', '')}" for name, value in SMALL.items()) + " --device cpu"
MODEL = "--model.depth 1 --model.width 16 --model.num-heads 1"
TRAIN = f"{MODEL} --steps 1 --batch-size 2 --validation 4 --sample-every 0 --device cpu --trackers"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of exported weights, and caches of codes of a binary and of a VQ tokenizer."""
    folder = tmp_path_factory.mktemp("systems")
    for name in NAMES:
        torch.manual_seed(0)
        model = timm.create_model(name, **SMALL)
        save_model(model.generator, folder / name / "model")
        save_model(model.tokenizer, folder / name / "tokenizer")
    for name in ("llamagen_nano", "bigr_nano_cat_ar"):
        line = f"encode --tokenizer {folder / name / 'tokenizer'} --source sample:fashion_mnist --limit 8 --out {folder / name / 'codes'}"
        main(shlex.split(f"{line} --device cpu"))
    return folder


def refusal(line: str, capsys) -> str:
    """What a command says that ends with an error."""
    with pytest.raises(SystemExit) as stopped:
        main(shlex.split(line))
    said = str(stopped.value) if isinstance(stopped.value.code, str) else capsys.readouterr().err
    assert stopped.value.code not in (None, 0)
    return " ".join(said.replace("│", " ").split())


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("llamagen_nano", "--top-k 4097", "top_k=4097, but there are 4096 classes to choose from; give 1..4096"),
        ("llamagen_nano", "--top-k 0", "top_k=0; give 1"),
        ("llamagen_nano", "--top-p 0", "top_p=0.0; expected a share in (0, 1]"),
        ("llamagen_nano", "--top-p 1.5", "top_p=1.5; expected a share in (0, 1]"),
        ("bigr_nano_cat_mask", "--top-k 4097 --num-reveal-steps 2", "top_k=4097, but there are 4096 classes"),
        ("bigr_nano_bin_ar", "--top-k 3", "top_k=3 means nothing for a causal generator of bits"),
        ("bigr_nano", "--top-p 0.5", "top_p=0.5 means nothing for masked sampling of bits"),
        ("bigr_nano_cat_ar", "--num-reveal-steps 3", "num_reveal_steps=3 means nothing for a causal generator of classes"),
    ],
)
def test_settings_of_sampling(name, option, message, made, tmp_path, capsys):
    line = f"generate --model {name} {ARGS} --weights {made / name} --labels 1 --num-per-label 1 --out {tmp_path / 'g.png'} {option}"
    assert message in refusal(line, capsys)
    assert not (tmp_path / "g.png").exists()


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("bigr_nano", "llamagen_nano", "trained with tokens='index'"),
        ("llamagen_nano", "bigr_nano_cat_ar", "trained with tokens='bits'"),
        ("bigr_nano_cat_ar", "bigr_nano_cat_mask", "trained with head='mlm', causal=False"),
        ("bigr_nano_bin_ar", "bigr_nano", "trained with causal=False"),
    ],
)
def test_weights_of_another_system(name, weights, message, made, tmp_path, capsys):
    line = f"generate --model {name} {ARGS} --weights {made / weights} --labels 1 --out {tmp_path / 'g.png'}"
    assert message in refusal(line, capsys)


@pytest.mark.parametrize(
    ("preset", "tokenizer", "codes", "message"),
    [
        ("llamagen_nano", "bigr_nano_cat_ar", "bigr_nano_cat_ar", "the tokenizer gives bits, but the generator has tokens='index'"),
        (
            "bigr_nano_cat_ar",
            "llamagen_nano",
            "llamagen_nano",
            "the tokenizer gives one index a token, but the generator has tokens='bits'",
        ),
        ("llamagen_nano", "llamagen_nano", "bigr_nano_cat_ar", "was made by another tokenizer"),
        ("bigr_nano_cat_ar", "bigr_nano_cat_ar", "llamagen_nano", "was made by another tokenizer"),
    ],
)
def test_tokenizers_and_caches_of_another_kind(preset, tokenizer, codes, message, made, tmp_path, capsys):
    where = f"--tokenizer {made / tokenizer / 'tokenizer'} --codes {made / codes / 'codes'} --out {tmp_path / 'run'}"
    assert message in refusal(f"train --preset {preset} {where} {TRAIN}", capsys)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("command", ["inpaint", "outpaint", "edit --labels 2", "enrich"])
@pytest.mark.parametrize("name", ["llamagen_nano", "bigr_nano_cat_ar", "bigr_nano_bin_ar"])
def test_editing_with_a_causal_system(command, name, made, tmp_path, capsys):
    verb, _, rest = command.partition(" ")
    line = f"{verb} sample:fashion_mnist:0 {rest} --model {name} {ARGS} --weights {made / name} --out {tmp_path / 'e.png'}"
    assert "generator is causal: it draws each token from those before it only" in refusal(line, capsys)


def test_a_softmax_that_is_too_large_says_which_parts_to_cut_it_into(made, tmp_path, capsys):
    where = f"--tokenizer {made / 'bigr_nano_cat_ar' / 'tokenizer'} --codes {made / 'bigr_nano_cat_ar' / 'codes'} --out {tmp_path / 'run'}"
    said = refusal(f"train --preset bigr_nano_cat_ar {where} --model.code-dim 24", capsys)
    assert "one softmax over 16,777,216 classes" in said
    assert "num_sub_codes=2 parts of 12 bits" in said


@pytest.mark.parametrize(
    ("preset", "changes", "classes"),
    [
        ("bigr_nano_cat_ar", "--model.code-dim 24 --model.num-sub-codes 2", 4096),
        ("bigr_l_cat_ar", "--model.code-dim 20 --model.num-sub-codes 2", 1024),
        ("bigr_nano_cat_mask", "--model.code-dim 8", 256),
        ("llamagen_nano", "--model.depth 3", 4096),
    ],
)
def test_the_classes_follow_the_bits_that_are_asked_for(preset, changes, classes):
    settings = _parsed("train", shlex.split(f"--preset {preset} --tokenizer t --out r {changes}"))
    assert settings.model.vocab_size == classes


def test_the_shifted_tokens_of_a_masked_system(tmp_path, capsys):
    line = f"extract --model bigr_nano {ARGS} feature_tokens=shifted --random --source sample:digits --limit 4 --out {tmp_path / 's'}"
    line = line.replace(" --device cpu feature_tokens=shifted", " feature_tokens=shifted --device cpu")
    assert "feature_tokens='shifted' feeds what a causal generator is trained on, but this one is masked" in refusal(line, capsys)
