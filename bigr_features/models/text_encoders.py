"""Frozen text encoders of `transformers`, from a name or a local folder: T5 and UMT5, CLIP, SigLIP.   B captions, T tokens, E channels"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..functional.words import excerpt
from ..sampling.captions import Captions
from .text_config import TRANSFORMERS, TextConfig

log = logging.getLogger(__name__)

# kind: (the `model_type` values that mean it, the class of `transformers` that holds the text part alone)
_CLASSES = {
    "t5": (("t5", "mt5"), "T5EncoderModel"),
    "umt5": (("umt5",), "UMT5EncoderModel"),
    "clip": (("clip", "clip_text_model"), "CLIPTextModel"),
    "siglip": (("siglip", "siglip_text_model"), "SiglipTextModel"),
}
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
DEFAULT_LENGTH = 120  # of encoders without a longest caption of their own (LlamaGen)


class FrozenEncoder:
    """A text encoder and its tokenizer; no part of a generator's weights.

    Parameters
    ----------
    model : nn.Module
        Gives `hidden_states`.
    tokenizer : callable of `transformers`
    config : TextConfig
        Kind, width, length, layer, name and fingerprint.
    """

    def __init__(self, model: nn.Module, tokenizer, config: TextConfig):
        self.model, self.tokenizer, self.config = model.eval().requires_grad_(False), tokenizer, config

    def to(self, device) -> FrozenEncoder:
        """Move the encoder."""
        self.model.to(device)
        return self

    def check(self, text: TextConfig) -> None:
        """Raise ValueError unless a model with this configuration was made for the encoder; what differs is named."""
        names = ("encoder", "width", "length", "layer", "fingerprint")
        wanted = {name: getattr(text, name) for name in names}
        found = {name: getattr(self.config, name) for name in names}
        differing = [name for name in names if wanted[name] is not None and wanted[name] != found[name]]
        if differing:
            given = "; ".join(f"{name} is {found[name]!r} and was {wanted[name]!r}" for name in differing)
            raise ValueError(f"the text encoder {self.config.name} is not the one that the model was trained with ({text.name}): {given}.")

    @torch.no_grad()
    def encode(self, captions: Sequence[str], at_a_time: int = 64) -> Captions:
        """Features of captions, padded to the longest of them; of too many tokens, cut, which is said. Blank ones are null captions."""
        parts = [self._encode(list(captions[i : i + at_a_time]), i) for i in range(0, len(captions), at_a_time)]
        length = max(mask.shape[1] for _, mask in parts)
        tokens, mask = (
            torch.cat([nn.functional.pad(part, (*(0, 0) * (part.dim() - 2), 0, length - part.shape[1])) for part in each])
            for each in zip(*parts, strict=True)
        )
        blank = torch.tensor([not caption.strip() for caption in captions], device=mask.device)
        return Captions.of_tokens(tokens, mask & ~blank[:, None])

    def _encode(self, captions: list[str], first: int) -> tuple[Tensor, Tensor]:
        """Features (b, t, E) and their mask (b, t)."""
        most = self.config.length
        counts = [len(ids) for ids in self.tokenizer(captions, truncation=False, verbose=False)["input_ids"]]
        for number, (count, caption) in enumerate(zip(counts, captions, strict=True), start=first):
            if count > most:
                log.warning("caption %d has %d tokens, and the model takes %d: cut (%s)", number, count, most, excerpt(caption))
        padding = "max_length" if self.config.encoder == "siglip" else "longest"  # SigLIP was trained on full rows
        batch = self.tokenizer(captions, truncation=True, max_length=most, padding=padding, return_tensors="pt")
        device = next(self.model.parameters()).device
        ids = batch["input_ids"].to(device)
        positions = torch.arange(ids.shape[1], device=device)
        kept = torch.tensor([min(count, most) for count in counts], device=device)
        mask = positions < kept[:, None]
        given = {} if self.config.encoder == "siglip" else {"attention_mask": mask.long()}
        states = self.model(input_ids=ids, output_hidden_states=True, **given)
        features = states.last_hidden_state if self.config.layer == -1 else states.hidden_states[self.config.layer]
        return features.float(), mask


def load_text_encoder(
    source: str | Path, *, length: int | None = None, layer: int | None = None, local_files_only: bool | None = None
) -> FrozenEncoder:
    """A text encoder of `transformers`.

    Parameters
    ----------
    source : str or Path
        A local folder that `save_pretrained` wrote (model and tokenizer), or a name on the Hugging Face Hub.
    length : int, optional
        T, most tokens of a caption; by default 120 of T5 and UMT5, and the longest that the model takes of the others.
    layer : int, optional
        -1 the last, -2 the one before; by default what public code takes: the last of T5, UMT5 and SigLIP, the one before of CLIP.
    local_files_only : bool, optional
        Never ask the Hub; by default so for folders.

    Raises
    ------
    ImportError
        Without `transformers`.
    FileNotFoundError, ValueError
        For a folder that is not there or lacks weights or a tokenizer, another kind of model, or a layer that it does not have.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError("text encoders need `transformers`: pip install 'bigr-features[text]'") from error
    folder = Path(source)
    local = folder.is_dir()
    if not local and (folder.is_absolute() or str(source).startswith((".", "~")) or str(source).count("/") > 1):
        raise FileNotFoundError(f"there is no folder {source}; give one with a text encoder and its tokenizer, or a name on the Hub.")
    if local:
        _check_folder(folder)
    options = {"local_files_only": local if local_files_only is None else local_files_only}
    try:
        found = transformers.AutoConfig.from_pretrained(str(source), **options)
        kind = next((kind for kind, (types, _) in _CLASSES.items() if found.model_type in types), None)
        if kind is None:
            raise ValueError(f"{source} is a {found.model_type} model; text encoders are {', '.join(TRANSFORMERS)}.")
        inner = getattr(found, "text_config", None) or found
        model = getattr(transformers, _CLASSES[kind][1]).from_pretrained(str(source), dtype=torch.float32, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(source), **options)
    except OSError as error:
        where = "in the folder" if local else "here, nor can it be fetched from the Hub"
        raise FileNotFoundError(f"no text encoder {source} was found {where} ({str(error).splitlines()[0][:200]}).") from error
    width = getattr(inner, "d_model", None) or inner.hidden_size
    depth = getattr(inner, "num_layers", None) or inner.num_hidden_layers
    layer = TRANSFORMERS[kind] if layer is None else layer
    if not -depth <= layer <= -1:
        raise ValueError(f"layer={layer}, but {source} has {depth} layers; give -{depth}..-1.")
    longest = getattr(inner, "max_position_embeddings", None)
    length = length or longest or DEFAULT_LENGTH
    if longest is not None and length > longest:
        raise ValueError(f"length={length}, but {source} takes captions of at most {longest} tokens.")
    text = TextConfig(kind, width, length, name=str(source), layer=layer, fingerprint=_fingerprint(inner, model))
    return FrozenEncoder(model, tokenizer, text)


def _check_folder(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    listed = ", ".join(names[:8]) or "nothing"
    if "config.json" not in names:
        raise FileNotFoundError(f"{folder} has no config.json and is no folder of a text encoder; it holds {listed}.")
    if not any(path for pattern in _WEIGHTS for path in folder.glob(pattern)):
        raise FileNotFoundError(f"{folder} holds no weights (model.safetensors or pytorch_model.bin) of a text encoder; it holds {listed}.")
    if not any(name.startswith(("tokenizer", "spiece", "spm", "vocab")) for name in names):
        raise FileNotFoundError(f"{folder} holds no tokenizer beside the weights; it holds {listed}. Save it there: save_pretrained.")


def _fingerprint(config, model: nn.Module) -> str:
    """SHA-256 of the configuration's numbers, without names of files and versions, and of the first weights of every layer."""
    values = {key: value for key, value in config.to_dict().items() if not key.startswith(("_", "transformers_version", "dtype", "torch_"))}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for name, weights in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(weights.detach().flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()
