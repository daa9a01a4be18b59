"""`bigr serve`: search, clusters and painting in a browser."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

log = logging.getLogger(__name__)

DEFAULT = "bigr_nano.fashion_mnist"


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Show galleries in a browser: search, clusters, and pictures that are drawn anew while one watches.

    Parameters
    ----------
    galleries : tuple of Path
        Folders of galleries (`bigr index`), and of feature stores (`bigr extract`), of which clusters are shown.
    model : str
        A bigr model of timm that draws; "none" for none.
    weights : Path, optional
        Weights of that model, if not its own: a file or the folder of a training or export.
    model_args : tuple of str
        Arguments of timm.create_model, such as depth=4 of a generator that was trained with it.
    host : str
        Address to serve from. Any other than 127.0.0.1 lets other machines in.
    port : int
        Port, or the next one that is free; 0 for any.
    open : bool
        Open the page in the browser.
    device : str
        auto (an accelerator if there is one) or a torch device such as cpu.
    threads : int
        CPU threads; 0 for torch's default.
    """

    galleries: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    model: str = DEFAULT
    weights: Path | None = None
    model_args: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    open: bool = False
    device: str = "auto"
    threads: int = 0


def serve(config: ServeConfig) -> None:
    """Run `bigr serve`."""
    if not 0 <= config.port <= 65535:
        raise ValueError(f"--port {config.port} was given; a port is 0..65535, and 0 is any free one.")
    if not config.galleries and config.model == "none":
        raise ValueError("there is nothing to show; name a gallery (`bigr index` makes one), a feature store, or a --model that draws.")
    try:
        from ..web import server
        from ..web.app import Page
        from ..web.guard import LOCAL
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise ImportError('the page needs a web server: pip install "bigr-features[web]"') from error
    import torch

    from .drawing import check_generator, load_generator, names_of_classes
    from .gallery_model import ModelOptions, embedder_for

    if config.threads:
        torch.set_num_threads(config.threads)
    draws = config.model != "none"
    if draws:
        check_generator(config.model, config.weights)

    def load() -> tuple:
        names = names_of_classes(config.model, config.weights)
        return load_generator(config.model, config.weights, config.device, config.model_args), names

    def embedder_of(gallery):
        return embedder_for(gallery, ModelOptions(device=config.device, threads=config.threads))

    token = server.new_token()
    page = Page(
        config.galleries,
        token,
        hosts=server.hosts_of(config.host),
        embedder_of=embedder_of,
        model=config.model if draws else None,
        load=load if draws else None,
    )
    listener, port = server.bound(config.host, config.port)
    if config.port not in (0, port):
        log.warning("port %d is taken; this is %d", config.port, port)
    if config.host not in LOCAL:
        log.warning(
            "--host %s: every machine that reaches this one and has the whole address sees these pictures, "
            "and what is sent can be read on the way (no TLS)",
            config.host,
        )
    log.info("Ctrl-C ends the server. Open in a browser:")
    server.run(page, listener, server.address_of(config.host, port, token), opened=config.open, say=lambda line: print(line, flush=True))
