"""Imported once by the server from which killed processes are forked."""

import accelerate  # noqa: F401
import datasets  # noqa: F401
import faiss  # noqa: F401
import hypothesis  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import sklearn.linear_model
import sklearn.manifold  # noqa: F401
import timm  # noqa: F401
import torch

import bigr_features.gallery
import bigr_features.train.generator
import bigr_features.train.tokenizer  # noqa: F401

torch.set_num_threads(1)
