"""What every method of the table promises."""

import math

import pytest
import torch

from manifests.errors import InputError
from scoring.methods.fitting import MODES, fit_methods, options_from_text
from scoring.methods.table import METHODS, methods_named
from scoring.statistics.gather import Training
from tests.scorer_contract_world import OPTIONS, ScorerContract, fitted, rectified, rectified_training
from tests.scoring_world import (
    DIM,
    a_head,
    a_training,
    batches,
    in_features,
    out_features,
    scores_of,
)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
class TestContract(ScorerContract):
    """The promises, of each method of the table."""


def test_names_and_titles_stand_once_in_the_table():
    assert len({method.name for method in METHODS}) == len({method.title for method in METHODS}) == len(METHODS)


def test_all_methods_together_read_the_training_images_twice():
    training = rectified_training()
    outcome = fit_methods(METHODS, training, overrides=OPTIONS)
    assert not outcome.refused
    assert training.n_reads == 2


def test_methods_fitted_together_score_as_alone():
    together = fit_methods(METHODS, rectified_training(), overrides=OPTIONS).scorers
    features = rectified(out_features(a_head(), 20, 3))
    for method in METHODS:
        alone = fitted(method, rectified_training())
        torch.testing.assert_close(
            scores_of(together[method.name], a_head(), features), scores_of(alone, a_head(), features)
        )


def test_methods_on_one_space_or_gaussian_share_it():
    scorers = fit_methods(METHODS, rectified_training(), overrides=OPTIONS).scorers
    assert scorers["residual"].space is scorers["vim"].space is scorers["vim_group"].vim.space
    assert scorers["mahalanobis"].gaussian.whitening is not None


def test_mode_openood_takes_its_defaults_and_the_validation_images():
    head = a_head(n_features=600)
    features, classes = in_features(head, 700, 1)
    training = Training(head, batches(features, classes), validation=Training(head, batches(0.5 * features)))
    chosen = methods_named(["react", "residual", "vim", "kl_matching"])
    outcome = fit_methods(chosen, training, mode="openood")
    assert not outcome.refused
    assert outcome.scorers["vim"].space.dim == 256
    assert outcome.scorers["residual"].space.dim == 512
    # Half the features: half the 90 % quantile.
    quantile = torch.quantile(features[:, :600].flatten()[:16_000_000].double(), 0.9)
    assert outcome.scorers["react"].clip == pytest.approx(float(quantile) / 2, rel=1e-6)


def test_mode_openood_without_validation_images_refuses_what_it_fits_on_them():
    outcome = fit_methods(methods_named(["react", "msp"]), a_training(), mode="openood")
    assert list(outcome.scorers) == ["msp"]
    assert "name a set of them that is not scored (--fit-val NAME)" in outcome.refused["react"]


def test_unknown_mode_is_refused():
    assert MODES == ("authors", "openood")
    with pytest.raises(InputError, match="mode: expected one of authors, openood, found 'paper'"):
        fit_methods(METHODS, a_training(), mode="paper")


def test_option_of_a_method_is_read_as_its_type_says():
    assert options_from_text([("react.quantile", "0.9"), ("vim.dim", "12"), ("vim.dim_rule", "paper")]) == {
        "react": {"quantile": 0.9},
        "vim": {"dim": 12, "dim_rule": "paper"},
    }
    assert options_from_text([("kl_matching.one_hot_for_unpredicted", "true")])["kl_matching"] == {
        "one_hot_for_unpredicted": True
    }


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("react", "1", "expected METHOD.OPTION=VALUE"),
        ("relu.quantile", "1", "expected METHOD.OPTION=VALUE"),
        ("react.share", "1", "has no option 'share'; its options: quantile"),
        ("msp.t", "1", "has no option 't'; its options: none"),
        ("react.quantile", "much", "option react.quantile: expected a number, found 'much'"),
        ("vim.dim", "1.5", "option vim.dim: expected a whole number, found '1.5'"),
        ("vra.clips_low", "yes", "option vra.clips_low: expected true or false, found 'yes'"),
    ],
)
def test_wrong_option_is_refused(key, text, message):
    with pytest.raises(InputError, match=message):
        options_from_text([(key, text)])


def test_options_of_a_method_that_is_not_fitted_are_refused():
    with pytest.raises(InputError, match="options are given for vim, which is not among the methods asked for"):
        fit_methods(methods_named(["msp"]), a_training(), overrides={"vim": {"dim": DIM}})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "option"),
    [("odin", "temperature"), *(("vra", option) for option in ("low", "high", "low_quantile", "high_quantile"))],
)
def test_option_that_is_no_finite_number_is_refused_before_reading(name, option, value):
    (method,) = methods_named([name])
    with pytest.raises(InputError, match=f"expected a .*, found {value}"):
        method.scorer.needs(a_head(), **{option: value})
    training = a_training()
    with pytest.raises(InputError, match=f"expected a .*, found {value}"):
        method.scorer.fit(training, **{option: value})
    assert training.n_reads == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["msp", "softmax"], "method 'softmax' is not known: expected some of msp, energy, odin, max_logit"),
        (["msp", "msp"], "each once, found msp, msp"),
        ([], "at least one"),
    ],
)
def test_wrong_names_of_methods_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        methods_named(names)


def test_methods_come_in_the_order_of_the_table():
    assert [method.name for method in methods_named(["vim", "msp"])] == ["msp", "vim"]
