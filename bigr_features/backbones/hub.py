"""A folder that can be uploaded to the Hugging Face Hub as it is: timm's files, and a model card."""

from __future__ import annotations

import json
from pathlib import Path

from timm.models import save_for_hf

from ..storage.atomic import write_atomically
from .backbone import BiGRBackbone

CLASSES_LISTED = 20


def save_hub_folder(model: BiGRBackbone, folder: str | Path, facts: dict, class_names: list[str] | None = None) -> Path:
    """Write config.json, model.safetensors and README.md.

    After an upload (`huggingface_hub.upload_folder`), `timm.create_model("hf-hub:you/name", pretrained=True)` loads it wherever
    bigr_features is imported; before, "local-dir:" and the folder does.

    Parameters
    ----------
    model : BiGRBackbone
        Made by timm.create_model, which notes the arguments that are written.
    facts : dict
        How it was trained, for the card: name to value.
    class_names : list of str, optional
        By number; written to config.json and the card.

    Raises
    ------
    FileExistsError
        If the folder has a config.json already.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise FileExistsError(f"{folder} holds a model already; give another folder.")
    model_config = {} if class_names is None else {"class_names": list(class_names)}
    save_for_hf(model, str(folder), model_config=model_config, safe_serialization=True)
    write_atomically(folder / "README.md", model_card(model, folder.resolve().name, facts, class_names).encode())
    return folder


def model_card(model: BiGRBackbone, name: str, facts: dict, class_names: list[str] | None = None) -> str:
    """The text of a model card, with the metadata that the Hub reads at its top."""
    generator, tokenizer = model.generator.config, model.tokenizer.config
    arch = model.pretrained_cfg.get("architecture", "bigr")
    trunk, decoding = (sum(p.numel() for p in part.parameters()) / 1e6 for part in (model.generator, model.tokenizer))
    code = f"{generator.code_dim} bits" if generator.tokens == "bits" else f"one of {generator.vocab_size:,} indices"
    order = "causal: each token from those before it" if generator.causal else "masked: hidden tokens from visible ones"
    side = model.img_size[0] if isinstance(model.img_size, tuple | list) else model.img_size
    about = {
        "Architecture": f"`{arch}`, {generator.depth} blocks of width {generator.width}",
        "Parameters": f"{trunk:.1f} M generator, {decoding:.1f} M tokenizer",
        "Images": f"{side} x {side} pixels, {model.in_chans} channels",
        "Tokens": f"{generator.num_tokens} of {code}; {order}",
        "Classes": _classes(generator, class_names),
        "Features": f"{model.num_features}, after block {model.feature_layer}, averaged over the image tokens",
    }
    rows = "\n".join(f"| {key} | {value} |" for key, value in about.items())
    trained = "\n".join(f"| {key} | {_cell(value)} |" for key, value in facts.items())
    labels = "" if generator.unconditional else "torch.tensor([0, 1])"
    drawn = f"model.generate({labels or 'None, batch_size=2'})"
    return f"""---
library_name: timm
pipeline_tag: image-feature-extraction
tags:
- image-feature-extraction
- unconditional-image-generation
- timm
- bigr_features
---
# {name}

An image generator whose middle layers are features: a model of `bigr_features` (BiGR, arXiv:2410.14672, and the systems that it is compared
with), as a timm backbone.

| | |
|---|---|
{rows}

## Use

```python
import timm, torch, bigr_features                              # registers the architecture

model = timm.create_model("hf-hub:you/{name}", pretrained=True).eval()
features = model(torch.rand(2, {model.in_chans}, {side}, {side}))     # (2, {model.num_features})
images = {drawn}
```

`bigr extract`, `bigr index` and the other commands take it by `--model "hf-hub:you/{name}"`, or this folder by `--model "local-dir:PATH"`.

## Training

| | |
|---|---|
{trained}

## Limits

Features and images are those of the training data above; nothing was measured on other data. What the tokenizer, of {tokenizer.image_size}
pixels, cannot reproduce is not represented. Samples of a class carry the biases of its training images.
"""


def _classes(generator, class_names: list[str] | None) -> str:
    if generator.unconditional:
        return "none: trained without labels"
    if class_names is None:
        return str(generator.num_classes)
    listed = ", ".join(map(_cell, class_names[:CLASSES_LISTED]))
    return f"{generator.num_classes}: {listed}{', ...' if len(class_names) > CLASSES_LISTED else ''}"


def _cell(value) -> str:
    """A value in a table of Markdown, on one line."""
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
