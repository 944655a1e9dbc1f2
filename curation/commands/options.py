"""Options that several commands of curation take."""

from pathlib import Path
from typing import Annotated

import typer

from manifests.completion import embeddings_names, words

EngineOption = Annotated[
    str,
    typer.Option(
        help="Where shards run: local, or ray (RAY_ADDRESS names the cluster).",
        autocompletion=words("local", "ray"),
    ),
]
EmbeddingsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Digest or model of the embeddings to use; repeatable; default: all.", autocompletion=embeddings_names
    ),
]
ClassesOption = Annotated[Path | None, typer.Option(help="CSV class_index,name[,wnid]; default: ImageNet-1K.")]
TemplatesOption = Annotated[
    str, typer.Option(help="Prompt ensemble: openai (80) or simple (7).", autocompletion=words("openai", "simple"))
]
ExemplarsOption = Annotated[
    Path | None, typer.Option(help="Example pictures of the classes: <wnid>/ or <class_index>/ folders.")
]
PrototypesOption = Annotated[
    str | None,
    typer.Option(
        help="names, exemplars or fused; default: fused with --exemplars, else names.",
        autocompletion=words("names", "exemplars", "fused"),
    ),
]
MasksOption = Annotated[
    bool, typer.Option("--masks", help="Take what 'localize --dropped' found small in a picture for its risk too.")
]
