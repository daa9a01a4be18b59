"""`bigr <command>`: every command is a settings dataclass and the function that takes it."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from typing import Annotated, Union

COMMANDS = (
    "train-tokenizer", "encode", "train", "export", "extract", "probe", "knn", "sweep", "plot",
    "index", "search", "add", "remove", "sync", "reindex", "duplicates", "generate", "interpolate", "inpaint", "outpaint", "edit", "enrich",
)  # fmt: skip


def main(args: list[str] | None = None) -> None:
    """Entry point: parse, run, and turn errors about what was given into one line on standard error."""
    args = list(sys.argv[1:] if args is None else args)
    try:
        import tyro
    except ImportError:
        sys.exit("bigr needs tyro: pip install tyro")
    try:
        commands = _commands()
        defaults = _starting_point(commands, args)
        choices = tuple(
            Annotated[settings, tyro.conf.subcommand(name, prefix_name=False, **({"default": defaults[name]} if name in defaults else {}))]
            for name, (settings, _) in commands.items()
        )
        settings = tyro.cli(Union[choices], prog="bigr", description=_DESCRIPTION, args=args)  # noqa: UP007
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        logging.getLogger("faiss").setLevel(logging.WARNING)  # at INFO it lists the libraries that it tries to load
        run = next(run for kind, run in commands.values() if type(settings) is kind)
        run(settings)
    except BrokenPipeError:
        sys.exit(1)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        if os.environ.get("BIGR_TRACEBACK"):
            raise
        name = next((arg for arg in args if arg in COMMANDS), "")
        sys.exit(f"bigr {name}: {type(error).__name__}: {error}")


_DESCRIPTION = (
    "Train, from a folder of images: train-tokenizer, encode, train, export, in this order. "
    "Features: extract, then probe, knn, sweep, plot. "
    "Retrieval: index, search, add, remove, sync, reindex, duplicates. "
    "Pictures: generate, interpolate, inpaint, outpaint, edit, enrich. "
    "Set BIGR_TRACEBACK=1 to see where an error came from."
)


def _commands() -> dict:
    from ..train.code_cache import EncodeConfig, encode
    from ..train.export import ExportConfig, export
    from ..train.generator import TrainConfig, train
    from ..train.tokenizer import TrainTokenizerConfig, train_tokenizer
    from .edit import EditConfig, EnrichConfig, InpaintConfig, OutpaintConfig, edit, enrich, inpaint, outpaint
    from .extract import ExtractConfig, extract
    from .gallery import AddConfig, IndexConfig, RemoveConfig, add, index, remove
    from .gallery_upkeep import DuplicatesConfig, ReindexConfig, SyncConfig, duplicates, reindex, sync
    from .generate import GenerateConfig, InterpolateConfig, generate, interpolate
    from .plot import PlotConfig, plot
    from .probe import KNNConfig, ProbeConfig, SweepConfig, knn, probe, sweep
    from .search import SearchConfig, search

    return {
        "train-tokenizer": (TrainTokenizerConfig, train_tokenizer),
        "encode": (EncodeConfig, encode),
        "train": (TrainConfig, train),
        "export": (ExportConfig, export),
        "extract": (ExtractConfig, extract),
        "probe": (ProbeConfig, probe),
        "knn": (KNNConfig, knn),
        "sweep": (SweepConfig, sweep),
        "plot": (PlotConfig, plot),
        "index": (IndexConfig, index),
        "search": (SearchConfig, search),
        "add": (AddConfig, add),
        "remove": (RemoveConfig, remove),
        "sync": (SyncConfig, sync),
        "reindex": (ReindexConfig, reindex),
        "duplicates": (DuplicatesConfig, duplicates),
        "generate": (GenerateConfig, generate),
        "interpolate": (InterpolateConfig, interpolate),
        "inpaint": (InpaintConfig, inpaint),
        "outpaint": (OutpaintConfig, outpaint),
        "edit": (EditConfig, edit),
        "enrich": (EnrichConfig, enrich),
    }


def _starting_point(commands: dict, args: list[str]) -> dict:
    """Defaults of the command in `args` that come from --config or --preset, which are read before the other options."""
    from ..models.presets import GENERATORS, TOKENIZERS
    from ..train.run import read_config

    if not args or args[0] not in commands:
        return {}
    settings = commands[args[0]][0]
    config, preset = _value(args, "--config"), _value(args, "--preset")
    if config is not None:
        if preset is not None:
            raise ValueError("both --config and --preset were given, and each names a model; give one of them.")
        return {args[0]: read_config(settings, config)}
    sizes = {"train-tokenizer": TOKENIZERS, "train": GENERATORS}.get(args[0])
    if preset is None or sizes is None:
        return {}
    if preset not in sizes:
        raise ValueError(f"there is no preset {preset!r}; choose one of {', '.join(sizes)}.")
    import tyro

    required = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(settings)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return {args[0]: settings(**required, preset=preset, model=sizes[preset])}


def _value(args: list[str], option: str) -> str | None:
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(f"{option}="):
            return arg.split("=", 1)[1]
    return None
