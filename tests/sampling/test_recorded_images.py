"""The promise that seeds keep their images: digests recorded before draws were made ahead and in one copy."""

from __future__ import annotations

import hashlib

import pytest
import torch

from bigr_features.sampling import editing

from ..helpers import TINY, backbone, pixels, random_codes, tiny_generator

LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1])  # 4 is the null class
SEEDS = [11, 12, 13, 14, 15, 16, 11]
MASKS = torch.stack([torch.arange(9) < hidden for hidden in (9, 5, 1, 9, 3, 8, 9)])
CASES = {
    "entropy": {},
    "gumbel": {"gumbel_temperature": 0.4, "gumbel_schedule": "down"},
    "random": {"order": "random"},
    "raster": {"order": "raster", "guidance_scale": 1.0},
    "halton": {"order": "halton", "bits": "threshold"},
    "threshold": {"bits": "threshold", "gumbel_temperature": 0.3},
    "interval": {"guidance_schedule": "interval", "guidance_interval": (0.2, 0.7), "num_denoise_steps": 1},
    "exact": {"posterior": "exact", "num_reveal_steps": 3, "temperature": 0.7},
}


def digest(codes: torch.Tensor) -> str:
    return hashlib.sha256(codes.to(torch.uint8).numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_seeded_codes_are_those_recorded(name, dtype):
    model = tiny_generator().to(dtype)
    known = random_codes(TINY, batch=7)
    settings = {"num_reveal_steps": 5, **CASES[name]}
    for source, given in (("seeds", {"seeds": SEEDS}), ("generator", {"generator": torch.Generator().manual_seed(5)})):
        whole = model.generate(LABELS, **settings, **given)
        part = model.generate(LABELS, codes=known, mask=MASKS, **settings, **given)
        assert (digest(whole), digest(part)) == RECORDED[name, str(dtype).removeprefix("torch."), source]


@pytest.mark.parametrize("function", ["inpaint", "enrich"])
def test_seeded_edits_are_those_recorded(function):
    model = backbone("tiny")
    images = pixels(model, batch=3)
    settings = {"seeds": SEEDS[:3], "num_denoise_steps": 3, "num_reveal_steps": 3}
    if function == "inpaint":
        mask = torch.zeros(64, 64, dtype=torch.bool)
        mask[16:40, 16:50] = True
        made = editing.inpaint(model, images, mask, 2, **settings)
    else:
        made = editing.enrich(model, images[:, :, ::2, ::2], 2, num_passes=3, **settings)
    assert digest(made.codes) == RECORDED[function]


RECORDED = {
    ("entropy", "float32", "seeds"): ("9e80ce5505e15eaf", "2b218076edb6fc05"),
    ("entropy", "float32", "generator"): ("de993450f871b05a", "5bd61973d714a1b2"),
    ("entropy", "float64", "seeds"): ("1cfaa95510fe8612", "4b168fa6a13a56c9"),
    ("entropy", "float64", "generator"): ("b2adb0cac8610835", "41c34895746b0cb5"),
    ("gumbel", "float32", "seeds"): ("43bc2f6467982462", "4ac9e1f9eddb07d1"),
    ("gumbel", "float32", "generator"): ("c41837b8efc4287d", "6f7fa0e4954e3057"),
    ("gumbel", "float64", "seeds"): ("e7970ddbe991b63a", "fa770ebae36e5ae3"),
    ("gumbel", "float64", "generator"): ("07afbf9623ff2b3b", "a2029c4bd2db07a3"),
    ("random", "float32", "seeds"): ("9506902dec992fe1", "8f3aa07d634e3894"),
    ("random", "float32", "generator"): ("980b70d29ae154d0", "c9cafc2c76068218"),
    ("random", "float64", "seeds"): ("49a22e8b37532ba2", "340a6d44df3526e7"),
    ("random", "float64", "generator"): ("2af38dd718348131", "e9e1dd40d96c9712"),
    ("raster", "float32", "seeds"): ("92d8d88b81c53801", "b215d0d61dd8d2c1"),
    ("raster", "float32", "generator"): ("8717f47790866440", "cbaa4f562cb16964"),
    ("raster", "float64", "seeds"): ("629d77c151ac5738", "7fd363eff6960101"),
    ("raster", "float64", "generator"): ("5ccab7955a9f28d8", "9d316176fb94597c"),
    ("halton", "float32", "seeds"): ("c9b58923894d045c", "fb04a9e931a82e1d"),
    ("halton", "float32", "generator"): ("997e88d927af93b2", "a2da72e4ad2497ba"),
    ("halton", "float64", "seeds"): ("87e950543586de37", "1c3bdab67716ac69"),
    ("halton", "float64", "generator"): ("23ef153da947ec12", "b0335ea24466ad9b"),
    ("interval", "float32", "seeds"): ("d259c235e01e2a68", "339d32dd0894db37"),
    ("interval", "float32", "generator"): ("99a307acf2ff1362", "716b4a433c26de0e"),
    ("interval", "float64", "seeds"): ("17b5ab61df10d00c", "b7ba4fce4a681719"),
    ("interval", "float64", "generator"): ("5365d3008f04ec5d", "10146d2930743b84"),
    ("exact", "float32", "seeds"): ("4aee4df8e8192dc1", "c98056577c3f6c84"),
    ("exact", "float32", "generator"): ("f1b655022743c589", "12caeb340993e10b"),
    ("exact", "float64", "seeds"): ("967eae65bd9f73b6", "d12c276959867a97"),
    ("exact", "float64", "generator"): ("1426b48488fd1b26", "c2699e309e1b9e0b"),
    ("threshold", "float32", "seeds"): ("25918f394380b52b", "8c53ca2ae4540a4b"),
    ("threshold", "float32", "generator"): ("811225f5f85fbc6a", "8541584298e2d353"),
    ("threshold", "float64", "seeds"): ("a75a453551a3b2b5", "d99eca5c037d13fc"),
    ("threshold", "float64", "generator"): ("cea5706d0813957b", "4be1e385b57ee5e9"),
    "inpaint": "b41eb2c3c3acd079",
    "enrich": "dd45de8ed70d8f43",
}
