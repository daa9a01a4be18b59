"""The use of a codebook in training: which codes were chosen when, and new places for those that nobody chooses.   V codes, D channels"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from ..evaluate.reconstruction import code_counts, code_perplexity

log = logging.getLogger(__name__)

WARN_ABOVE = 0.1  # share of dead codes
TOKENS_PER_CODE = 10  # with so many tokens a code, an even use leaves one code in 22,000 unchosen


class CodebookWatch:
    """Counts choices of codes over the steps of a training, on the device and over all processes.

    A code is dead when none of the last `dead_after` batches chose it.

    Parameters
    ----------
    model : VQAutoencoder
    config : TrainTokenizerConfig
        Its dead_after, batch_size and model.
    accelerator : accelerate.Accelerator
    """

    def __init__(self, model, config, accelerator):
        self.model, self.config, self.accelerator = model, config, accelerator
        size = config.model.codebook_size
        self.last_used = torch.zeros(size, dtype=torch.int64, device=accelerator.device)  # step, 0 for never
        self.counts = torch.zeros_like(self.last_used)  # since the last report
        self.warned = False

    def count(self, step: int, indices: Tensor) -> None:
        """Note the indices (B, N) that this process chose in step `step`, 1-based."""
        self.counts += code_counts(indices, len(self.counts))
        self.last_used.index_fill_(0, indices.flatten(), step)

    def dead(self, step: int) -> Tensor:
        """Which codes (V,) are dead after `step`; none before `dead_after` batches."""
        return self._all_last_used() <= step - self.config.dead_after

    def report(self, step: int) -> dict[str, float]:
        """Share of codes used in the last `dead_after` batches, and perplexity of the choices since the last report.

        Warns when more than a tenth are dead although there were tokens enough to choose them all.
        """
        used = (self._all_last_used() > max(0, step - self.config.dead_after)).float().mean().item()
        perplexity = code_perplexity(self._all_counts()).item()
        self.counts.zero_()
        tokens = self.config.dead_after * self.config.batch_size * self.config.model.grid_size**2
        dead = 1 - used if step >= self.config.dead_after and tokens >= TOKENS_PER_CODE * len(self.counts) else 0.0
        if dead > WARN_ABOVE and not self.warned:
            size = len(self.counts)
            remedy = "Raise --model.entropy-weight, or give a smaller --model.codebook-size"
            remedy += "." if self.config.reseed_dead_codes else ", or set --reseed-dead-codes."
            log.warning(
                "step %d: %s of %s codes (%.0f%%) are dead, the last %d batches (%s tokens) did not choose them. %s",
                step, f"{round(dead * size):,}", f"{size:,}", 100 * dead, self.config.dead_after, f"{tokens:,}", remedy,
            )  # fmt: skip
        self.warned = dead > WARN_ABOVE
        return {"codebook_usage": used, "perplexity": perplexity}

    @torch.no_grad()
    def reseed(self, step: int, images: Tensor, optimizer: torch.optim.Optimizer, ema, generator: torch.Generator) -> int:
        """Move dead codes onto latents of these images (B, C, H, W) in [0, 1], chosen at random; returns how many moved.

        Their averages move along, and the optimiser forgets them. At most one code for each token moves.
        """
        dead = self.dead(step).nonzero().flatten()
        latents = self.model.latents(self.model.normalize(images)).flatten(0, 1)  # (B N, D)
        dead = dead[: len(latents)]
        chosen = torch.randperm(len(latents), generator=generator, device=generator.device)[: len(dead)].to(latents.device)
        codes = latents[chosen].float().contiguous()
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast

            codes = broadcast(codes, from_process=0)
        embedding = self.model.quantizer.embedding
        if self.config.model.l2_norm:
            codes = torch.nn.functional.normalize(codes, dim=-1)
        embedding[dead] = codes.to(embedding.dtype)
        ema.set_rows(embedding, dead)
        for value in optimizer.state[embedding].values():
            if isinstance(value, Tensor) and value.shape == embedding.shape:
                value[dead] = 0
        self.last_used[dead] = step
        if len(dead):
            log.info("step %d: %d dead codes moved onto latents of the batch", step, len(dead))
        return len(dead)

    def state_dict(self) -> dict:
        """State over all processes; each of them has to call this."""
        return {"last_used": self._all_last_used().cpu(), "counts": self._all_counts().cpu(), "warned": self.warned}

    def load_state_dict(self, state: dict) -> None:
        self.last_used.copy_(state["last_used"])
        self.counts.copy_(state["counts"] if self.accelerator.is_main_process else torch.zeros_like(self.counts))
        self.warned = state["warned"]

    def _all_last_used(self) -> Tensor:
        if self.accelerator.num_processes == 1:
            return self.last_used
        return self.accelerator.gather(self.last_used[None]).amax(0)

    def _all_counts(self) -> Tensor:
        if self.accelerator.num_processes == 1:
            return self.counts
        return self.accelerator.reduce(self.counts, reduction="sum")
