"""What classifiers with one logit a class share.   n samples, C classes"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted


class LogitClassifier(ClassifierMixin):
    """Decisions and probabilities from logits and `classes_` (C,), with scikit-learn's form for two classes.

    Of a subclass: `_check_queries(X)` gives X as it is read, and `_logit_blocks(X)` gives (positions, logits (m, C)) block by block.
    `predict` and `score` keep one block of logits in memory, never all (n, C).
    """

    def logits(self, X):
        """One logit a class (n, C)."""
        check_is_fitted(self)
        X, found = self._check_queries(X), None
        for place, block in self._logit_blocks(X):
            if found is None:
                found = np.empty((X.shape[0], len(self.classes_)), block.dtype)
            found[place] = block
        return found

    def decision_function(self, X):
        """Logits (n, C); for two classes the difference of theirs (n,), as in scikit-learn."""
        logits = self.logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X):
        """Classes (n,)."""
        check_is_fitted(self)
        X = self._check_queries(X)
        return self.classes_[np.concatenate([block.argmax(1) for _, block in self._logit_blocks(X)])]

    def predict_proba(self, X):
        """Class probabilities (n, C)."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        return torch.softmax(torch.from_numpy(scores), 1).numpy()
