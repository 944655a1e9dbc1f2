"""How often n annotators all give one answer, when images differ in difficulty.

Given the image, votes are independent; each image has its own chance p of a vote, and hard images have a higher
one. Then n votes agree with probability E[p^n], which E[p] alone does not tell: where all miss the same images, a
further vote helps nobody. Images that r annotators answered tell E[p], ..., E[p^r] without any model. Beyond r,
the first two moments bound E[p^n] by two mixtures of two kinds of images (the principal representations of the
moment space, Karlin & Studden 1966, Tchebycheff Systems, chapter 2):

- least: images with p = 0, and hard ones with p = E[p^2] / E[p];
- most: hard images with p = 1, which every annotator gets wrong, and plain ones with one smaller p.

The expectation goes on from E[p^r] as the beta-binomial of the same two moments would, and stays between them.
"""

from dataclasses import dataclass

import numpy as np

_PRIOR_IMAGES = 0.5
"""Weight of each image added a priori, one an answer, on which all give it: as Jeffreys' prior of a share does."""


_PATTERNS_AT_ONCE = 1024
"""Patterns of answers reweighted together: 4,000 draws of so many take 33 MB."""


@dataclass(frozen=True)
class SharedVotes:
    """The moments of an image's chance to get one answer.

    Attributes
    ----------
    moments : ndarray of float64, (n_known, n_draws)
        Row n - 1: how often n annotators all give the answer to the same image. Draws of what is not known
        exactly; the first is the point estimate.
    """

    moments: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """How often one annotator gives the answer."""
        return self.moments[0]

    @property
    def is_paired(self) -> bool:
        """Whether it is known how often two give the answer to the same image."""
        return len(self.moments) > 1

    def independent(self, n_votes: int) -> np.ndarray:
        """Return how often `n_votes` agree on the answer were all images alike."""
        return self.mean**n_votes

    def expected(self, n_votes: int) -> np.ndarray:
        """Return how often `n_votes` agree; beyond what is known as the beta-binomial goes on, or independence."""
        n_known = len(self.moments)
        if n_votes <= n_known:
            return self.moments[n_votes - 1]
        spread = self.mean * (1 - self.mean)
        correlation = _ratio(self._pair() - self.mean**2, spread)
        agreed = self.moments[-1].copy()
        for vote in range(n_known, n_votes):
            # (a + vote) / (a + b + vote), times r / r, with a = mean (1 - r) / r and b = (1 - mean) (1 - r) / r.
            agreed *= (self.mean * (1 - correlation) + vote * correlation) / (1 + (vote - 1) * correlation)
        return np.clip(agreed, self.least(n_votes), self.most(n_votes))

    def least(self, n_votes: int) -> np.ndarray:
        """Return the least that the known moments allow; independence without pairs."""
        if n_votes <= len(self.moments):
            return self.moments[n_votes - 1]
        agreed = self.mean * _ratio(self._pair(), self.mean) ** (n_votes - 1)
        return np.minimum(agreed, self.moments[-1])

    def most(self, n_votes: int) -> np.ndarray:
        """Return the most that the known moments allow; without pairs, that all votes fall on the same images."""
        if n_votes <= len(self.moments) or not self.is_paired:
            return self.moments[min(n_votes, len(self.moments)) - 1]
        rest = 1 - self.mean
        plain = np.clip(self.mean - _ratio(self._pair() - self.mean**2, rest), 0, 1)
        n_plain = _ratio(rest, 1 - plain)
        return np.minimum(1 - n_plain + n_plain * plain**n_votes, self.moments[-1])

    def _pair(self) -> np.ndarray:
        # Two annotators can be less alike than chance, one of them careful and one not. The mixtures know no such
        # thing, and independence is the careful side of it.
        square = self.mean**2
        return np.clip(self.moments[1], square, self.mean) if self.is_paired else square


def stated_votes(mean: float, *, hard_share: float, hard_mean: float, n_votes: int) -> SharedVotes:
    """Return the votes that stated rates come to: a share of hard images, and plain ones for the rest of the mean.

    Raises
    ------
    ValueError
        The hard images alone come to more than `mean`, or the plain ones would need more than all.
    """
    plain = (mean - hard_share * hard_mean) / (1 - hard_share)
    if not 0 <= plain <= 1:
        raise ValueError(f"a share of {hard_share:g} at {hard_mean:g} cannot be part of {mean:g} overall")
    powers = np.arange(1, n_votes + 1)[:, np.newaxis]
    return SharedVotes(hard_share * hard_mean**powers + (1 - hard_share) * plain**powers)


def measured_votes(
    answers: np.ndarray, weights: np.ndarray, generator: np.random.Generator, *, n_codes: int, n_draws: int
) -> list[SharedVotes]:
    """Return, for each answer, the moments measured on images of one truth.

    The n-th moment is the share of n-element sets of answers to one image that all are the answer in question,
    over all images with n answers or more; a set counts as the product of its annotators' weights. Three or more
    are only looked at where half of the images with two have so many. The draws are a Bayesian bootstrap over
    images (Rubin 1981, Annals of Statistics 9), with a prior that keeps an event never met from being taken for
    impossible.

    Parameters
    ----------
    answers : ndarray of int, (n_images, n_annotators)
        Codes from 0, negative where there is no answer.
    weights : ndarray of float64, (n_annotators,)
        How often each will vote, by how often they have answered here.
    generator : numpy.random.Generator
        Of the draws.
    n_codes : int
        How many answers there are.
    n_draws : int
        How many, the point estimate among them.
    """
    patterns, counts = np.unique(answers[(answers >= 0).any(axis=1)], axis=0, return_counts=True)
    sizes = (patterns >= 0).sum(axis=1)
    n_paired = counts[sizes >= 2].sum()
    most = max(
        n
        for n in range(1, int(sizes.max()) + 1)
        if n == 1 or (n == 2 and n_paired) or 2 * counts[sizes >= n].sum() >= n_paired > 0
    )
    # One image an answer a priori, on which all give it.
    prior = generator.standard_gamma(_PRIOR_IMAGES, (n_draws, n_codes))
    prior[0] = _PRIOR_IMAGES
    all_sets = _sets(np.where(patterns >= 0, weights, 0.0), most)  # (most, n_patterns)
    of_code = np.stack([_sets(np.where(patterns == code, weights, 0.0), most) for code in range(n_codes)], axis=-1)
    agreed, found = _weighted_sums(of_code, all_sets, counts, generator, n_draws)
    # An image of the prior weighs as much as one that tells something: where few weigh much, these are few.
    typical = (all_sets**2 @ counts) / (all_sets @ counts)
    prior_sets = typical[:, np.newaxis, np.newaxis] * prior
    moments = (agreed + prior_sets) / (found + prior_sets.sum(axis=2))[:, :, np.newaxis]
    # Few images with pairs can show more of a kind than all images together; more to agree are never likelier.
    moments = np.minimum.accumulate(moments, axis=0)
    return [SharedVotes(moments[:, :, code]) for code in range(n_codes)]


def _sets(weights: np.ndarray, most: int) -> np.ndarray:
    """Return the sums, over sets of 1 to `most` columns, of the product of their weights: ``(most, n_rows)``."""
    sums = np.zeros((most + 1, len(weights)))
    sums[0] = 1.0
    for column in weights.T:
        # From the largest sets down: each takes the column at most once.
        sums[1:] = sums[1:] + column * sums[:-1]
    return sums[1:]


def _weighted_sums(
    of_code: np.ndarray, all_sets: np.ndarray, counts: np.ndarray, generator: np.random.Generator, n_draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return agreeing sets, ``(most, n_draws, n_codes)``, and all, ``(most, n_draws)``, of reweighted images."""
    most, _, n_codes = of_code.shape
    agreed, found = np.zeros((most, n_draws, n_codes)), np.zeros((most, n_draws))
    for start in range(0, len(counts), _PATTERNS_AT_ONCE):
        part = slice(start, start + _PATTERNS_AT_ONCE)
        # Gamma draws without their common sum, which a ratio does not need: Dirichlet weights.
        drawn = generator.standard_gamma(counts[part], (n_draws, len(counts[part])))
        drawn[0] = counts[part]
        for order in range(most):
            agreed[order] += drawn @ of_code[order, part]
            found[order] += drawn @ all_sets[order, part]
    return agreed, found


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the ratio, 0 where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
