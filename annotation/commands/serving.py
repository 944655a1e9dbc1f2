"""`annotate` and `browse`: the FiftyOne App, for those who answer and for a curator."""

from pathlib import Path
from typing import Annotated

import typer

from manifests.commands.options import DEFAULT_WORKSPACE, WorkspaceOption
from manifests.completion import embeddings_names, words

AddressOption = Annotated[str, typer.Option(help="IP address to listen on; not encrypted.")]
PortOption = Annotated[int, typer.Option(help="Port of the App; 0: the usual one of this workspace.")]
OpenBrowserOption = Annotated[bool, typer.Option("--open-browser", help="Open the page in the browser.")]


def annotate(
    annotator: Annotated[list[str], typer.Option(help="Who answers; names the decisions log; repeatable.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    queue: Annotated[
        str,
        typer.Option(
            help="first, dispute, inspection, gold or audit.",
            autocompletion=words("first", "inspection", "dispute", "gold", "audit"),
        ),
    ] = "first",
    votes: Annotated[
        int | None,
        typer.Option(help="How many annotators answer each picture; default: as for the last consensus, or 2."),
    ] = None,
    order: Annotated[
        str, typer.Option(help="risk (riskiest first) or random.", autocompletion=words("risk", "random"))
    ] = "risk",
    seed: Annotated[int, typer.Option(help="Of the random order, of shares and of gold.")] = 0,
    team: Annotated[str, typer.Option(help="ann,ben,cem: all who share out the first round.")] = "",
    gold_share: Annotated[float, typer.Option(help="Share of pictures with a known answer mixed in.")] = 0.05,
    sample: Annotated[int | None, typer.Option(help="Pictures of a new inspection round.")] = None,
    own_disputes: Annotated[
        bool, typer.Option("--own-disputes", help="Rule also on disputes in which the adjudicator voted.")
    ] = False,
    examples: Annotated[
        Path | None, typer.Option(help="Example pictures: <class_index>/ or <wnid>/ folders.")
    ] = None,
    guideline: Annotated[
        Path | None, typer.Option(help="Instructions in Markdown; default: those of the toolkit.")
    ] = None,
    address: AddressOption = "127.0.0.1",
    port: PortOption = 0,
    open_browser: OpenBrowserOption = False,
) -> None:
    """Serve a queue of pictures to one or more annotators in the FiftyOne App.

    \b
    Example: python cli.py annotate --annotator ana --workspace workspace
    """
    from annotation import annotate as serving
    from annotation.serving import Place
    from manifests.workspace import Workspace

    names = tuple(filter(None, team.split(",")))
    choice = serving.QueueChoice(queue, votes, order, seed, names, gold_share, sample, own_disputes)
    sessions = serving.annotate(
        Workspace(workspace),
        annotator,
        choice,
        examples_dir=examples,
        guideline_path=guideline or serving.GUIDELINE_PATH,
        place=Place(address, port),
        open_browser=open_browser,
    )
    for session in sessions:
        print(f"annotate: {session.annotator_id} answered {session.n_answered:,}, {session.n_left:,} left")


def browse(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    embeddings: Annotated[
        str | None,
        typer.Option(
            help="Digest or model of the embeddings; default: those of CLIP.", autocompletion=embeddings_names
        ),
    ] = None,
    map_method: Annotated[
        str,
        typer.Option(
            "--map",
            help="Map of the embeddings: pca, or umap (needs umap-learn).",
            autocompletion=words("pca", "umap"),
        ),
    ] = "pca",
    address: AddressOption = "127.0.0.1",
    port: PortOption = 0,
    open_browser: OpenBrowserOption = False,
) -> None:
    """Show a curator all pictures and all that is known of them in the FiftyOne App.

    \b
    Example: python cli.py browse --workspace workspace
    """
    from annotation.browse import browse as serve
    from annotation.serving import Place
    from manifests.workspace import Workspace

    n_pictures = serve(
        Workspace(workspace), embeddings=embeddings, map_method=map_method, place=Place(address, port),
        open_browser=open_browser,
    )  # fmt: skip
    print(f"browse: {n_pictures:,} pictures")
