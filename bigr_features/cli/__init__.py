"""The console command `bigr`."""

from .main import main

__all__ = ["main"]
