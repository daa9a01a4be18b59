"""What classifiers with one logit a class share.   n samples, C classes"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import ClassifierMixin


class LogitClassifier(ClassifierMixin):
    """Decisions and probabilities from `logits(X)` (n, C) and `classes_` (C,), with scikit-learn's form for two classes."""

    def decision_function(self, X):
        """Logits (n, C); for two classes the difference of theirs (n,), as in scikit-learn."""
        logits = self.logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X):
        """Classes (n,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)]

    def predict_proba(self, X):
        """Class probabilities (n, C)."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        return torch.softmax(torch.from_numpy(scores), 1).numpy()
