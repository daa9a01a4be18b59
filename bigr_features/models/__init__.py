"""The parts of BiGR and its timm entries."""
