"""Features of captions on disk: each distinct caption encoded once by a frozen encoder, fp16 in safetensors.

A cache is a folder of `features_00000.safetensors`, ... and `manifest.json`. A file holds the tokens of its captions one after the other,
so that padding takes no room: `tokens` (tokens of all, E) fp16, `lengths` (captions,). An interrupted run goes on with the next file.
n captions, T tokens of a caption, E channels
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from ..functional.checks import differences
from ..functional.progress import progress
from ..models.text_encoders import FrozenEncoder
from ..sampling.captions import Captions
from ..storage.atomic import write_atomically
from ..storage.json_files import write_json

log = logging.getLogger(__name__)

FORMAT = 1
PER_FILE = 4096
AT_A_TIME = 64


class CaptionCache:
    """The features of captions, read when asked for.

    Parameters
    ----------
    folder : Path
    captions : sequence of str
        Distinct captions; number i is row i.
    encoder : FrozenEncoder
        Encodes what the folder lacks.

    Raises
    ------
    ValueError
        If the folder holds features of other captions or of another encoder, which are named.
    """

    def __init__(self, folder: str | Path, captions: Sequence[str], encoder: FrozenEncoder):
        self.folder, self.width, self.length = Path(folder), encoder.config.width, encoder.config.length
        manifest = {
            "kind": "bigr_features caption cache",
            "format": FORMAT,
            "captions": len(captions),
            "captions_sha256": captions_sha256(captions),
            "per_file": PER_FILE,
            **{name: getattr(encoder.config, name) for name in ("encoder", "width", "length", "layer", "fingerprint")},
        }
        path = self.folder / "manifest.json"
        if path.is_file():
            _check_same(path, manifest)
        else:
            write_json(path, manifest)
        self._encode(captions, encoder)
        self._files = [safe_open(file, "pt") for file in map(self._file, range(0, len(captions), PER_FILE))]
        lengths = [file.get_tensor("lengths").numpy() for file in self._files]
        self._ends = [np.cumsum(own) for own in lengths]

    def _file(self, first: int) -> Path:
        return self.folder / f"features_{first // PER_FILE:05d}.safetensors"

    def _encode(self, captions: Sequence[str], encoder: FrozenEncoder) -> None:
        left = [first for first in range(0, len(captions), PER_FILE) if not self._file(first).is_file()]
        for first in progress(left, desc="encoding captions", unit="file", shown=bool(left)):
            tokens, lengths = [], []
            own = captions[first : first + PER_FILE]
            order = sorted(range(len(own)), key=lambda i: len(own[i]))  # captions of like length side by side need little padding
            found: dict[int, Tensor] = {}
            for start in range(0, len(own), AT_A_TIME):
                rows = order[start : start + AT_A_TIME]
                encoded = encoder.encode([own[i] for i in rows])
                for i, features, mask in zip(rows, encoded.tokens[:, 0], encoded.mask[:, 0], strict=True):
                    found[i] = features[mask].to("cpu", torch.float16)
            for i in range(len(own)):
                tokens.append(found[i])
                lengths.append(len(found[i]))
            content = {"tokens": torch.cat(tokens).contiguous(), "lengths": torch.tensor(lengths)}
            if not content["tokens"].isfinite().all():
                raise ValueError(f"features of {encoder.config.name} do not fit into fp16: they overflow.")
            write_atomically(self._file(first), safetensors.torch.save(content))

    def read(self, rows: np.ndarray) -> Captions:
        """Captions of rows (B,), padded to T."""
        tokens = torch.zeros(len(rows), self.length, self.width, dtype=torch.float16)
        mask = torch.zeros(len(rows), self.length, dtype=torch.bool)
        for place, row in enumerate(rows):
            number, inner = divmod(int(row), PER_FILE)
            ends = self._ends[number]
            start, end = (int(ends[inner - 1]) if inner else 0), int(ends[inner])
            tokens[place, : end - start] = self._files[number].get_slice("tokens")[start:end]
            mask[place, : end - start] = True
        return Captions.of_tokens(tokens, mask)


def captions_sha256(captions: Sequence[str]) -> str:
    """Digest of captions in their order."""
    digest = hashlib.sha256()
    for caption in captions:
        digest.update(caption.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _check_same(path: Path, manifest: dict) -> None:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete the folder, and its captions are encoded again.") from error
    differing = differences(manifest, found)
    if differing:
        raise ValueError(
            f"the caption cache {path.parent} is of other captions or another encoder: {'; '.join(differing)}. Give another folder."
        )
