"""`bigr <command>`: every command is a settings dataclass and the function that takes it."""

from __future__ import annotations

import dataclasses
import importlib
import os
import signal
import sqlite3
import sys

from ..functional.printing import one_line
from .errors import explained, interrupted
from .help import overview, own_first, unknown_command, unknown_option
from .idle import refuse_idle
from .loudness import logged, loudness_of

# name: (module and class of the settings, module and function that takes them); a command imports its own only, and --help no function
COMMANDS = {
    "train-tokenizer": ("..train.settings:TrainTokenizerConfig", "..train.tokenizer:train_tokenizer"),
    "encode": ("..train.settings:EncodeConfig", "..train.code_cache:encode"),
    "train": ("..train.settings:TrainConfig", "..train.generator:train"),
    "export": ("..train.settings:ExportConfig", "..train.export:export"),
    "extract": (".extract:ExtractConfig", ".extract:extract"),
    "probe": (".probe:ProbeConfig", ".probe:probe"),
    "knn": (".probe:KNNConfig", ".probe:knn"),
    "sweep": (".probe:SweepConfig", ".probe:sweep"),
    "classify": (".classify:ClassifyConfig", ".classify:classify"),
    "plot": (".plot:PlotConfig", ".plot:plot"),
    "report": (".report:ReportConfig", ".report:report"),
    "index": (".gallery:IndexConfig", ".gallery:index"),
    "search": (".search:SearchConfig", ".search:search"),
    "add": (".gallery:AddConfig", ".gallery:add"),
    "remove": (".gallery:RemoveConfig", ".gallery:remove"),
    "sync": (".gallery_upkeep:SyncConfig", ".gallery_upkeep:sync"),
    "reindex": (".gallery_upkeep:ReindexConfig", ".gallery_upkeep:reindex"),
    "duplicates": (".gallery_upkeep:DuplicatesConfig", ".gallery_upkeep:duplicates"),
    "serve": (".serve:ServeConfig", ".serve:serve"),
    "generate": (".drawing_options:GenerateConfig", ".generate:generate"),
    "interpolate": (".drawing_options:InterpolateConfig", ".generate:interpolate"),
    "inpaint": (".drawing_options:InpaintConfig", ".edit:inpaint"),
    "outpaint": (".drawing_options:OutpaintConfig", ".edit:outpaint"),
    "edit": (".drawing_options:EditConfig", ".edit:edit"),
    "enrich": (".drawing_options:EnrichConfig", ".edit:enrich"),
    "evaluate-generation": (".evaluate_generation:EvaluateGenerationConfig", ".evaluate_generation:evaluate_generation"),
    "reference": (".reference:ReferenceConfig", ".reference:reference"),
}
ANSWERED = (ValueError, TypeError, OSError, ImportError, RuntimeError, MemoryError, sqlite3.Error)


def main(args: list[str] | None = None) -> None:
    """Entry point: parse, run, and turn errors about what was given into one line on standard error."""
    args = list(sys.argv[1:] if args is None else args)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal or a pipe cannot show is escaped, and stops nothing
            stream.reconfigure(errors="backslashreplace")
    if not args or args[0] in ("-h", "--help"):
        print(overview(COMMANDS))
        sys.exit(0)
    if args[0] == "--version":
        from .. import __version__

        print(f"bigr {__version__}")
        sys.exit(0)
    args, loudness = loudness_of(args)
    name, settings = args[0], None
    if name not in COMMANDS:
        _stop_at_usage(unknown_command(name, COMMANDS))
    try:
        settings = _parsed(name, args[1:])
        refuse_idle(name, settings)
        settings = _with_sampling_preset(settings, args[1:])
        with logged(loudness):
            _named(COMMANDS[name][1])(settings)
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one leaves at once
        print(one_line(interrupted(name, str(interrupt))), file=sys.stderr)
        sys.exit(130)
    except ANSWERED as error:
        if os.environ.get("BIGR_TRACEBACK"):
            raise
        sys.exit(one_line(f"bigr {name}: {type(error).__name__}: {explained(error, name, settings)}"))


def _parsed(name: str, args: list[str]):
    """Settings of a command; ends with 2 for options that it does not have, as the parser does for values."""
    kind = own_first(_named(COMMANDS[name][0]))
    args = _renamed(kind, args)
    wrong = unknown_option(name, kind, args)
    if wrong is not None:
        _stop_at_usage(wrong)
    start = _starting_point(name, kind, args)
    import tyro

    given = {} if start is None else {"default": start}
    one_model = (tyro.conf.AvoidSubcommands,)  # of several kinds of model, the one that the preset or --config names
    return tyro.cli(kind, prog=f"bigr {name}", args=args, config=one_model, **given)


def _stop_at_usage(message: str) -> None:
    """End with 2, the status of a command line that cannot be read."""
    print(one_line(message), file=sys.stderr)
    sys.exit(2)


def _renamed(settings: type, args: list[str]) -> list[str]:
    """The arguments with the present names of options that were called otherwise, which is said."""
    known = {field.name for field in dataclasses.fields(settings)}
    for former, name in {"checkpoint": "weights", **getattr(settings, "former_names", {})}.items():
        option, now = (f"--{word.replace('_', '-')}" for word in (former, name))
        if former not in known and name in known and _value(args, option) is not None:
            print(f"{option} is called {now} now", file=sys.stderr)
            args = [arg.replace(option, now, 1) if arg.partition("=")[0] == option else arg for arg in args]
    return args


def _named(place: str):
    """The class or function at "module:name"."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module, __package__), name)


def _starting_point(name: str, settings: type, args: list[str]):
    """Settings of a command that come from --config or --preset, which are read before the other options; None without them."""
    config, preset = _value(args, "--config"), _value(args, "--preset")
    known = {field.name for field in dataclasses.fields(settings)}
    if config is not None and "config" in known:
        from ..train.run import read_config

        if preset is not None:
            raise ValueError("both --config and --preset were given, and each names a model; give one of them.")
        return _with_free_model(read_config(settings, config))
    if preset is None or not {"preset", "config"} <= known:  # presets of sampling are read with the other options
        return None
    from ..models.presets import GENERATORS, TOKENIZERS

    sizes = TOKENIZERS if name == "train-tokenizer" else GENERATORS
    if preset not in sizes:
        raise ValueError(f"there is no preset {preset!r}; choose one of {', '.join(sizes)}.")
    import tyro

    required = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(settings)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    from ..train.recipes import GENERATOR_RECIPES, TOKENIZER_RECIPES

    recipe = (TOKENIZER_RECIPES if name == "train-tokenizer" else GENERATOR_RECIPES).get(preset, {})
    return _with_free_model(settings(**required, preset=preset, model=sizes[preset], **recipe))


def _with_sampling_preset(settings, args: list[str]):
    """Settings of a command that draws, with those of its --preset for every option that was not named, be it with its default value."""
    preset = getattr(settings, "preset", None)
    if preset is None:
        return settings
    from ..sampling.presets import preset_settings
    from ..sampling.settings import SamplingSettings

    if not isinstance(settings, SamplingSettings):  # presets of models have been read before
        return settings
    names = [field.name for field in dataclasses.fields(SamplingSettings) if _is_named(args, field.name)]
    return dataclasses.replace(settings, **preset_settings(preset, {name: getattr(settings, name) for name in names}))


def _is_named(args: list[str], name: str) -> bool:
    options = (f"--{name.replace('_', '-')}", f"--{name}")
    return any(arg.partition("=")[0] in options for arg in args)


def _with_free_model(settings):
    """Settings whose model has no number that follows from others, so that --model.* may change those others."""
    if hasattr(settings, "model"):
        object.__setattr__(settings, "model", settings.model.without_derived())
    return settings


def _value(args: list[str], option: str) -> str | None:
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(f"{option}="):
            return arg.split("=", 1)[1]
    return None
