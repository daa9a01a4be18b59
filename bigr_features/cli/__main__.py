"""`python -m bigr_features.cli`, for launchers that start modules (`torchrun -m bigr_features.cli train ...`)."""

from .main import main

main()
