"""torchvision's Inception v3 as a metric network.   B images"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints import read_pickle, read_safetensors
from ..checkpoints.files import check_state

INCEPTION = "torchvision.inception_v3"
FILE = "inception_v3_google-0cc3c7bd.pth"


class TorchvisionInception(nn.Module):
    """2048 pooled features, and logits without their bias, as ADM's evaluator reads them.

    It was trained by torchvision's own recipe: its distances are not those of the graph of 2015 that published FIDs are measured with.

    Parameters
    ----------
    weights : path
        State dict of torchvision's `inception_v3`.
    """

    num_features, num_classes, in_chans = 2048, 1000, 3

    def __init__(self, weights: str | Path):
        super().__init__()
        from torchvision.models import inception_v3

        network = inception_v3(weights=None, init_weights=False, aux_logits=False)
        state = read_safetensors(weights) if Path(weights).suffix == ".safetensors" else read_pickle(weights)
        state = {key: value for key, value in state.items() if not key.startswith("AuxLogits.")}
        check_state(state, network.state_dict(), str(weights))
        network.load_state_dict(state)
        self.head = network.fc
        # in the order of the forward pass; what pools and drops stands at the end, and is done by forward_head
        names = [name for name, _ in network.named_children() if name not in ("AuxLogits", "avgpool", "dropout", "fc")]
        self.blocks = nn.ModuleDict({name: getattr(network, name) for name in names})
        self.feature_info = [{"module": "blocks.Mixed_6d", "num_chs": 768}, {"module": "blocks.Mixed_7c", "num_chs": 2048}]
        self.pretrained_cfg = {
            "input_size": (3, 299, 299),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
        }

    def forward_features(self, x: Tensor) -> Tensor:
        for block in self.blocks.values():
            x = block(x)
        return x  # (B, 2048, 8, 8)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = x.mean((2, 3))
        return pooled if pre_logits else pooled @ self.head.weight.T


def inception_weights(checkpoint: str | Path | None = None) -> Path:
    """The file of torchvision's weights: the one given, or where torch.hub keeps it; nothing is downloaded.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    path = Path(checkpoint) if checkpoint is not None else Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"there are no weights of torchvision's Inception at {path}; get {FILE} with "
            "torchvision.models.inception_v3(weights='DEFAULT') on a machine that reaches it, or name another network."
        )
    return path
