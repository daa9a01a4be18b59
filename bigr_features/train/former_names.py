"""Names that settings had before, in run folders and command lines that are still about."""

FORMER_NAMES = {"usage_weight": "entropy_weight", "indecision_weight": "commitment_weight"}
