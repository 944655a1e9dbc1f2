"""Against the ViM authors' own code, run on the sets of ../shared/reference (see its README)."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import special
from sklearn.covariance import EmpiricalCovariance

from scoring.feature_sets import open_feature_set
from scoring.heads import read_head
from scoring.score import score

AUTHORS_NAMES = {"msp": "MSP", "max_logit": "MaxLogit", "energy": "Energy", "residual": "Residual", "vim": "ViM"}
OOD_SETS = ("far", "near", "texture", "mix")


@pytest.fixture(scope="module", params=["tiny_seed0", "tiny_seed1", "small_seed0"])
def reference(request, shared, tmp_path_factory):
    """Folder of features, the authors' figures, and ours."""
    folder = shared / "reference" / request.param
    if not (folder / "expected.json").is_file():
        pytest.skip(f"reference numbers are not at hand: {folder} is absent")
    result = score(folder, ood_sets=OOD_SETS, out_dir=tmp_path_factory.mktemp("scores"), device="cpu")
    return folder, json.loads((folder / "expected.json").read_text()), result


def arrays(folder, set_name: str) -> np.ndarray:
    return np.concatenate([batch.features.numpy() for batch in open_feature_set(folder, set_name)])


def authors_scores(folder, dim: int) -> dict[str, dict[str, np.ndarray]]:
    """The formulas of the authors' `benchmark.py` in float32 numpy, ID-high, by method and set."""
    head = read_head(folder)
    weight, bias = head.weight.numpy(), head.bias.numpy()
    origin = -np.matmul(np.linalg.pinv(weight), bias)
    train = arrays(folder, "train")
    covariance = EmpiricalCovariance(assume_centered=True).fit(train - origin).covariance_
    eigenvalues, eigenvectors = np.linalg.eig(covariance)
    null_space = eigenvectors.T[np.argsort(eigenvalues * -1)[dim:]].T
    residual = {}
    logits = {}
    for name in ("train", "val", *OOD_SETS):
        features = arrays(folder, name)
        residual[name] = np.linalg.norm(np.matmul(features - origin, null_space), axis=-1)
        logits[name] = features @ weight.T + bias
    alpha = logits["train"].max(axis=-1).mean() / residual["train"].mean()
    energy = {name: special.logsumexp(values, axis=-1) for name, values in logits.items()}
    return {
        "msp": {name: special.softmax(values, axis=-1).max(axis=-1) for name, values in logits.items()},
        "max_logit": {name: values.max(axis=-1) for name, values in logits.items()},
        "energy": energy,
        "residual": {name: -values for name, values in residual.items()},
        "vim": {name: energy[name] - alpha * residual[name] for name in energy},
    }


@pytest.mark.parametrize("ood_set", OOD_SETS)
@pytest.mark.parametrize("method", AUTHORS_NAMES)
def test_figures_equal_those_of_the_authors_code(reference, method, ood_set):
    _, expected, result = reference
    authors = expected["results"][AUTHORS_NAMES[method]][ood_set]
    found = result.figures[method, ood_set]
    assert found.auroc == pytest.approx(authors["auroc"], abs=2e-5)
    assert found.fpr95_in == pytest.approx(authors["fpr95"], abs=1.01 / result.n_images[ood_set])
    # The authors' AUPRs are of float32 scores, where more images tie.
    assert found.aupr_in == pytest.approx(authors["aupr_in"], abs=1e-4)
    assert found.aupr_out == pytest.approx(authors["aupr_out"], abs=1e-4)


def test_alpha_and_dimension_equal_those_of_the_authors_code(reference):
    _, expected, result = reference
    assert result.dim == expected["dim"]
    # The head in the file is the authors' rounded to float16, which moves the logits by up to 1e-3.
    assert result.alpha == pytest.approx(expected["alpha"], rel=2e-5)


def test_scores_equal_the_authors_formulas_on_the_same_arrays(reference):
    folder, expected, result = reference
    table = pq.read_table(result.scores_path)
    for method, by_set in authors_scores(folder, expected["dim"]).items():
        for name in ("val", *OOD_SETS):
            ours = table.filter(np.asarray(table["set"]) == name)[method].to_numpy()
            theirs = 1 - by_set[name] if method == "msp" else -by_set[name]
            np.testing.assert_allclose(ours, theirs, atol=5e-4 * theirs.std(), err_msg=f"{method} {name}")
