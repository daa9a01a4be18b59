"""A run folder that a person can read.

config.json        the settings, which `--config` gives back
environment.json   versions, device, command
log.jsonl          one line of metrics each time
tensorboard/       the same, and the pictures
samples/           pictures
checkpoints/       the last ones, the best, and those asked for
skipped.txt        images that could not be read, and why
model/             the result: averaged weights, as `checkpoints.save_model` writes them
"""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import shlex
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.pixels import to_uint8
from ..functional.precision import instruction_sets
from ..functional.printing import one_line
from ..plots import pictures
from ..storage.atomic import replacing, write_atomically
from ..storage.json_files import plain, write_json
from . import checkpoint


def from_dict(cls, values: dict):
    """The settings dataclass that `json_files.plain` made a dictionary of; names that settings had before are read too.

    Raises
    ------
    ValueError
        For a name that the class does not have.
    """
    hints = typing.get_type_hints(cls)
    former = getattr(cls, "former_names", {})
    values = {former.get(name, name): value for name, value in values.items()}
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{cls.__name__} has no setting {', '.join(unknown)}; it has {', '.join(hints)}.")

    def convert(hint, value):
        kinds = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
        if kinds and isinstance(value, dict):  # of several, the one that has all these names
            return from_dict(next((kind for kind in kinds if set(value) <= set(typing.get_type_hints(kind))), kinds[0]), value)
        if isinstance(value, list):
            return tuple(value)
        if value is not None and (hint is Path or Path in typing.get_args(hint)):
            return Path(value)
        return value

    return cls(**{name: convert(hints[name], value) for name, value in values.items()})


def read_config(cls, path: str | Path):
    """Settings of an earlier run: its `config.json`, or the folder it lies in.

    Raises
    ------
    FileNotFoundError, ValueError
        For a missing or damaged file, or the settings of another command.
    """
    path = Path(path)
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"there is no settings file {path}; give the config.json of a run folder.")
    try:
        content = json.loads(path.read_text())
        kind, settings = content["kind"], content["settings"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or no settings file of a run ({error}).") from error
    if kind != cls.__name__:
        raise ValueError(f"{path} holds {kind}, the settings of another command; {cls.__name__} is expected.")
    return from_dict(cls, settings)


class Run:
    """The folder of one run; only the main process writes to it.

    Parameters
    ----------
    config : dataclass
        With `out` and `resume`.
    identity : dict of str
        What the run is bound to besides its settings: fingerprints of tokenizer and codes.
    free : tuple of str
        Settings that may change when the run is resumed.
    main : bool
        Whether this process writes.
    class_names : sequence of str, optional
        Names of the classes, for config.json.
    precision : Precision, optional
        What was chosen and why, for environment.json.

    Attributes
    ----------
    state : dict or None
        The newest checkpoint, if the run is resumed.

    Raises
    ------
    FileExistsError
        If the folder holds a run and `resume` is not set.
    ValueError
        If the settings differ from those of the run; they are named.
    """

    def __init__(self, config, identity: dict, free: tuple[str, ...], main: bool = True, class_names=None, precision=None):
        self.config, self.path, self.main, self.state = config, Path(config.out), main, None
        settings = {"kind": type(config).__name__, "settings": plain(config), "identity": identity}
        if checkpoint.steps_in(self.checkpoints):
            if not config.resume:
                raise FileExistsError(f"{self.path} holds a run already; give --resume to continue it, or another --out.")
            self.state = checkpoint.load(self.checkpoints)
            before = json.loads(self.state["settings"])
            if before["kind"] == settings["kind"]:  # settings that came later have their defaults
                before["settings"] = plain(from_dict(type(config), before["settings"]))
            check_same(before, settings, free, self.path)
        self.settings = json.dumps(settings)
        if class_names is not None:
            settings["class_names"] = list(class_names)
        if not main:
            return
        for folder in (self.path, self.path / "samples", self.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "config.json", settings)
        environment = {
            "command": shlex.join(sys.argv),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "machine": hardware(),
            "instruction_sets": instruction_sets(),
            **({} if precision is None else precision.as_dict()),
        }
        write_json(self.path / "environment.json", environment)
        self._forget_after(self.state["step"] if self.state else 0)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def start_trackers(self, accelerator) -> None:
        """Tell the trackers the project and every setting of the run."""
        settings = _flat(plain(self.config))
        values = {name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in settings.items()}
        accelerator.init_trackers(self.config.project, config=values)

    def _forget_after(self, step: int) -> None:
        """Leave out of the log what came after the checkpoint that the run continues from: it will come again."""
        log = self.path / "log.jsonl"
        lines = log.read_text().splitlines(keepends=True) if log.is_file() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        write_atomically(log, "".join(kept).encode())

    def log(self, accelerator, step: int, split: str, metrics: dict[str, float]) -> None:
        """Add a line to log.jsonl, and hand it to the trackers."""
        if self.main:
            values = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in metrics.items()}
            with open(self.path / "log.jsonl", "a") as file:
                file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        accelerator.log({f"{split}/{key}": value for key, value in metrics.items()}, step)

    def save_picture(
        self,
        accelerator,
        step: int,
        images: Tensor,
        columns: int,
        title: str,
        captions: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Write images (n, C, H, W) as one PNG of so many columns into samples/, and hand it to the trackers.

        They are scaled up to 96 pixels, with the title above, captions over the columns and labels beside the rows.
        """
        if not self.main:
            return
        cells = to_uint8(images.detach().float().nan_to_num(0))
        rows = [list(cells[start : start + columns]) for start in range(0, len(cells), columns)]
        captions = None if captions is None else [wrapped(one_line(text)) for text in captions]
        sheet = pictures.sheet(rows, columns=captions, labels=labels, title=f"step {step:,}: {title}")
        with replacing(self.path / "samples" / f"step_{step:08d}.png") as temporary:
            sheet.save(temporary, format="PNG")
        picture = np.asarray(sheet)
        for tracker in accelerator.trackers:
            if hasattr(tracker, "log_images"):
                tracker.log_images(
                    {"samples": picture[None]}, step=step, **({"dataformats": "NHWC"} if tracker.name == "tensorboard" else {})
                )

    def write_skipped(self, skipped: list) -> None:
        """List the images that could not be read in skipped.txt (if there are any)."""
        if self.main and skipped:
            lines = [
                f"{len(skipped)} images could not be read and were skipped\n",
                *(f"{one_line(item.name)}\t{item.reason}\n" for item in skipped),
            ]
            write_atomically(self.path / "skipped.txt", "".join(lines).encode())


def check_same(before: dict, now: dict, free: tuple[str, ...], path: Path) -> None:
    """Raise ValueError that shows the differing fields, if a run would continue with other settings."""
    old, new = ({**_flat(content["settings"]), **content["identity"]} for content in (before, now))
    differing = [name for name in sorted({*old, *new}) if name not in free and old.get(name) != new.get(name)]
    if before["kind"] != now["kind"]:
        raise ValueError(f"{path} is a run of {before['kind']}, not of {now['kind']}; give another --out.")
    if differing:
        changes = "; ".join(f"{name} was {old.get(name)!r} and is now {new.get(name)!r}" for name in differing)
        raise ValueError(
            f"{path} cannot be resumed with other settings: {changes}. "
            f"Give the old ones (--config {path / 'config.json'}), or another --out. Only {', '.join(free)} may change."
        )


def _flat(values: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat


def names_of_class(class_names: Sequence[str] | None, label: int) -> str:
    """What a class is called in a picture."""
    return class_names[label] if class_names is not None and label < len(class_names) else f"class {label}"


def wrapped(text: str, width: int = 14) -> str:
    """A caption in lines of about so many characters, broken at separators."""
    parts = re.findall(r"[^\s/_-]*[\s/_-]?", text)
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines[:3])


def hardware() -> str:
    """The device in words: GPU names, or the processor and its number of threads."""
    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        name = next((line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads"
