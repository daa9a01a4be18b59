"""Pictures of class clusters, with honest numbers beside them: arrays in, axes, figures and one-file HTML out.

Matplotlib, scikit-learn, umap and bokeh are imported by the functions that use them.
"""

from .colors import ClassStyles, class_styles
from .figures import plot_features
from .html import write_html
from .projection import Embedding, embed
from .scatter import scatter
from .scores import ClusterScores, cluster_scores

__all__ = ["ClassStyles", "ClusterScores", "Embedding", "class_styles", "cluster_scores", "embed", "plot_features", "scatter", "write_html"]
