"""How a gallery, a searched set, is searched."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

from .binarize import KINDS
from .index import BitIndex, VectorIndex

METRICS = ("cosine", "hamming", "two_stage")


@dataclass(frozen=True)
class GallerySettings:
    """How a gallery is searched.

    Parameters
    ----------
    metric : "cosine", "hamming" or "two_stage"
        Cosine of features; Hamming distance of packed bits; or bits for a shortlist, which is then ranked by cosine. Only what the first
        stage compares is held in memory.
    index : str
        "flat" (exact), "auto" (flat up to 100,000 vectors or 2 million bit strings, then inverted lists), or a faiss factory string:
        "HNSW32", "IVF1024,SQfp16", "IVF1024,PQ18"; on bits "BHNSW16", "BIVF256".
    binarize : "sign", "itq" or None
        Where bits come from: features above their mean, features turned so that their signs lose least, or None if they are given,
        as the tokenizer's codes are.
    num_bits : int, optional
        Bits that "itq" makes, by default as many as there are features.
    effort : int, optional
        Lists searched (IVF) or candidates kept (HNSW) for each query: more finds more, slower.
    shortlist : int
        Rows that "two_stage" ranks by cosine for each query.

    Raises
    ------
    ValueError
        For values that do not exist or do not go together.
    """

    metric: str = "cosine"
    index: str = "auto"
    binarize: str | None = None
    num_bits: int | None = None
    effort: int | None = None
    shortlist: int = 1000

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"metric={self.metric!r} is unknown; choose one of {', '.join(METRICS)}.")
        if self.binarize is not None and self.binarize not in KINDS:
            raise ValueError(f"binarize={self.binarize!r} is unknown; choose one of {', '.join(KINDS)}, or leave it out if bits are given.")
        if self.metric == "cosine" and self.binarize is not None:
            raise ValueError(f"binarize={self.binarize!r} makes bits, but metric 'cosine' compares features; take hamming or two_stage.")
        if self.num_bits is not None and self.binarize != "itq":
            raise ValueError(f"num_bits={self.num_bits} can be chosen with binarize='itq' only.")
        for name in ("num_bits", "effort", "shortlist"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name}={value!r}; expected an integer of 1 or more.")
        if not isinstance(self.index, str) or not self.index:
            raise ValueError(f"index={self.index!r}; expected 'auto', 'flat' or a faiss factory string.")

    @property
    def index_metric(self) -> str:
        """What the index in memory compares: "cosine" or "hamming"."""
        return "cosine" if self.metric == "cosine" else "hamming"

    @property
    def has_features(self) -> bool:
        """Whether items have features."""
        return self.metric != "hamming" or self.binarize is not None

    @property
    def has_bits(self) -> bool:
        """Whether items have bits, given or made."""
        return self.metric != "cosine"

    @property
    def takes_bits(self) -> bool:
        """Whether bits are given with the items and queries."""
        return self.has_bits and self.binarize is None

    def replaced(self, **changes) -> GallerySettings:
        """The same with other values."""
        known = [field.name for field in fields(self)]
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise ValueError(f"a gallery has no setting {unknown[0]!r}; it has {', '.join(known)}.")
        return replace(self, **changes)

    def as_json(self) -> dict:
        """Fields by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict) -> GallerySettings:
        """The settings of a manifest."""
        return cls().replaced(**content)


def kind_of(settings: GallerySettings) -> str:
    """Which vectors the index compares."""
    return "features" if settings.index_metric == "cosine" else "bits"


def new_index(settings: GallerySettings, factory: str, dim: int | None, num_bits: int | None) -> VectorIndex:
    """An empty index of the kind that a factory string names; ValueError if there is none."""
    if settings.index_metric == "cosine":
        assert dim is not None
        return VectorIndex(dim, factory, settings.effort)
    assert num_bits is not None
    return BitIndex(-(-num_bits // 8), factory, settings.effort)
