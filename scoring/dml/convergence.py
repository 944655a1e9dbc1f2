"""WFC and CFC of features in memory, after an epoch."""

import torch

from manifests.errors import FeatureError
from scoring.feature_convergence import FeatureConvergence, feature_convergence
from scoring.heads import Head
from scoring.outputs import Outputs
from scoring.statistics.class_means import MeansByClass
from scoring.statistics.gather import Training, TrainingBatch
from scoring.statistics.moments import SecondMoment


def measured_convergence(head: Head, features: torch.Tensor, targets: torch.Tensor) -> FeatureConvergence | None:
    """Return WFC and CFC of features (n, n_features) and classes (n,); None where they are not defined."""
    batch = TrainingBatch(Outputs(head, features), targets, 0)
    moments, by_class = SecondMoment().begin(Training(head)), MeansByClass().begin(Training(head))
    try:
        moments.add(batch)
        by_class.add(batch)
        return feature_convergence(head, moments.result(), by_class.result())
    except FeatureError:
        # A class without a picture among those measured, or a network in its first epochs that sees all alike.
        return None
