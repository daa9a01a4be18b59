"""Promises of captions as a condition: order counts, padding and neighbours do not, and a caption that names a class is that class."""

from __future__ import annotations

import logging

import pytest
import torch

from bigr_features import BiGR, GeneratorConfig
from bigr_features.models.text_config import TextConfig
from bigr_features.models.text_encoders import load_text_encoder
from bigr_features.sampling.captions import Captions

from ..helpers import TINY, random_codes, randomized, tiny_generator
from ..text import TEXT, WORDS, save_encoder, text_generator

PROMPTS = ["a dark bag", "light boot"]


def condition(model: BiGR, text, mask=None) -> torch.Tensor:
    codes = random_codes(model.config, len(text) if isinstance(text, list | Captions) else 1)
    with torch.no_grad():
        return model.condition(codes, text=text, mask=mask)


# ------------------------------------------------------------------------------------------------------------- what counts


def test_swapping_two_words_of_a_prompt_changes_what_every_image_token_gets():
    model = text_generator()
    one = condition(model, ["black shirt white background"])
    other = condition(model, ["white shirt black background"])
    assert (one - other).abs().amax(-1).min() > 1e-3


def bag_of_features(rotation: str) -> BiGR:
    """One block without adaLN, whose projection of features is the identity: what is left is attention to features as they are."""
    text = TextConfig("t5", width=16, length=4, rotation=rotation)
    model = randomized(BiGR(TINY.replace(text=text, depth=1, adaln=False, num_classes=1000))).eval()
    with torch.no_grad():
        part, half = model.text, torch.eye(16)
        for layer in (part.fc1, part.fc2):
            layer.weight.zero_()
            layer.bias.zero_()
        part.fc1.weight[:16], part.fc1.weight[16:] = half, -half  # gelu(x) - gelu(-x) = x
        part.fc2.weight[:16, :16], part.fc2.weight[:16, 16:] = half, -half
        part.norm.weight.fill_(1)
        model.class_embedding.weight.zero_()  # so that a token is its feature alone
    return model


@pytest.mark.parametrize(("rotation", "told_apart"), [("identity", True), ("zero", False)])
def test_rows_of_zeros_make_attention_blind_to_which_word_stands_where(rotation, told_apart):
    """Features that say word and place, as those of any encoder: swapped words leave the same sum of values, so that only attention by
    content tells the two captions apart. With cosine and sine of zero, as in LlamaGen, every word weighs the same whatever it is."""
    model = bag_of_features(rotation)
    random = torch.Generator().manual_seed(0)
    words, places = torch.zeros(2, 16), torch.zeros(2, 16)
    words[:, :8], places[:, 8:] = (torch.nn.functional.normalize(torch.randn(2, 8, generator=random), dim=1) for _ in range(2))
    captions = torch.stack([words + places, words.flip(0) + places])  # (2, 2, 16)
    given = Captions.of_tokens(captions, torch.ones(2, 2, dtype=torch.bool))
    codes = random_codes(model.config, 1).expand(2, -1, -1)
    with torch.no_grad():
        one, other = model.condition(codes, text=given)
    difference = (one - other).abs().max()
    assert difference > 1e-2 if told_apart else difference < 1e-5


def test_the_rotary_rows_of_captions_do_not_turn_and_those_of_a_class_stay_zero():
    table = text_generator().trunk.rope.table
    assert torch.equal(table[:6], torch.tensor([1.0, 0.0]).expand(6, 8, 2))
    assert torch.equal(tiny_generator().trunk.rope.table[:1], torch.zeros(1, 8, 2))
    torch.testing.assert_close(table[6:], tiny_generator().trunk.rope.table[1:])


# ------------------------------------------------------------------------------------------------------ what does not count


@pytest.mark.parametrize("head", ["bernoulli", "mlm"])
def test_padding_and_neighbours_change_nothing(head):
    model = text_generator(model={"head": head, "adaln": head == "bernoulli"}).double()
    together = condition(model, [*PROMPTS, "a light wide white shirt a", ""])
    read = model.captions(PROMPTS)
    short = Captions.of_tokens(read.tokens[:, 0, :3], read.mask[:, 0, :3])
    codes = random_codes(model.config, 4)
    with torch.no_grad():
        for row in range(2):
            alone = model.condition(codes[row : row + 1], text=PROMPTS[row : row + 1])
            torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-6)
            cut = model.condition(codes[row : row + 1], text=short[row : row + 1])
            torch.testing.assert_close(cut[0], together[row], rtol=0, atol=1e-6)
            noisy = read.tokens.masked_fill(~read.mask, 5)  # whatever stands under the padding
            under = Captions(noisy, read.mask, read.null, read.shares)
            torch.testing.assert_close(model.condition(codes[:2], text=under)[row], together[row], rtol=0, atol=1e-6)


def test_the_null_caption_is_a_dropped_caption_an_empty_prompt_and_no_prompt():
    model = text_generator()
    codes = random_codes(model.config)
    with torch.no_grad():
        null = model.condition(codes)
        for text in (["", ""], ["  ", "!?"], model.captions(PROMPTS).dropped(torch.tensor([True, True])), model.null_captions(2)):
            torch.testing.assert_close(model.condition(codes, text=text), null, rtol=0, atol=2e-6)
        half = model.condition(codes, text=model.captions(PROMPTS).dropped(torch.tensor([True, False])))
    torch.testing.assert_close(half[0], null[0], rtol=0, atol=2e-6)
    torch.testing.assert_close(half[1], condition(model, PROMPTS)[1], rtol=0, atol=1e-6)


def test_the_null_caption_is_trained_and_whole_captions_are_dropped():
    model = text_generator().train()
    codes = random_codes(model.config)
    model.loss(codes, text=PROMPTS, dropped=torch.tensor([True, True])).loss.backward()
    assert model.class_embedding.weight.grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.abs().sum() == 0 for name, p in model.named_parameters() if name.startswith("text."))
    assert GeneratorConfig().class_dropout == 0.1
    many = model.captions(["a dark bag"] * 4000)
    dropped = model.drop_labels(many, torch.Generator().manual_seed(0)).null.float().mean().item()
    assert abs(dropped - 0.1) < 0.02


def test_every_part_of_the_condition_gets_a_gradient():
    model = text_generator().train()
    model.loss(random_codes(model.config), text=PROMPTS, dropped=torch.tensor([False, False])).loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not [name for name in without if name.startswith("text.")]


def test_projections_that_start_at_zero_leave_the_null_caption():
    torch.manual_seed(0)
    model = BiGR(TINY.replace(text=TextConfig(width=16, length=6, vocabulary=WORDS, num_heads=2, zero_init=True))).eval()
    given = model.conditioned(model.captions(PROMPTS))
    null = model.class_vector()
    assert torch.equal(given.vector, null.expand(2, -1, -1))
    assert torch.equal(given.prefix, null.expand(2, 6, -1))


# ------------------------------------------------------------------------------------------- a class and a caption are alike


def learned(model: BiGR, codes, conditions) -> BiGR:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    random = torch.Generator().manual_seed(0)
    mask = torch.ones(codes.shape[:2], dtype=torch.bool)
    for _ in range(140):
        loss = model.loss(codes, **conditions, mask=mask, dropped=torch.zeros(len(codes), dtype=torch.bool), generator=random).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("adaln", [True, False])
def test_a_caption_that_is_a_class_name_learns_what_the_label_does(adaln):
    """Three images learnt by heart, each under its label or its name: the greedy draw gives back the image that was asked for."""
    sizes = TINY.replace(head="mlm", adaln=adaln, depth=2, residual_dropout=0.0, ffn_dropout=0.0, init_std=0.15, gate_init=0.5)
    codes = random_codes(sizes, 3)
    names = ["bag", "boot", "dark shirt"]
    settings = {"num_reveal_steps": 1, "guidance_scale": 1.0, "top_k": 1}
    torch.manual_seed(0)
    labelled = learned(BiGR(sizes), codes, {"labels": torch.arange(3)}).generate(torch.arange(3), **settings)
    torch.manual_seed(0)
    described = learned(BiGR(sizes.replace(text=TEXT)), codes, {"text": names}).generate(text=names, **settings)
    right = [(drawn == codes).float().mean().item() for drawn in (labelled, described)]
    assert min(right) > 0.97
    assert (described[0] != described[1]).any()


def test_features_come_from_the_null_caption_and_need_no_part_of_the_text():
    model = text_generator().double()
    codes = random_codes(model.config).double()
    with torch.no_grad():
        expected = model.hidden_states(codes, text=["", ""], layers=[1])[0]
        torch.testing.assert_close(model.features(codes, 1), expected, rtol=0, atol=2e-6)
        torch.testing.assert_close(model.hidden_states(codes, layers=[1])[0], expected, rtol=0, atol=2e-6)
        prefix = model.hidden_states(codes, text=PROMPTS, layers=[1], return_prefix=True)[0]
    assert prefix.shape[1] == 6 + model.config.num_tokens
    model.drop_generative_parts(2)
    assert not any(name.startswith("text.") for name in model.state_dict())
    torch.testing.assert_close(model.features(codes, 1), expected, rtol=0, atol=2e-6)
    with pytest.raises(RuntimeError, match="captions need the generative parts"):
        model.captions("a bag")


# ----------------------------------------------------------------------------------------------------------- what is refused


def test_text_on_a_model_of_classes_and_labels_on_a_model_of_captions_are_refused():
    classes, captions = tiny_generator(), text_generator()
    codes, labels = random_codes(TINY), torch.tensor([0, 1])
    for call in (
        lambda: classes.generate(text=["a bag"]),
        lambda: classes.generate(labels, negative_text="a bag"),
        lambda: classes.loss(codes, text=PROMPTS),
        lambda: classes.condition(codes, text=PROMPTS),
        lambda: classes.hidden_states(codes, text=PROMPTS),
        lambda: classes.captions(PROMPTS),
    ):
        with pytest.raises(TypeError, match="text was given, but this model is conditioned on classes; give labels"):
            call()
    for call in (
        lambda: captions.generate(labels),
        lambda: captions.loss(codes, labels),
        lambda: captions.condition(codes, labels),
        lambda: captions.hidden_states(codes, labels),
    ):
        with pytest.raises(TypeError, match="labels were given, but this model is conditioned on captions; give text"):
            call()


def test_prompts_that_do_not_fit_the_number_of_images_are_refused():
    model = text_generator()
    settings = {"num_reveal_steps": 2}
    with pytest.raises(ValueError, match="2 prompts were given, but seeds asks for 3 images"):
        model.generate(text=PROMPTS, seeds=[0, 1, 2], **settings)
    with pytest.raises(ValueError, match="2 prompts were given, but batch_size asks for 5 images"):
        model.generate(text=PROMPTS, batch_size=5, **settings)
    with pytest.raises(ValueError, match="3 negative prompts were given for 2 images"):
        model.generate(text=PROMPTS, negative_text=["a", "bag", "boot"], **settings)
    with pytest.raises(ValueError, match="no prompt was given, so the number of images is unknown"):
        model.generate(**settings)
    with pytest.raises(ValueError, match="there are no prompts"):
        model.generate(text=[], **settings)
    with pytest.raises(ValueError, match="there are 3 captions but codes hold 2 images"):
        model.condition(random_codes(model.config), text=["a", "bag", "boot"])
    assert len(model.generate(text="a bag", seeds=[0, 1, 2], **settings)) == 3


def test_unknown_words_are_named_and_left_out_and_a_prompt_of_nothing_else_is_refused(caplog):
    model = text_generator()
    with caplog.at_level(logging.WARNING):
        found = model.captions(["a purple bagg bag"])
    assert "prompt 0: the model does not know 'purple', 'bagg', left out; did you mean bag?" in caplog.text
    assert torch.equal(found.tokens, model.captions(["a bag"]).tokens)
    with pytest.raises(ValueError, match=r"prompt 1 \('zebra'\) has no word that the model knows; it knows a, background, bag"):
        model.captions(["a bag", "zebra"])


def test_long_prompts_are_cut_and_that_is_said(caplog):
    model = text_generator()
    with caplog.at_level(logging.WARNING):
        found = model.captions(["a light wide white shirt a bag boot"])
    assert "prompt 0 has 8 words, and the model takes 6: cut after 'a'" in caplog.text
    assert torch.equal(found.tokens, model.captions(["a light wide white shirt a"]).tokens)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        model.captions(["dark bag " * 12_000])
    assert "the model takes 6: cut after" in caplog.text
    assert len(caplog.text) < 500


def test_what_is_no_prompt_is_refused():
    model = text_generator()
    with pytest.raises(ValueError, match=r"prompt 1 holds the control character '\\x1b' at position 2"):
        model.captions(["a bag", "a \x1b[31mbag"])
    with pytest.raises(TypeError, match="prompt 0 is a int; expected text"):
        model.captions([3])
    long = Captions.of_tokens(torch.ones(1, 9, dtype=torch.int64), torch.ones(1, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="the captions have 9 tokens, but the model takes at most 6"):
        model.condition(random_codes(model.config, 1), text=long)
    features = Captions.of_tokens(torch.ones(1, 3, 16), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="takes ids of words"):
        model.condition(random_codes(model.config, 1), text=features)
    with pytest.raises(ValueError, match="the mask"):
        Captions.of_tokens(torch.ones(1, 3, 16), torch.ones(1, 3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": "bert"}, "text.encoder='bert'"),
        ({"rotation": "spin"}, "text.rotation='spin'"),
        ({"length": 0}, "length=0"),
        ({"width": 10, "num_heads": 3}, "no multiple of text.num_heads=3"),
        ({"layer": 3}, "count from the end"),
        ({"vocabulary": ("a", "a")}, "the word 'a' twice"),
        ({"encoder": "t5", "vocabulary": ("a",)}, "belongs to encoder='words'"),
    ],
)
def test_settings_that_make_no_sense_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        TextConfig(**fields)


def test_a_causal_generator_takes_no_captions():
    with pytest.raises(ValueError, match="text conditions masked generators"):
        TINY.replace(text=TEXT, causal=True)


def test_the_configuration_survives_json():
    config = TINY.replace(text=TEXT)
    assert GeneratorConfig.from_dict(config.to_dict()) == config
    assert config.replace(depth=1).replace(depth=3) == config


@pytest.mark.parametrize("kind", ["words", "t5"])
def test_empty_prompts_are_said_to_be_the_null_caption(kind, caplog, tmp_path):
    if kind == "words":
        model = text_generator()
    else:
        pytest.importorskip("transformers")
        encoder = load_text_encoder(save_encoder(tmp_path / "t5"), length=8)
        model = randomized(BiGR(TINY.replace(text=encoder.config)))
        model.attach_text_encoder(encoder)
    found = model.captions(["", "a bag", "  "])
    assert "prompt 0, 2 is empty: the null caption stands for it" in caplog.text
    assert found.null[:, 0].tolist() == [True, False, True]
