"""Generated images in a folder, each with its own seed, so that a drawing that was stopped goes on and gives the same set.

The folder holds `manifest.json` and a PNG an image, `003/000013.png` for image 13 of class 3 (a data set with labels for every other
program), or `000013.png` without classes. Image i has seed + i. Batches are the same in every run, whatever is missing of them: on an
accelerator, where an image may depend on its batch by rounding, equal batch sizes give equal sets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..data.pixels import to_uint8
from ..plots.pictures import save_png
from ..storage.atomic import create_atomically
from ..storage.json_files import json_bytes
from ..storage.manifests import MANIFEST, read_manifest

KIND, FORMAT = "bigr_features samples", 1
COMMAND = "bigr evaluate-generation"


class SampleFolder:
    """A folder of samples, new or begun.

    Parameters
    ----------
    folder : path
    facts : dict
        What the images depend on: model, weights, settings, seed, classes.

    Raises
    ------
    ValueError
        If the folder holds samples of other facts, naming them, or something else.
    """

    def __init__(self, folder: str | Path, facts: dict):
        self.folder = Path(folder)
        self.facts = json.loads(json_bytes({"kind": KIND, "format": FORMAT, **facts}))  # as JSON gives it back: tuples are lists
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / MANIFEST).exists() and any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} is not empty and holds no samples of ours; give a new folder.")
        create_atomically(self.folder / MANIFEST, json_bytes(self.facts))
        found = read_manifest(self.folder, "folder of samples", kind=KIND, format=FORMAT, command=COMMAND, remedy="delete the folder")
        differing = [name for name in {**found, **self.facts} if found.get(name) != self.facts.get(name)]
        if differing:
            name = differing[0]
            raise ValueError(
                f"{self.folder} holds samples of other {', '.join(differing)} ({found.get(name)!r} there, {self.facts.get(name)!r} now); "
                "give another folder, or delete this one."
            )

    def path(self, index: int, label: int | None) -> Path:
        """File of an image."""
        name = f"{index:06d}.png"
        return self.folder / name if label is None else self.folder / f"{label:03d}" / name

    def missing(self, labels: np.ndarray | None, count: int) -> list[int]:
        """Numbers of the images that are still to be drawn."""
        return [i for i in range(count) if not self.path(i, _label(labels, i)).is_file()]

    def draw(
        self,
        generate: Callable[[np.ndarray | None, list[int]], object],
        labels: np.ndarray | None,
        count: int,
        *,
        seed: int = 0,
        batch_size: int = 50,
        on_batch: Callable[[int], None] = lambda drawn: None,
    ) -> int:
        """Draw what is missing of images 0..count-1; gives how many that were.

        Parameters
        ----------
        generate : callable
            From labels (b,) or None, and seeds (b,), to images (b, C, H, W) in [0, 1]. An image depends on its own label and seed only.
        labels : int array (count,), or None
        on_batch : callable
            Told how many images a batch added.
        """
        missing = self.missing(labels, count)
        for start in sorted({i - i % batch_size for i in missing}):
            part = list(range(start, min(start + batch_size, count)))
            own = None if labels is None else labels[part]
            pixels = to_uint8(generate(own, [seed + i for i in part]))
            drawn = [i for i in part if not self.path(i, _label(labels, i)).is_file()]
            for i in drawn:
                label = _label(labels, i)
                save_png(self.path(i, label), _picture(pixels[i - start]), {"seed": seed + i, "label": label})
            on_batch(len(drawn))
        return len(missing)

    def read(self, labels: np.ndarray | None, indices: range) -> np.ndarray:
        """uint8 RGB pictures (b, H, W, 3) of some images.

        Raises
        ------
        ValueError
            For a file that cannot be read.
        """
        from PIL import Image

        pictures = []
        for i in indices:
            path = self.path(i, _label(labels, i))
            try:
                with Image.open(path) as image:
                    pictures.append(np.asarray(image.convert("RGB")))
            except (OSError, SyntaxError) as error:
                raise ValueError(f"{path} cannot be read ({error}); delete it and run the command again, which draws it anew.") from error
        return np.stack(pictures)


def classes_in_turn(count: int, num_classes: int) -> np.ndarray:
    """Labels 0, 1, ..., C-1, 0, 1, ... of `count` images: every class as often as any other, but for one."""
    return np.arange(count) % num_classes


def _label(labels: np.ndarray | None, index: int) -> int | None:
    return None if labels is None else int(labels[index])


def _picture(pixels: np.ndarray):
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
