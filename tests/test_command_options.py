"""Checks of options that commands of several packages take."""

import pytest

from manifests.commands.options import pairs
from manifests.errors import InputError


def test_values_may_hold_an_equals_sign_of_their_own() -> None:
    assert pairs(["far=a/b", "near=c=d"], "--ood") == {"far": "a/b", "near": "c=d"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["far"], "--ood: expected KEY=VALUE, found 'far'"),
        (["far=a", "near="], "--ood: expected KEY=VALUE, found 'near='"),
        (["=a"], "--ood: expected KEY=VALUE, found '=a'"),
        (["far=a", "far=b"], "--ood: expected each name once, found far=a far=b"),
    ],
)
def test_what_is_no_pair_or_is_given_twice_is_refused(given: list[str], told: str) -> None:
    with pytest.raises(InputError) as refused:
        pairs(given, "--ood")
    assert str(refused.value) == told


def test_a_pair_is_called_what_the_help_of_its_option_calls_it() -> None:
    with pytest.raises(InputError, match=r"^--ood: expected NAME=FOLDER, found 'far'$"):
        pairs(["far"], "--ood", "expected NAME=FOLDER")
