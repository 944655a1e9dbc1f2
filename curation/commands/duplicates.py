"""`duplicates` and `leaks`: pictures that show one photograph, among the candidates and in other sets."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.commands.options import EngineOption
from manifests.commands.options import DEFAULT_WORKSPACE, DeviceOption, WorkspaceOption
from manifests.commands.summary import announce, counted
from manifests.completion import embeddings_names
from manifests.errors import InputError

if TYPE_CHECKING:
    from curation.duplicates.rules import DuplicateRules

ProposingOption = Annotated[
    str | None,
    typer.Option(help="Digest of the embeddings that propose pairs too.", autocompletion=embeddings_names),
]
AgreementOption = Annotated[
    float | None, typer.Option(help="Least agreement, 0 to 1, of two pictures laid over each other; default 0.7.")
]
SimilarityOption = Annotated[
    float | None,
    typer.Option(help="Least cosine of a pair that is looked at; default: by the embeddings' source."),
]
BitsOption = Annotated[
    int | None, typer.Option(help="Most differing bits, of 64, of a pair that is looked at; default: by number.")
]
CropsOption = Annotated[
    bool | None,
    typer.Option("--crops/--no-crops", help="Look for crops by hash too; default: up to 20,000 pictures."),
]
ReadersOption = Annotated[int | None, typer.Option(help="Processes that read pictures; default: one a core.")]


def duplicate_rules(
    least_agreement: float | None, least_similarity: float | None, most_bits: int | None, crops: bool | None
) -> "DuplicateRules":
    """Return what two pictures must share to show one photograph, of the options of these names."""
    from curation.duplicates.rules import DuplicateRules

    rules = DuplicateRules(most_bits=most_bits, least_similarity=least_similarity, has_crops=crops)
    return rules if least_agreement is None else replace(rules, least_agreement=least_agreement)


def duplicates(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    embeddings: ProposingOption = None,
    least_agreement: AgreementOption = None,
    least_similarity: SimilarityOption = None,
    most_bits: BitsOption = None,
    crops: CropsOption = None,
    workers: ReadersOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "local",
) -> None:
    """Find pictures that show the same photograph, by bytes, hash and embedding; `screen` does so by itself.

    \b
    Example: python cli.py duplicates --workspace workspace
    """
    from curation.duplicates.find import mark_duplicates
    from curation.engine.engine import cluster_engine
    from manifests.workspace import Workspace

    rules = duplicate_rules(least_agreement, least_similarity, most_bits, crops)
    with cluster_engine(engine) as cluster:
        counts = mark_duplicates(
            Workspace(workspace), rules, embeddings=embeddings, device=device,
            n_workers=workers or os.cpu_count() or 1, engine=cluster,
        )  # fmt: skip
    counted("duplicates", counts)


def leaks(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of pictures, or workspace, of another set; repeatable; later runs keep it."),
    ] = None,
    against_list: Annotated[
        list[Path] | None, typer.Option(help="List of another set's Open Images ids; repeatable.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="CSV image_id,other,is_same: choose the least agreement on these.")
    ] = None,
    least_precision: Annotated[float, typer.Option(help="With --pairs: what the bound must reach.")] = 0.99,
    embeddings: ProposingOption = None,
    least_agreement: AgreementOption = None,
    least_similarity: SimilarityOption = None,
    most_bits: BitsOption = None,
    crops: CropsOption = None,
    workers: ReadersOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Find candidates that are in another data set too, such as ImageNet's own pictures; `screen` drops them.

    \b
    Example: python cli.py leaks --against imagenet/val --against-list openimage_o.txt --workspace workspace
    """
    from curation.duplicates.leaks import OtherSets, check_sets, find_leaks
    from manifests.workspace import Workspace

    space = Workspace(workspace)
    rules = duplicate_rules(least_agreement, least_similarity, most_bits, crops)
    n_workers = workers or os.cpu_count() or 1
    others = OtherSets(against or (), against_list or ())
    # Before the pairs, whose pictures are read.
    check_sets(space, others)
    if pairs is not None:
        from curation.duplicates.labelled_pairs import bound_of_pairs

        if least_agreement is not None:
            raise InputError("leaks: --pairs chooses what --least-agreement gives; expected one of them")
        bound, table = bound_of_pairs(space, pairs, least_precision)
        print(table)
        rules = replace(rules, least_agreement=bound)
    counts = find_leaks(
        space, others, rules, embeddings=embeddings, device=device, n_workers=n_workers, announce=announce
    )
    counted("leaks", counts)
