"""What every method promises, as tests of one method: of each of the table, and of a page's example."""

import dataclasses

import pytest
import torch

from manifests.errors import FeatureError
from scoring.methods.fitting import fit_methods
from scoring.metrics import auroc
from scoring.statistics.gather import Training
from tests.scoring_world import (
    DIM,
    GROUP_OF,
    a_head,
    batches,
    in_features,
    out_features,
    scores_of,
)

OPTIONS = {
    "residual": {"dim": DIM},
    "vim": {"dim": DIM},
    "vim_group": {"dim": DIM},
    "neco": {"dim": DIM},
    "nnguide": {"share": 0.5},
}


def rectified(features: torch.Tensor) -> torch.Tensor:
    """Features as a network with ReLU makes them, which some methods are defined for."""
    return features.clamp(min=0)


def strange_features(n_images: int) -> torch.Tensor:
    """Rectified features of no class: in directions that no training feature has, and smaller."""
    generator = torch.Generator().manual_seed(9)
    return 0.5 * rectified(torch.randn(n_images, a_head().n_features, generator=generator))


def fitted(method, training: Training):
    """One method fitted to a training."""
    outcome = fit_methods([method], training, overrides={method.name: OPTIONS.get(method.name, {})})
    assert not outcome.refused
    return outcome.scorers[method.name]


def rectified_training(rows: int = 50, order: torch.Tensor | None = None) -> Training:
    head = a_head()
    features, classes = in_features(head, 400, 1)
    if order is not None:
        features, classes = features[order], classes[order]
    return Training(head, batches(rectified(features), classes, rows), group_of=GROUP_OF)


class ScorerContract:
    """One test a promise, each of one `Method`."""

    def scores(self, method, features: torch.Tensor) -> torch.Tensor:
        training = rectified_training()
        return scores_of(fitted(method, training), training.head, features)

    def test_one_finite_float64_score_an_image(self, method):
        scores = self.scores(method, rectified(in_features(a_head(), 30, 7)[0]))
        assert scores.dtype == torch.float64
        assert scores.shape == (30,)
        assert torch.isfinite(scores).all()

    def test_higher_is_more_ood(self, method):
        scores_in = self.scores(method, rectified(in_features(a_head(), 300, 8)[0]))
        scores_out = self.scores(method, strange_features(300))
        assert auroc(scores_in, scores_out) > 0.8

    def test_score_does_not_depend_on_the_other_images(self, method):
        features = rectified(in_features(a_head(), 200, 10)[0])
        training = rectified_training()
        scorer = fitted(method, training)
        together = scores_of(scorer, training.head, features)
        for n_images in (1, 7, 130):
            parts = [scores_of(scorer, training.head, part) for part in features.split(n_images)]
            # Float32 products to the last bit; a float64 power at the end of an array differs by its own.
            torch.testing.assert_close(torch.cat(parts), together, rtol=1e-14, atol=1e-14)

    def test_score_does_not_depend_on_how_the_training_images_come_in_chunks(self, method):
        features = rectified(out_features(a_head(), 40, 11))
        scores = [scores_of(fitted(method, rectified_training(rows)), a_head(), features) for rows in (50, 7, 400)]
        torch.testing.assert_close(scores[0], scores[1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(scores[0], scores[2], rtol=1e-5, atol=1e-5)

    def test_image_of_zeros_has_a_finite_score(self, method):
        assert torch.isfinite(self.scores(method, torch.zeros(2, a_head().n_features))).all()

    def test_fitted_scorer_is_frozen(self, method):
        with pytest.raises(dataclasses.FrozenInstanceError):
            fitted(method, rectified_training()).anything = 1

    def test_good_fit_has_no_warning(self, method):
        assert fitted(method, rectified_training()).warnings == ()

    def test_table_says_truly_what_is_needed(self, method):
        head = a_head()
        assert method.needs in ("head", "train", "train + classes")
        if method.needs == "head":
            fit_methods([method], Training(head, group_of=GROUP_OF))
        else:
            with pytest.raises(FeatureError, match="no training image"):
                fitted(method, Training(head, [], group_of=GROUP_OF))
        unlabelled = Training(head, batches(rectified(in_features(head, 400, 1)[0])), group_of=GROUP_OF)
        refused = fit_methods([method], unlabelled, overrides={method.name: OPTIONS.get(method.name, {})}).refused
        assert bool(refused) == (method.needs == "train + classes")

    def test_row_of_the_table_is_complete(self, method):
        assert method.family in ("probability", "logit", "feature", "feature + logit")
        assert all((method.title, method.paper, method.equation))
        assert method.openood.keys() <= options_of(method).keys()


def options_of(method) -> dict:
    return dict(fit_methods([method], rectified_training()).options[method.name])
