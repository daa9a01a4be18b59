"""Reading the `manifest.json` of a folder that the library wrote."""

from __future__ import annotations

import json
from pathlib import Path

MANIFEST = "manifest.json"


def read_manifest(folder: Path, what: str, *, kind: str | None, format: int, command: str, remedy: str) -> dict:
    """The manifest, if the folder holds what is expected.

    Parameters
    ----------
    folder : Path
    what : str
        What the folder should hold, as messages name it.
    kind : str, optional
        Value of "kind" in the manifest; None if this manifest has none.
    format : int
        The format that this version reads.
    command : str
        Command that writes such a folder.
    remedy : str
        What to do if the manifest is damaged.

    Raises
    ------
    FileNotFoundError
        If there is no manifest.
    ValueError
        If it is damaged, of something else, or of another format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        found = "there is no such folder" if not folder.exists() else f"it has no {MANIFEST}"
        raise FileNotFoundError(f"{folder} is no {what} ({found}); make one with `{command}`.")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}.") from error
    older = isinstance(manifest, dict) and "kind" not in manifest and manifest.get("format") in range(format)  # formats once had no kind
    if not isinstance(manifest, dict) or (manifest.get("kind") != kind and not older):
        raise ValueError(f"{path} is not the manifest of a {what}; give a folder that `{command}` wrote.")
    if manifest.get("format") != format:
        raise ValueError(
            f"{path} has format {manifest.get('format')!r}; this version reads format {format}. Delete {folder} and run `{command}` again."
        )
    return manifest
