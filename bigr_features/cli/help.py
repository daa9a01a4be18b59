"""What `bigr --help` shows, and the words of commands and options that come near to a mistyped one. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import typing
from collections.abc import Iterable

WIDTH = 80
GROUPS = {
    "Features of images, with any timm model": {
        "extract": "Write features of a folder or data set to a store.",
        "probe": "Measure a store by a linear probe.",
        "knn": "Measure a store by k nearest neighbours.",
        "sweep": "Compare every layer and pooling of a store.",
        "classify": "Classify by a generator's likelihoods, untrained.",
        "plot": "Draw clusters of classes: t-SNE, UMAP or PCA.",
        "report": "Put results of probe, knn and sweep into one table.",
    },
    "Search of images": {
        "index": "Make a gallery of a folder or data set.",
        "search": "Find what looks like an image, or like a class.",
        "add": "Add images to a gallery.",
        "remove": "Remove images from a gallery.",
        "sync": "Make a gallery agree with a folder that has changed.",
        "reindex": "Give a gallery another index, metric or model.",
        "duplicates": "List copies and near copies in a gallery.",
        "serve": "Search, clusters and painting in a browser.",
    },
    "New and changed images": {
        "generate": "Draw images of classes or prompts.",
        "interpolate": "Draw images between classes or prompts.",
        "inpaint": "Draw a region of a picture anew.",
        "outpaint": "Draw what lies beyond the edges of a picture.",
        "edit": "Draw a region of a picture as something else.",
        "enrich": "Draw details of a picture anew.",
        "evaluate-generation": "Measure generated images: FID and other distances.",
        "reference": "Prepare the images that generated ones are compared with.",
    },
    "Training on a folder of images, in this order": {
        "train-tokenizer": "Train the tokenizer: images to binary codes and back.",
        "encode": "Write the codes of all images.",
        "train": "Train the generator on codes, with classes or captions.",
        "export": "Write the weights of a run for others.",
    },
}


def overview(commands: Iterable[str]) -> str:
    """Commands in groups, with a line for each."""
    commands = list(commands)
    wide = max(map(len, commands)) + 2
    lines = ["usage: bigr COMMAND [OPTIONS]    bigr COMMAND --help lists the options", ""]
    lines += ["Features, search, generation and training with BiGR and any timm model.", ""]
    for group, named in GROUPS.items():
        lines += [f"{group}:", *(f"  {name:<{wide}}{text}" for name, text in named.items()), ""]
    lines += ["Every command takes --quiet (results and warnings only) and --verbose."]
    lines += ["bigr --version shows the version. BIGR_TRACEBACK=1 in the environment shows", "where an error came from."]
    return "\n".join(lines)


def unknown_command(word: str, commands: Iterable[str]) -> str:
    """What to say of a command that does not exist."""
    return f"bigr: there is no command {word!r}; {_meant(near(word, commands))}bigr --help lists them."


def unknown_option(command: str, settings: type, args: list[str]) -> str | None:
    """What to say of the first option that a command does not have; None if it has all of them.

    Parameters
    ----------
    command : str
    settings : dataclass
        Its settings, whose fields are the options; those of a nested one (`--model.depth`) are left to the parser.
    args : list of str
        What was typed after the command.
    """
    known = options_of(settings)
    for arg in args:
        name = arg.partition("=")[0].replace("_", "-")
        if arg == "--":
            return None
        if name.startswith("--") and "." not in name and name not in known and not name.startswith("--tyro"):
            return f"bigr {command}: there is no option {name}; {_meant(near(name, known))}bigr {command} --help lists them."
        if re.fullmatch(r"-[a-z][a-z-]*", name) and name != "-h":
            meant = _meant(near(f"-{name}", known))
            return f"bigr {command}: {name} has one dash, and options have two; {meant}bigr {command} --help lists them."
    return None


def options_of(settings: type) -> list[str]:
    """The options of a command, of flags both forms."""
    hints = typing.get_type_hints(settings)
    known = ["--help", "--quiet", "--verbose"]
    for field in dataclasses.fields(settings):
        name = field.name.replace("_", "-")
        known += [f"--{name}", f"--no-{name}"] if hints[field.name] is bool else [f"--{name}"]
    return known


def own_first(settings: type) -> type:
    """The settings of a command in the order of its help: what it needs, its own options, and those that it shares with others."""
    owner: dict[str, int] = {}
    for place, base in enumerate(settings.__mro__):
        for name in inspect.get_annotations(base):
            owner.setdefault(name, place)
    known: dict[str, dataclasses.Field] = vars(settings)["__dataclass_fields__"]
    optional = {
        name: field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING for name, field in known.items()
    }
    in_order = {name: known[name] for name in sorted(known, key=lambda name: (optional[name], owner[name]))}
    setattr(settings, "__dataclass_fields__", in_order)  # noqa: B010 (the checker knows the attribute of instances only)
    return settings


def near(word: str, known: Iterable[str]) -> list[str]:
    """Up to three known words that are written alike, the nearest first; those that it begins or that begin it count too."""
    known = list(known)
    lowered = {name.lower(): name for name in known}
    close = [lowered[name] for name in difflib.get_close_matches(word.lower(), lowered, n=3, cutoff=0.6)]
    begun = [name for name in known if len(word.strip("-")) > 2 and name.lower().startswith(word.lower())]
    return list(dict.fromkeys([*close, *begun]))[:3]


def _meant(words: list[str]) -> str:
    return f"did you mean {' or '.join(words)}? " if words else ""
