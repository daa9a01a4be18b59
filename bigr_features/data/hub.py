"""The `datasets` library with answers in words: a name that is neither here nor on the Hub, and a cache that cannot be written."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

TIMEOUT = 5.0  # seconds to wait for the Hub's first answer
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def cache_named(source: str) -> Iterator[None]:
    """Inside, an error of the cache of `datasets` says where the cache is and how to move it; errors of the source itself pass.

    Raises
    ------
    OSError
        With the number of the error that came.
    """
    try:
        yield
    except OSError as error:
        about = str(error.filename or "")
        if error.errno not in _NOT_WRITABLE or about == source or about.startswith(f"{Path(source).resolve()}/"):
            raise
        raise OSError(
            f"{source} cannot be read, because the `datasets` library cannot write its cache ({error}); "
            "set HF_HOME or HF_DATASETS_CACHE to a folder that can be written and has room."
        ) from error


def hub_tables(source: str):
    """All splits of a data set of the Hub, downloaded or from the cache.

    The Hub is asked once and briefly whether it has the name, because `datasets` asks for several files, again and again.

    Raises
    ------
    FileNotFoundError
        If there is no such data set, or the Hub cannot be reached and the cache has none of this name.
    """
    import datasets
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

    nowhere = f"there is no file or folder {source}, and "
    unreachable = None
    try:
        HfApi().dataset_info(source, timeout=TIMEOUT)
    except HFValidationError as error:
        raise FileNotFoundError(f"{nowhere}it cannot be the name of a data set on the Hub.") from error
    except GatedRepoError:
        pass
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(f"{nowhere}no data set of this name on the Hub that you can read.") from error
    except OfflineModeIsEnabled:
        unreachable = "HF_HUB_OFFLINE is set"
    except HfHubHTTPError as error:
        unreachable = str(error).splitlines()[0]
    except Exception as error:  # of the network: each version of huggingface_hub has its own
        unreachable = f"{type(error).__name__}: {error}".splitlines()[0]
    try:
        with _offline(datasets, constants) if unreachable else contextlib.nullcontext():
            return datasets.load_dataset(source)
    except (datasets.exceptions.DatasetNotFoundError, ConnectionError) as error:
        why = f"the Hub cannot be reached ({unreachable or error}), nor does its cache hold a data set of this name"
        raise FileNotFoundError(f"{nowhere}{why}. Check the path of the folder.") from error


@contextlib.contextmanager
def _offline(datasets, constants) -> Iterator[None]:
    """Inside, `datasets` looks into its cache only."""
    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
