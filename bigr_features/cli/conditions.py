"""What the images of a command are drawn of: classes, or prompts.   n images"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Conditions:
    """One class or one prompt for each of n images.

    labels : list of int, or None
    text : list of str, or None
    negative : str, or None; what guidance leads away from.
    """

    labels: list[int] | None = None
    text: list[str] | None = None
    negative: str | None = None

    def __len__(self) -> int:
        return len(self.labels if self.labels is not None else self.text or ())

    def of(self, images: slice | Sequence[int]) -> dict:
        """Keywords of `model.generate` for some images."""
        if self.labels is not None:
            labels = torch.tensor(self.labels)
            return {"labels": labels[images]}
        given = self.text or []
        text = given[images] if isinstance(images, slice) else [given[i] for i in images]
        return {"text": text} | ({} if self.negative is None else {"negative_text": self.negative})

    @property
    def facts(self) -> dict:
        """What stands in a picture to make it again."""
        if self.labels is not None:
            return {"labels": self.labels}
        return {"text": self.text} | ({} if self.negative is None else {"negative_text": self.negative})

    def repeated(self, times: int) -> Conditions:
        """All of them, so many times over."""
        return Conditions(
            None if self.labels is None else self.labels * times, None if self.text is None else self.text * times, self.negative
        )


def headings(text: Sequence[str], width: int = 14, lines: int = 3) -> list[str]:
    """Prompts as headings of narrow columns, in a few lines."""
    found = []
    for prompt in text:
        rows: list[str] = [""]
        for word in prompt[:400].split():
            if rows[-1] and len(rows[-1]) + len(word) + 1 > width:
                rows.append("")
            rows[-1] = f"{rows[-1]} {word}".strip()[: width + 4]
        found.append("\n".join(rows[:lines]) + (" ..." if len(rows) > lines or len(prompt) > 400 else "") or "(no text)")
    return found


def check_prompted(config, model, name: str) -> None:
    """Raise ValueError if classes are asked of a model of captions, or prompts of a model of classes."""
    captions = model.generator.config.text is not None
    if config.text and not captions:
        raise ValueError(
            f"--text was given, but {name} is conditioned on classes; give --labels, or a model of captions: "
            "bigr_nano_t2i.fashion_mnist, or --weights of a training with --text."
        )
    default = next(field.default for field in dataclasses.fields(config) if field.name == "labels")
    if captions and config.labels != default:
        raise ValueError(f"--labels were given, but {name} is conditioned on captions; give --text 'a bag', or other prompts.")
