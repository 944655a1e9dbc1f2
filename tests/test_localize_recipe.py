"""Settings of a localizer's training."""

import dataclasses
import json
import math

import pytest

from curation.localize.checkpoints import sizes_from
from curation.localize.recipe import Recipe
from manifests.errors import InputError
from tests.localize_world import TINY_SIZES


def test_the_papers_rate_falls_to_a_tenth_after_35_of_50_epochs():
    recipe = Recipe()
    assert recipe.n_epochs == 50
    rates = [recipe.learning_rate_at(epoch) for epoch in (0, 34, 35, 49)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])


def test_no_two_draws_of_a_training_share_a_seed():
    recipes = (Recipe(), Recipe(seed=1))
    seeds = [
        recipe.seed_of(purpose, epoch)
        for recipe in recipes
        for purpose in ("weights", "dropout")
        for epoch in (0, 1)
    ]
    assert len(set(seeds)) == 8
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert recipes[0].seed_of("dropout", 1) == Recipe(n_epochs=3).seed_of("dropout", 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": math.nan}, "learning_rate: expected a number above 0, found nan"),
        ({"learning_rate": math.inf}, "learning_rate: expected a number above 0, found inf"),
        ({"bridger_factor": 0}, "bridger_factor: expected a number above 0, found 0"),
        ({"seed": -1}, "seed: expected at least 0, found -1"),
        ({"n_epochs": 0}, "n_epochs: expected at least 1, found 0"),
        ({"batch_size": 0}, "batch_size: expected at least 1, found 0"),
    ],
)
def test_an_impossible_plan_is_refused_by_the_name_of_its_field(changes, said):
    with pytest.raises(InputError, match=said):
        Recipe(**changes)


def test_sizes_are_read_back_as_they_were_written():
    assert sizes_from(json.loads(json.dumps(dataclasses.asdict(TINY_SIZES)))) == TINY_SIZES
