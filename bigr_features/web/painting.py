"""Paint and watch: a drawing of hidden tokens, step by step.   N = G * G tokens, S side in pixels, C channels"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor, nn

from ..checkpoints import fingerprint
from ..data.pixels import read_pixels, to_pil
from ..functional.printing import one_line
from ..plots.pictures import png_bytes
from ..sampling import editing, regions
from ..sampling.noise import check_seed
from ..sampling.settings import ORDERS, SamplingSettings
from ..sampling.watching import View, view_of
from .answers import Refused, number_of, png_of, text_of
from .jobs import Job
from .limits import Limits
from .received import Pictures
from .shelf import Shelf

COUNTS = (1, 4)


@dataclass(frozen=True)
class Drawing:
    """What is asked for.

    image : float (1, C, S, S) in [0, 1], or None for a new picture.
    tokens : token numbers to be drawn; all of them without an image.
    label, text : class, or prompt, or None.
    seeds : list of int, one a result.
    settings : fields of `SamplingSettings` that the model takes.
    picture : where the image came from, for the record.
    """

    image: Tensor | None
    tokens: list[int]
    label: int | None
    text: str | None
    seeds: list[int]
    settings: dict
    picture: dict | None = field(default=None)


def draw(model: nn.Module, drawing: Drawing, on_view: Callable[[int, View], None]) -> list[Any]:
    """Pictures (Pillow), one a seed; `on_view` is called with the number of the picture and what a step did to it."""
    batched = not (model.generator.config.causal or model.generator.config.categorical)  # of others, steps come image by image
    groups = [drawing.seeds] if batched else [[seed] for seed in drawing.seeds]
    pictures: list[Any] = []
    for seeds in groups:
        on_step = partial(_each_view, model, range(len(pictures), len(pictures) + len(seeds)), on_view)
        asked: dict[str, Any] = {**drawing.settings, "seeds": seeds, "on_step": on_step}
        if drawing.image is None:
            condition: dict[str, Any] = {"text": [drawing.text or ""] * len(seeds)} if model.generator.config.text is not None else {}
            if not condition:
                null = model.generator.null_class
                condition = {"labels": torch.tensor([null if drawing.label is None else drawing.label] * len(seeds))}
            pictures += to_pil(model.generate(**condition, **asked).cpu())
        else:
            size, grid = model.img_size, model.generator.config.grid_size
            mask = pixel_mask(drawing.tokens, grid, size)
            images = drawing.image.expand(len(seeds), *drawing.image.shape[1:])
            condition = {"text": drawing.text or ""} if model.generator.config.text is not None else {"labels": drawing.label}
            pictures += to_pil(editing.inpaint(model, images, mask, **condition, **asked).images.cpu())
    return pictures


def _each_view(model: nn.Module, numbers: range, on_view: Callable[[int, View], None], step) -> None:
    """Call `on_view` for each picture of a batch, which has these numbers among all, of which a step revealed something."""
    for i, number in enumerate(numbers):
        view = view_of(model, step, i)
        if view is not None:
            on_view(number, view)


def pixel_mask(tokens: Sequence[int], grid: int, size: int) -> Tensor:
    """Pixel mask (S, S) of token numbers, row by row of a G x G grid."""
    mask = torch.zeros(grid * grid, dtype=torch.bool)
    mask[list(tokens)] = True
    return mask.reshape(grid, grid).repeat_interleave(size // grid, 0).repeat_interleave(size // grid, 1)


class Painting:
    """Routes of the view, and the model, which is loaded when it is first needed.

    Parameters
    ----------
    name : str, or None
        What the model is called; None if there is none.
    load : callable, or None
        Gives the model and the names of its classes, or None.
    """

    def __init__(self, shelf: Shelf, pictures: Pictures, limits: Limits, name: str | None, load: Callable[[], tuple] | None):
        self.shelf, self.pictures, self.limits, self.name, self._load = shelf, pictures, limits, name, load
        self._lock = threading.Lock()
        self._loaded: tuple[nn.Module, list[str] | None, str] | None = None

    def routes(self) -> list[Route]:
        """What the model is."""
        return [Route("/api/model", self.model)]

    def loaded(self) -> tuple[nn.Module, list[str] | None, str]:
        """The model, the names of its classes, and the digest of its weights."""
        if self._load is None:
            raise Refused(404, "the server was started without a model that draws; start it with --model NAME.")
        with self._lock:
            if self._loaded is None:
                model, names = self._load()
                self._loaded = model, names, fingerprint(model)
            return self._loaded

    def model(self, request: Request) -> Response:
        """What the model takes."""
        model, names, _ = self.loaded()
        config = model.generator.config
        default = SamplingSettings()
        captions = config.text is not None
        classes = [] if captions or config.unconditional else list(names or map(str, range(model.generator.null_class)))
        return JSONResponse(
            {
                "name": self.name,
                "size": model.img_size,
                "grid": config.grid_size,
                "causal": config.causal,
                "orders": list(ORDERS) if not (config.causal or config.categorical) else [],
                "classes": [one_line(name) for name in classes],
                "text": captions,
                "steps": None if config.causal else default.num_reveal_steps,
                "guidance": default.guidance_scale,
            }
        )

    def work(self, asked: dict) -> Callable[[Job], dict]:
        """What a job of kind "draw" does; what is asked is checked first."""
        model, _, digest = self.loaded()
        drawing = self.drawing(model, asked)
        command = "generate" if drawing.image is None else "inpaint"
        record: dict[str, Any] = {"command": command, "model": self.name, "version": version("bigr-features"), "weights_sha256": digest}
        record |= {**drawing.settings, "labels": drawing.label, "text": drawing.text, "picture": drawing.picture}
        if drawing.image is not None:
            record["mask_tokens"] = drawing.tokens

        def work(job: Job) -> dict:
            if drawing.image is not None:
                job.keep("given", png_of(to_pil(drawing.image)[0]))
            total = len(drawing.tokens) if model.generator.config.causal else drawing.settings["num_reveal_steps"]
            job.say("start", images=len(drawing.seeds), steps=total, grid=model.generator.config.grid_size, tokens=drawing.tokens)
            seen = [0] * len(drawing.seeds)

            def on_view(image: int, view: View) -> None:
                job.check()
                name = f"{image}-{seen[image]}"
                job.keep(name, png_of(to_pil(view.picture[None])[0]))
                job.say(
                    "step",
                    image=image,
                    number=seen[image],
                    step=view.step,
                    picture=name,
                    revealed=view.revealed.tolist(),
                    hidden=view.hidden.tolist(),
                    confidence=view.confidence.tolist(),
                    codes=_as_text(view.codes),
                )
                seen[image] += 1

            results = draw(model, drawing, on_view)
            for i, (image, seed) in enumerate(zip(results, drawing.seeds, strict=True)):
                job.keep(f"result-{i}", png_bytes(image, {**record, "seed": seed}))
            return {"seeds": drawing.seeds, "results": [f"result-{i}" for i in range(len(results))]}

        return work

    def drawing(self, model: nn.Module, asked: dict) -> Drawing:
        """What is asked for, checked; Refused or ValueError saying what does not fit."""
        config = model.generator.config
        image, source = self._image(model, asked)
        tokens = list(range(config.num_tokens)) if image is None else self._tokens(asked, config.num_tokens, model)
        text, label = text_of(asked, "text", self.limits.characters), asked.get("label")
        if label is not None:
            if config.text is not None or config.unconditional:
                raise Refused(400, f"{self.name} does not take classes; leave the class out.")
            label = number_of(asked, "label", 0, model.generator.null_class - 1, 0)
        if text and config.text is None:
            raise Refused(400, f"{self.name} takes no text; choose a class.")
        count = number_of(asked, "count", 1, max(COUNTS), 1)
        seed = number_of(asked, "seed", 0, 2**31 - 1, 0)
        settings = self._settings(config, asked, len(tokens))
        seeds = [check_seed(seed + i) for i in range(count)]
        return Drawing(image, tokens, label, text if config.text is not None else None, seeds, settings, source)

    def _settings(self, config, asked: dict, hidden: int) -> dict:
        guidance = asked.get("guidance", SamplingSettings.guidance_scale)
        settings: dict[str, Any] = {}
        if isinstance(guidance, bool) or not isinstance(guidance, int | float):
            raise Refused(400, f"guidance={str(guidance)[:40]!r}; expected a number of 1 or more.")
        settings["guidance_scale"] = float(guidance)
        if not config.causal:
            settings["num_reveal_steps"] = number_of(asked, "steps", 1, hidden, min(SamplingSettings.num_reveal_steps, hidden))
        if not (config.causal or config.categorical):
            settings["order"] = text_of(asked, "order", 40, "entropy")
        SamplingSettings(**settings)
        return settings

    def _image(self, model: nn.Module, asked: dict) -> tuple[Tensor | None, dict | None]:
        """The picture to be changed, as the model sees it, and where it came from."""
        if asked.get("sent") is not None:
            source = {"sent": text_of(asked, "sent", 100)}
            image = self.pictures[source["sent"]].image
        elif asked.get("id") is not None:
            source = {"gallery": text_of(asked, "gallery", 1000), "id": text_of(asked, "id", self.limits.characters)}
            image = self.shelf[source["gallery"]].image(source["id"])
        else:
            return None, None
        if model.generator.config.causal:
            raise Refused(400, f"{self.name} draws each token from those before it only; it can draw new pictures, not change one.")
        pixels = read_pixels(image, model.img_size, model.in_chans)
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255, source

    def _tokens(self, asked: dict, count: int, model: nn.Module) -> list[int]:
        """Token numbers that are painted, rising."""
        given = asked.get("mask")
        whole = isinstance(given, list) and all(type(token) is int and 0 <= token < count for token in given)
        if not isinstance(given, list) or not whole or len(set(given)) < len(given):
            raise Refused(400, f"mask: expected a list of different numbers of 0..{count - 1}, one a token to draw.")
        if not given:
            raise Refused(400, "nothing is painted, so there is nothing to draw; paint one token at least.")
        tokens = sorted(given)
        regions.token_masks(pixel_mask(tokens, model.generator.config.grid_size, model.img_size)[None], model.generator.config.grid_size)
        return tokens


def _as_text(codes: Tensor) -> list[str]:
    """Each token's code as a short text, so that a page can see which have changed."""
    if codes.dim() == 1:
        return [f"{int(code):x}" for code in codes]
    return [row.tobytes().hex() for row in np.packbits(codes.numpy().astype(bool), axis=1)]
