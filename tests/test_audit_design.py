import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, hypergeom

from manifests.certificate import Design, Look, finite_bound, sequential_design
from manifests.errors import InputError

THREE_LOOKS = sequential_design(0.01, 0.95, 2, 3)
N_RUNS = 20_000
MOST = 40


@pytest.mark.parametrize(
    ("bound", "max_defects", "n_images"),
    [(0.01, 0, 299), (0.01, 1, 473), (0.01, 2, 628), (0.005, 0, 598), (0.005, 1, 947), (0.05, 0, 59)],
)
def test_a_fixed_sample_has_the_size_of_the_tables(bound, max_defects, n_images):
    assert sequential_design(bound, 0.95, max_defects, 1).looks == (Look(n_images, max_defects),)


@given(bound=st.floats(0.002, 0.3), confidence=st.floats(0.5, 0.999), max_defects=st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_a_fixed_sample_is_the_smallest_by_scipys_beta_quantile(bound, confidence, max_defects):
    (look,) = sequential_design(bound, confidence, max_defects, 1).looks
    upper = [beta.ppf(confidence, max_defects + 1, n - max_defects) for n in (look.n_images, look.n_images - 1)]
    assert upper[0] <= bound * (1 + 1e-9)
    # One image fewer certifies more than the bound, or has no image that is no defect.
    assert not upper[1] < bound * (1 - 1e-9)


@pytest.mark.parametrize(
    ("n_defects", "n_images", "confidence"),
    [(0, 299, 0.95), (1, 473, 0.95), (19, 400, 0.95), (7, 7 * 11, 0.99), (840, 17_632, 0.9), (298, 299, 0.95)],
)
def test_with_one_look_the_bound_is_clopper_and_pearsons(n_defects, n_images, confidence):
    found = Design(0.01, confidence, (Look(n_images, 0),)).upper_bound(0, n_defects)
    assert found == pytest.approx(beta.ppf(confidence, n_defects + 1, n_images - n_defects), rel=1e-9)


def test_the_published_sets_audit_of_19_in_400_leaves_at_most_6_9_percent():
    assert Design(0.01, 0.95, (Look(400, 0),)).upper_bound(0, 19) == pytest.approx(0.06890, abs=5e-5)
    assert Design(0.01, 0.95, (Look(5, 0),)).upper_bound(0, 5) == 1


def test_three_looks_stop_a_clean_set_early():
    assert THREE_LOOKS.looks == (Look(368, 0), Look(565, 1), Look(701, 2))
    assert THREE_LOOKS.outlook(0.0) == (368, 1)
    n_expected, certified = THREE_LOOKS.outlook(0.01)
    assert n_expected < 628
    assert certified <= 0.05


def ends(design):
    """Return the ends of a design's walk from best to worst, as (place, defects), with up to `MOST` defects."""
    most, last = MOST, len(design.looks) - 1
    certified = [(place, k) for place, look in enumerate(design.looks) for k in range(look.max_defects + 1)]
    certified = [(place, k) for place, k in certified if place == 0 or k > design.looks[place - 1].max_defects]
    failed = [(last, k) for k in range(design.looks[-1].max_defects + 1, most + 1)]
    early = [
        (place, k) for place in reversed(range(last)) for k in range(design.looks[-1].max_defects + 1, most + 1)
    ]
    return certified, failed + early


def end_probabilities(design, p):
    """A second implementation: every path over the numbers of defects between looks, by SciPy's binomial."""
    sizes = np.diff([0] + [look.n_images for look in design.looks])
    found = {}

    def go(place, n_defects, probability):
        shares = probability * binom.pmf(np.arange(MOST - n_defects + 1), sizes[place], p)
        for k, share in enumerate(shares, start=n_defects):
            if k <= design.looks[place].max_defects or k > design.looks[-1].max_defects or place == len(sizes) - 1:
                found[place, k] = found.get((place, k), 0) + share
            else:
                go(place + 1, k, share)

    go(0, 0, 1.0)
    return found


DESIGNS = [THREE_LOOKS, sequential_design(0.02, 0.9, 5, 4), sequential_design(0.05, 0.99, 1, 2)]


@pytest.mark.parametrize("design", DESIGNS)
def test_at_the_bound_of_an_end_one_as_good_has_the_error_that_is_allowed(design):
    certified, failed = ends(design)
    order, n_equal = certified + failed, 0
    for number, (place, n_defects) in enumerate(order, start=1):
        if n_defects > 6:
            continue
        upper = design.upper_bound(place, n_defects)
        by_end = end_probabilities(design, upper)
        as_good = 1 - sum(by_end[end] for end in order[number:])
        by_fixed_size = beta.ppf(design.confidence, n_defects + 1, design.looks[place].n_images - n_defects)
        if upper > by_fixed_size * (1 + 1e-9):
            assert as_good == pytest.approx(1 - design.confidence, rel=1e-6)
            n_equal += 1
        else:
            assert as_good <= 1 - design.confidence + 1e-6
            assert upper == pytest.approx(by_fixed_size, rel=1e-9)
    assert n_equal > 0


@pytest.mark.parametrize("design", DESIGNS)
def test_certified_ends_and_no_others_keep_the_bound_and_none_claims_less_than_was_found(design):
    certified, failed = ends(design)
    uppers = {end: design.upper_bound(*end) for end in certified + failed}
    assert max(uppers[end] for end in certified) <= design.bound < min(uppers[end] for end in failed)
    assert [uppers[end] for end in certified] == sorted(uppers[end] for end in certified)
    assert all(k / design.looks[place].n_images < upper for (place, k), upper in uppers.items())


@functools.cache
def upper_of(end):
    return THREE_LOOKS.upper_bound(*end)


def walked(design, defects):
    """Return (place, defects) where a walk ends; `defects` holds the cumulative numbers at each look."""
    for place, (look, k) in enumerate(zip(design.looks, defects, strict=True)):
        if k <= look.max_defects or k > design.looks[-1].max_defects or place == len(design.looks) - 1:
            return place, int(k)
    raise AssertionError


@pytest.mark.parametrize("p", [0.0, 0.002, 0.005, 0.009, 0.01, 0.0101, 0.012, 0.02])
def test_over_20_000_simulated_audits_the_bound_holds_as_often_as_stated(p):
    random = np.random.default_rng(round(1e6 * p))
    sizes = np.diff([0] + [look.n_images for look in THREE_LOOKS.looks])
    runs = np.cumsum(random.binomial(sizes, p, size=(N_RUNS, len(sizes))), axis=1)
    found = [walked(THREE_LOOKS, row) for row in runs]
    uppers = {end: upper_of(end) for end in set(found)}
    covered = sum(uppers[end] >= p for end in found) / N_RUNS
    # Three standard deviations of a share of 0.95 in 20,000 runs.
    assert covered >= 0.95 - 3 * (0.05 * 0.95 / N_RUNS) ** 0.5
    n_expected, certified = THREE_LOOKS.outlook(p)
    assert np.mean([THREE_LOOKS.looks[place].n_images for place, _ in found]) == pytest.approx(
        n_expected, rel=0.01
    )
    share_certified = sum(k <= THREE_LOOKS.looks[place].max_defects for place, k in found) / N_RUNS
    assert share_certified == pytest.approx(certified, abs=0.012)


@pytest.mark.parametrize("n_population", [750, 1763])
def test_without_replacement_the_exact_coverage_of_three_looks_is_never_below_the_confidence(n_population):
    sizes = np.diff([0] + [look.n_images for look in THREE_LOOKS.looks])

    def missed(place, n_drawn, k, probability, n_defects):
        """Return how often a walk from here ends with a bound below the true share, by SciPy's hypergeometric."""
        more = np.arange(min(MOST, n_defects) - k + 1)
        shares = probability * hypergeom.pmf(more, n_population - n_drawn, n_defects - k, sizes[place])
        total = 0.0
        for found, share in enumerate(shares, start=k):
            if THREE_LOOKS.has_ended(place, found):
                total += share * (share > 0 and upper_of((place, found)) < n_defects / n_population)
            else:
                total += missed(place + 1, n_drawn + sizes[place], found, share, n_defects)
        return total

    assert max(missed(0, 0, 0, 1.0, n_defects) for n_defects in range(1, n_population // 40)) <= 0.05


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("n_population", [5, 20, 30])
def test_without_replacement_a_fixed_sample_is_never_too_sure_of_shares_up_to_one_half(n_population, confidence):
    n_defects = np.arange(n_population // 2 + 1)[:, np.newaxis]
    for n_sample in range(1, n_population):
        found = np.arange(n_sample + 1)
        design = Design(0.01, confidence, (Look(n_sample, 0),))
        upper = np.array([design.upper_bound(0, k) for k in found.tolist()])
        shares = hypergeom.pmf(found, n_population, n_defects, n_sample)
        missed = (shares * (upper < n_defects / n_population - 1e-12)).sum(axis=1)
        assert missed.max() <= 1 - confidence


@pytest.mark.parametrize("p", np.linspace(0.0005, 0.02, 40))
def test_the_exact_coverage_is_never_below_the_confidence(p):
    by_end = end_probabilities(THREE_LOOKS, p)
    missed = sum(share for end, share in by_end.items() if upper_of(end) < p)
    assert missed <= 0.05 + 1e-9


@pytest.mark.parametrize(
    ("n_defects", "n_sample", "n_population"),
    [(0, 299, 1000), (1, 473, 1763), (3, 40, 60), (0, 5, 5), (4, 4, 9)],
)
def test_the_finite_bound_is_the_largest_number_that_scipys_hypergeometric_leaves_possible(
    n_defects, n_sample, n_population
):
    possible = range(n_defects, n_population - n_sample + n_defects + 1)
    expected = max(m for m in possible if hypergeom.cdf(n_defects, n_population, m, n_sample) > 0.05)
    assert finite_bound(n_defects, n_sample, n_population, 0.95) == expected


@given(st.integers(1, 400), st.data())
@settings(max_examples=100, deadline=None)
def test_the_finite_bound_is_never_above_clopper_and_pearsons(n_population, data):
    n_sample = data.draw(st.integers(1, n_population))
    n_defects = data.draw(st.integers(0, n_sample))
    upper = Design(0.01, 0.95, (Look(n_sample, 0),)).upper_bound(0, n_defects)
    assert finite_bound(n_defects, n_sample, n_population, 0.95) <= upper * n_population + 1e-6


@pytest.mark.parametrize(
    ("bound", "confidence", "max_defects", "n_looks", "message"),
    [
        (1.0, 0.95, 0, 1, "expected a bound between 0 and 1"),
        (0.01, 0.4, 0, 1, "a confidence from 0.5"),
        (float("nan"), 0.95, 0, 1, "found nan"),
        (0.01, 0.95, 1, 3, "3 looks need at least 2 defects"),
        (0.01, 0.95, -1, 1, "found --max-defects -1"),
        (0.01, 0.95, 0, 0, "0 looks"),
        (1e-9, 0.95, 0, 1, "more than 4,194,304 images"),
    ],
)
def test_numbers_out_of_range_are_refused(bound, confidence, max_defects, n_looks, message):
    with pytest.raises(InputError, match=message):
        sequential_design(bound, confidence, max_defects, n_looks)


def test_a_walk_that_goes_on_has_no_bound():
    for place, n_defects in itertools.product((0, 1), (2,)):
        with pytest.raises(ValueError, match="does not end"):
            THREE_LOOKS.upper_bound(place, n_defects)
