"""The section of README.md on captions, for `tables.py`: what words, combinations, guidance and word order are worth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
MEASURED = (RESULTS / "text_to_image.json").is_file()
KINDS = (("one", "one word"), ("seen", "two words that captions name together"), ("held_out", "two words that none names together"))


def text_section(read: Callable, table: Callable, percent: Callable, made_by: Callable) -> str:
    """Tables of text_to_image.json and, if it was measured, word_order.json."""
    result = read("text_to_image")
    summary, protocol = result["summary"], result["protocol"]
    parts = [
        f"{result['model']}, {protocol['images']} images of synthetic captions: the share of images of which a word is true, by its rule "
        f"or, for the class, by a CNN that is right on {percent(result['judge']['test_accuracy'])} % of real test images. *Ceiling*: real "
        "images of which the word is true, decoded from their codes. *Floor*: generated images against the prompts of others.",
        table(
            ["word", "generated", "ceiling", "floor"],
            [
                [
                    word,
                    percent(row["share"], row["interval"]),
                    *(_share(result[part]["words"][word], percent) for part in ("ceiling", "floor")),
                ]
                for word, row in result["words"]["words"].items()
                if row["images"]
            ],
        ),
        f"The mean over words is {percent(summary['generated'])} %, which is {percent(summary['of_ceiling'])} % of the ceiling of "
        f"{percent(summary['ceiling'])} %; the floor is {percent(summary['floor'])} %.",
        table(
            ["prompts", "words that are true", "both words true"],
            [
                [title, percent(kinds["share"], kinds["interval"]), _share(result["words"]["both_words"][name], percent)]
                for name, title in (
                    ("one", "one word"),
                    ("seen", "two words that captions name together"),
                    ("held_out", "two that none does"),
                )
                if (kinds := result["words"]["kinds"][name])["images"]
            ],
        ),
    ]
    if "guidance" in result:
        rows = [[f"{row['scale']:g}", percent(row["accuracy"], row["interval"]), percent(row["coverage"])] for row in result["guidance"]]
        parts += ["Guidance, class and words together, against the coverage of real test images in features of the CNN:"]
        parts += [table(["guidance scale", "words that are true", "coverage"], rows)]
    names = ["text_to_image"]
    if (RESULTS / "word_order.json").is_file():
        names.append("word_order")
        parts += _order(read("word_order"), table, percent)
    return "\n\n".join([*parts, made_by(*names)])


def _share(row: dict, percent: Callable) -> str:
    return percent(row["share"], row["interval"]) if row.get("images") else "-"


def _order(order: dict, table: Callable, percent: Callable) -> list[str]:
    """Two things side by side, with and without rotary rows of zeros."""
    rows = {"real pictures, decoded": order["decoded_real_pictures"], **{f"{name} rows": row for name, row in order["rotations"].items()}}
    keys = ("both_right", "exchanged", "halves_right")
    return [
        f"Order of words, two things side by side, {order['protocol']['steps']} steps of a small model for each kind of rotary rows:",
        table(
            ["captions", "both in their places", "exchanged", "halves that are right"],
            [[name, *(percent(row[key]["share"], row[key]["interval"]) for key in keys)] for name, row in rows.items()],
        ),
    ]
