"""Every method: the paper's in the order of its Table 2, then what users now compare with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests.errors import InputError
from scoring.methods.ash_b import ASHB
from scoring.methods.ash_p import ASHP
from scoring.methods.ash_s import ASHS
from scoring.methods.contract import Scorer
from scoring.methods.dice import DICE
from scoring.methods.dml import DML
from scoring.methods.dml_plus import DMLPlus
from scoring.methods.energy import Energy
from scoring.methods.fdbd import FDBD
from scoring.methods.gen import GEN
from scoring.methods.gradnorm import GradNorm
from scoring.methods.grouping import MaxGroup, ViMGroup
from scoring.methods.kl_matching import KLMatching
from scoring.methods.knn import KNN
from scoring.methods.mahalanobis import Mahalanobis
from scoring.methods.mahalanobis_pp import MahalanobisPlusPlus
from scoring.methods.max_cosine import MaxCosine
from scoring.methods.max_logit import MaxLogit
from scoring.methods.max_norm import MaxNorm
from scoring.methods.msp import MSP
from scoring.methods.nci import NCI
from scoring.methods.neco import NECO
from scoring.methods.nnguide import NNGuide
from scoring.methods.nusa import NuSA
from scoring.methods.odin import ODIN
from scoring.methods.react import ReAct
from scoring.methods.residual import Residual
from scoring.methods.rmds import RMDS
from scoring.methods.scale import SCALE
from scoring.methods.she import SHE
from scoring.methods.vim import ViM
from scoring.methods.vra import VRA


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
    scorer : type of Scorer
        Its class.
    needs : str
        What it is fitted on: ``head``, ``train`` (training features) or ``train + classes`` (and their labels).
    paper : str
        Authors and year.
    equation : str
        ``ood_score`` in text: features x, logits l, softmax p, origin o, null space R.
    openood : mapping
        Options in which OpenOOD's defaults depart from the authors'; in mode ``openood`` they hold.
    is_openood_on_validation : bool
        Whether OpenOOD fits it on ID validation images in place of training images.
    """

    name: str
    title: str
    family: str
    scorer: type[Scorer]
    needs: str
    paper: str
    equation: str
    openood: Mapping[str, Any] = field(default_factory=dict)
    is_openood_on_validation: bool = False


METHODS = (
    Method("msp", "MSP", "probability", MSP, "head", "Hendrycks and Gimpel 2017", "1 - max_c p_c"),
    Method("energy", "Energy", "logit", Energy, "head", "Liu et al. 2020, Eq. 4", "-log sum_c exp(l_c)"),
    Method("odin", "ODIN", "probability", ODIN, "head", "Liang et al. 2018", "1 - max_c softmax(l / T)_c"),
    Method("max_logit", "MaxLogit", "logit", MaxLogit, "head", "Hendrycks et al. 2022", "-max_c l_c"),
    Method(
        "kl_matching", "KL-Matching", "probability", KLMatching, "train", "Hendrycks et al. 2022",
        "min_c KL(p, mean softmax of images predicted as c)",
        openood={"one_hot_for_unpredicted": True}, is_openood_on_validation=True,
    ),
    Method(
        "residual", "Residual", "feature", Residual, "train", "Wang et al. 2022, section 4", "norm((x - o) R)",
        openood={"dim": 512}, is_openood_on_validation=True,
    ),
    Method("nusa", "NuSA", "feature", NuSA, "head", "Cook et al. 2020", "-norm(W+ W (x - o)) / norm(x - o)"),
    Method(
        "react", "ReAct", "feature + logit", ReAct, "train", "Sun et al. 2021, Eq. 1",
        "energy of W min(x, quantile) + b",
        openood={"quantile": 0.90}, is_openood_on_validation=True,
    ),
    Method(
        "gradnorm", "GradNorm", "feature + logit", GradNorm, "head", "Huang et al. 2021",
        "-sum_c |C p_c - 1| norm_1(x)",
    ),
    Method(
        "mahalanobis", "Mahalanobis", "feature", Mahalanobis, "train + classes", "Lee et al. 2018, Eq. 2",
        "min_c (x - m_c)^T P (x - m_c)",
    ),
    Method(
        "vim", "ViM", "feature + logit", ViM, "train", "Wang et al. 2022, section 4",
        "alpha norm((x - o) R) - log sum_c exp(l_c)",
        openood={"dim": 256},
    ),
    Method(
        "max_group", "MaxGroup", "probability", MaxGroup, "head", "Wang et al. 2022, Table 4",
        "log odds against max_g sum_{c in g} p_c",
    ),
    Method(
        "vim_group", "ViM+Group", "feature + logit", ViMGroup, "train", "Wang et al. 2022, Table 4",
        "log odds against the best group, with the virtual logit",
        openood={"dim": 256},
    ),
    Method(
        "max_cosine", "MaxCosine", "feature + logit", MaxCosine, "head", "Zhang and Xiang 2023, in Eq. 6",
        "-max_c cos(x, w_c)",
    ),
    Method("max_norm", "MaxNorm", "feature", MaxNorm, "head", "Zhang and Xiang 2023, in Eq. 6", "-norm(x)"),
    Method(
        "dml", "DML", "feature + logit", DML, "train", "Zhang and Xiang 2023, Eq. 6",
        "-(lambda max_c cos(x, w_c) + norm(x))",
    ),
    Method(
        "rmds", "RMDS", "feature", RMDS, "train + classes", "Ren et al. 2021, section 2",
        "min_c (x - m_c)^T P (x - m_c) - (x - m)^T P_0 (x - m)",
    ),
    Method(
        "mahalanobis_pp", "Mahalanobis++", "feature", MahalanobisPlusPlus, "train + classes",
        "Mueller and Hein 2025", "min_c (u - m_c)^T P (u - m_c), u = x / norm(x)",
    ),
    Method(
        "knn", "KNN", "feature", KNN, "train", "Sun et al. 2022",
        "distance of x / norm(x) to its k-th nearest",
    ),
    Method(
        "nnguide", "NNGuide", "feature + logit", NNGuide, "train", "Park et al. 2023",
        "-log sum_c exp(l_c) mean of k largest g_i x / norm(x)",
        openood={"k": 100, "rows": "first"},
    ),
    Method(
        "neco", "NECO", "feature + logit", NECO, "train", "Ben Ammar et al. 2024",
        "-norm(P z) / norm(z) max_c l_c, z = (x - mean) / deviation",
    ),
    Method(
        "gen", "GEN", "probability", GEN, "head", "Liu, Lochman and Zach 2023",
        "sum_j (p_j (1 - p_j))^gamma over the largest p_j",
    ),
    Method(
        "she", "SHE", "feature + logit", SHE, "train + classes", "Zhang et al. 2023",
        "-x . mean feature of the predicted class",
    ),
    Method(
        "dice", "DICE", "feature + logit", DICE, "train", "Sun and Li 2022",
        "energy of W x + b without the weights that contribute least",
        openood={"sparsity": 0.90},
    ),
    Method(
        "ash_p", "ASH-P", "feature + logit", ASHP, "head", "Djurisic et al. 2023",
        "energy of W z + b, z the k largest x",
    ),
    Method(
        "ash_b", "ASH-B", "feature + logit", ASHB, "head", "Djurisic et al. 2023",
        "energy of W z + b, z = sum(x) / k for the k largest x",
        openood={"quantile": 0.90},
    ),
    Method(
        "ash_s", "ASH-S", "feature + logit", ASHS, "head", "Djurisic et al. 2023",
        "energy of exp(sum(x) / sum(z)) W z + b, z the k largest x",
    ),
    Method(
        "scale", "SCALE", "feature + logit", SCALE, "head", "Xu, Chen et al. 2024",
        "energy of exp(sum(x) / sum(z)) W x + b, z the k largest x",
    ),
    Method(
        "vra", "VRA", "feature + logit", VRA, "train", "Xu, Lian et al. 2023",
        "energy of W z + b, z = 0 where x < low quantile, else min(x, high quantile)",
        openood={"low_quantile": 0.10, "high_quantile": 0.90, "clips_low": True}, is_openood_on_validation=True,
    ),
    Method(
        "fdbd", "fDBD", "feature + logit", FDBD, "train", "Liu and Qin 2024",
        "-mean_c ((l_p - l_c) / norm(w_p - w_c)) / norm(x - mean), p predicted",
    ),
    Method(
        "nci", "NCI", "feature + logit", NCI, "train", "Liu and Qin 2025",
        "-(x - mean) . w_p / norm(x - mean) - alpha norm_1(x), p predicted",
    ),
)  # fmt: skip

METHOD_NAMES = tuple(method.name for method in METHODS)

TWO_MODEL_METHODS = (
    Method(
        "dml_plus", "DML+", "feature + logit", DMLPlus, "train", "Zhang and Xiang 2023, section 4.3",
        "-(lambda max_c cos(x, w_c) + norm(x')), x' of a second model",
    ),
)  # fmt: skip
"""Methods that take the features of two models of the same images."""

ALL_METHODS = (*METHODS, *TWO_MODEL_METHODS)


def methods_named(names: Sequence[str]) -> tuple[Method, ...]:
    """Return the methods of these names, in the order of the table.

    Raises
    ------
    InputError
        A name is not in the table, or stands twice, or there is none.
    """
    known = [method.name for method in ALL_METHODS]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"method {unknown[0]!r} is not known: expected some of {', '.join(known)}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"methods: expected at least one, each once, found {', '.join(names) or 'none'}")
    return tuple(method for method in ALL_METHODS if method.name in names)
