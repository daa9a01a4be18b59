"""Networks that bigr_nano is compared with, registered with timm so that benchmarks take them by name."""

from __future__ import annotations

from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

VIT_NANO = "vit_nano_patch4_32"


@register_model
def vit_nano_patch4_32(pretrained: bool = False, **kwargs) -> VisionTransformer:
    """ViT with bigr_nano's trunk size: 32 x 32 images, 8 x 8 patches, 8 blocks, width 144, 4 heads, average pooling."""
    for name in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):  # timm passes them to every entry
        kwargs.pop(name, None)
    args = dict(img_size=32, patch_size=4, embed_dim=144, depth=8, num_heads=4, class_token=False, global_pool="avg")
    model = VisionTransformer(**dict(args, **kwargs))
    model.pretrained_cfg = model.default_cfg = {
        "architecture": VIT_NANO, "input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0,
        "interpolation": "bicubic", "num_classes": 0, "first_conv": "patch_embed.proj", "classifier": "head",
    }  # fmt: skip
    return model
