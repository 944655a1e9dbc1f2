"""Every method, in the order of the paper's Table 2."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from manifests.errors import InputError
from scoring.methods.contract import Scorer, Training
from scoring.methods.energy import Energy
from scoring.methods.max_logit import MaxLogit
from scoring.methods.msp import MSP
from scoring.methods.residual import Residual
from scoring.methods.vim import ViM


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes
    ----------
    name : str
        On the command line and in result files.
    title : str
        As papers write it.
    family : str
        What it reads: ``probability``, ``logit``, ``feature`` or ``feature + logit``.
    needs_train, needs_labels : bool
        Whether it is fitted on training features, and on their class indices.
    paper : str
        Authors and year.
    equation : str
        ``ood_score`` in text: features x, logits l, softmax p, origin o, null space R.
    fit : callable
        Takes a `Training` and returns a `Scorer`; asks for training features only where `needs_train`.
    """

    name: str
    title: str
    family: str
    needs_train: bool
    needs_labels: bool
    paper: str
    equation: str
    fit: Callable[[Training], Scorer]


METHODS = (
    Method(
        name="msp", title="MSP", family="probability", needs_train=False, needs_labels=False,
        paper="Hendrycks and Gimpel 2017", equation="1 - max_c p_c",
        fit=lambda training: MSP(),
    ),
    Method(
        name="energy", title="Energy", family="logit", needs_train=False, needs_labels=False,
        paper="Liu et al. 2020, Eq. 4", equation="-log sum_c exp(l_c)",
        fit=lambda training: Energy(),
    ),
    Method(
        name="max_logit", title="MaxLogit", family="logit", needs_train=False, needs_labels=False,
        paper="Hendrycks et al. 2022", equation="-max_c l_c",
        fit=lambda training: MaxLogit(),
    ),
    Method(
        name="residual", title="Residual", family="feature", needs_train=True, needs_labels=False,
        paper="Wang et al. 2022, section 4", equation="norm((x - o) R)",
        fit=lambda training: Residual(training.principal_space),
    ),
    Method(
        name="vim", title="ViM", family="feature + logit", needs_train=True, needs_labels=False,
        paper="Wang et al. 2022, section 4", equation="alpha norm((x - o) R) - log sum_c exp(l_c)",
        fit=lambda training: ViM.fit(training.head, training.train, space=training.principal_space),
    ),
)  # fmt: skip

METHOD_NAMES = tuple(method.name for method in METHODS)


def methods_named(names: Sequence[str]) -> tuple[Method, ...]:
    """Return the methods of these names, in the order of the table.

    Raises
    ------
    InputError
        A name is not in the table, or stands twice, or there is none.
    """
    unknown = [name for name in names if name not in METHOD_NAMES]
    if unknown:
        raise InputError(f"method {unknown[0]!r} is not known: expected some of {', '.join(METHOD_NAMES)}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"methods: expected at least one, each once, found {', '.join(names) or 'none'}")
    return tuple(method for method in METHODS if method.name in names)
