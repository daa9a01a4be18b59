"""Functions of tensors and numbers; they know no model."""
