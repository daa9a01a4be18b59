"""Promises of captions as words: splitting, vocabularies, and WordLevel files that the `tokenizers` library reads alike."""

from __future__ import annotations

import pytest

from bigr_features.functional.words import Vocabulary, check_prompts, cleaned, excerpt, split_words

TEXTS = ["A dark T-shirt, wide.", "don’t   stop\n(now)", "Ünïcode ﬁne 日本 42", "", "  ", "a-b--c 'quoted'"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dark T-shirt, wide.", ["a", "dark", "t-shirt", "wide"]),
        ("don’t stop", ["don’t", "stop"]),
        ("a\tb\nc", ["a", "b", "c"]),
        ("!?", []),
        ("ﬁne", ["fine"]),
    ],
)
def test_words_are_lower_case_and_without_punctuation(text, words):
    assert split_words(text) == words


def test_a_vocabulary_is_the_words_of_captions_the_most_frequent_first_kept():
    whole = Vocabulary.of(["a dark bag", "A BAG", "a boot"])
    assert whole.words == ("a", "bag", "boot", "dark")
    assert Vocabulary.of(["a dark bag", "A BAG", "a boot"], most=2).words == ("a", "bag")
    assert Vocabulary.of(["a dark bag", "A BAG", "a boot"], at_least=2).words == ("a", "bag")
    assert len(whole) == 6
    assert whole.encode("A dark, red bag") == ([2, 5, 3], ["red"])
    with pytest.raises(ValueError, match="hold no word"):
        Vocabulary.of(["...", ""])


def test_a_wordlevel_file_is_read_back_and_splits_alike_in_the_library(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = Vocabulary.of(TEXTS)
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == vocabulary
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "words.json"))
    for text in [*TEXTS, "an unknown bag"]:
        expected = [vocabulary.ids.get(word, 1) for word in split_words(text)]
        assert theirs.encode(text).ids == expected, text


def test_a_file_that_the_library_wrote_is_read(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({"[UNK]": 0, "bag": 1, "Upper": 2, "boot": 3}, unk_token="[UNK]")
    tokenizers.Tokenizer(model).save(str(tmp_path / "theirs.json"))
    assert Vocabulary.load(tmp_path / "theirs.json").words == ("bag", "boot")


def test_files_of_another_kind_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no vocabulary file"):
        Vocabulary.load(tmp_path / "none.json")
    for text, message in [
        ("{", "is no file of the `tokenizers` library"),
        ("[]", "is no file of the `tokenizers` library"),
        ('{"model": {"type": "BPE", "vocab": {}}}', "kind 'BPE'"),
        ('{"model": {"type": "WordLevel", "vocab": {"[UNK]": 0}}}', "holds no word"),
    ]:
        (tmp_path / "wrong.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            Vocabulary.load(tmp_path / "wrong.json")


def test_prompts_are_text_without_control_characters():
    assert check_prompts("a bag") == ["a bag"]
    assert check_prompts(("a\tbag", "b\nc")) == ["a\tbag", "b\nc"]
    for bad in ("a\x00b", "\x1b[2J", "a\x7f", "a\ud800"):
        with pytest.raises(ValueError, match="prompt 0 holds the control character"):
            check_prompts([bad])
    with pytest.raises(TypeError, match="prompt 1 is a NoneType"):
        check_prompts(["a", None])
    with pytest.raises(ValueError, match="no prompts"):
        check_prompts([])


def test_captions_of_data_are_cleaned_and_messages_stay_short():
    assert cleaned(" a\x00 dark\n bag ") == "a dark bag"
    assert len(excerpt("bag " * 100_000)) < 70
    assert excerpt("a  bag") == "'a bag'"
