"""The timm face of the models: backbones with features, entries that load weights."""
