import pytest
from scipy.stats import beta

from manifests.proportions import counted_share


@pytest.mark.parametrize(
    ("n_hits", "n_all"), [(1, 10), (3, 300), (19, 400), (50, 100_000), (99_999, 100_000), (5_000, 125_436)]
)
def test_the_bounds_are_scipys_beta_quantiles(n_hits, n_all):
    share = counted_share(n_hits, n_all)
    assert share.low == pytest.approx(beta.ppf(0.025, n_hits, n_all - n_hits + 1), rel=1e-9)
    assert share.high == pytest.approx(beta.ppf(0.975, n_hits + 1, n_all - n_hits), rel=1e-9)


def test_of_none_and_of_all_one_bound_is_closed_and_the_other_in_closed_form():
    assert counted_share(0, 299).low == 0
    assert counted_share(0, 299).high == pytest.approx(1 - 0.025 ** (1 / 299), rel=1e-12)
    assert counted_share(7, 7).low == pytest.approx(0.025 ** (1 / 7), rel=1e-12)
    assert counted_share(7, 7).high == 1


def test_nothing_counted_bounds_nothing():
    share = counted_share(0, 0)
    assert (share.low, share.high) == (0, 1)
    assert str(share) == "0 of 0"


def test_a_share_is_told_with_its_interval():
    assert str(counted_share(19, 400)) == "19 of 400 = 4.75% (95 % interval 2.88% to 7.32%)"


def test_a_share_in_a_cell_of_a_table_is_short_and_of_none_a_dash():
    assert counted_share(19, 400).brief == "4.8% of 400"
    assert counted_share(1, 2_000).brief == "0.1% of 2,000"
    assert counted_share(0, 0).brief == "-"


@pytest.mark.parametrize(("n_hits", "n_all"), [(-1, 3), (4, 3)])
def test_what_is_no_share_is_refused(n_hits, n_all):
    with pytest.raises(ValueError, match="0 <= n_hits <= n_all"):
        counted_share(n_hits, n_all)
