"""`score` and `plot`: how well methods tell out-of-distribution pictures, in tables and in pictures."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manifests.commands.options import DEFAULT_WORKSPACE, DeviceOption, WorkspaceOption, pairs, recorded_arguments
from manifests.completion import features_names, names_below, words
from manifests.errors import InputError
from manifests.run_report import current_report

if TYPE_CHECKING:
    from scoring.contamination import Contamination

# The methods that have a principal space.
_ON_SPACE = ("residual", "vim", "vim_group")


def method_names() -> list[str]:
    """Return the names of the methods out of their table as it is written: to import it takes seconds."""
    table = ast.parse((Path(__file__).parents[1] / "methods" / "table.py").read_text(encoding="utf-8"))
    calls = [one for one in ast.walk(table) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
    return [str(ast.literal_eval(one.args[0])) for one in calls if ast.unparse(one.func) == "Method" and one.args]


def score(
    context: typer.Context,
    ood: Annotated[list[str], typer.Option(help="An OOD set of the folder; may be given several times.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Folder of sets and head; default: the workspace's only one.", autocompletion=features_names
        ),
    ] = None,
    second_features: Annotated[
        Path | None, typer.Option(help="Folder of the same sets by a second model, for dml_plus: MNC beside MCF.")
    ] = None,
    train: Annotated[str, typer.Option(help="In-distribution set that methods are fitted on.")] = "train",
    val: Annotated[str, typer.Option(help="In-distribution set that is scored.")] = "val",
    fit_val: Annotated[
        str | None, typer.Option(help="In-distribution set that mode openood fits some methods on.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: <workspace>/scores/<model>.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="A method; may be given several times; default: all that can be fitted.",
            autocompletion=method_names,
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="Whose settings: authors or openood.", autocompletion=words("authors", "openood"))
    ] = "authors",
    option: Annotated[list[str] | None, typer.Option(help="METHOD.OPTION=VALUE, e.g. react.quantile=0.9.")] = None,
    dim_rule: Annotated[
        str | None,
        typer.Option(
            help="D of the principal space: repo (the default) or paper.", autocompletion=words("repo", "paper")
        ),
    ] = None,
    dim: Annotated[int | None, typer.Option(help="D itself, instead of a rule.")] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV class_index,group, for max_group and vim_group.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Draws of the 95 % intervals; 0 for none.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    baseline: Annotated[
        str | None,
        typer.Option(help="Method to compare the others with, image by image.", autocompletion=method_names),
    ] = None,
    contamination: Annotated[
        list[str] | None,
        typer.Option(
            help="[SET=]RATE[,LOW,HIGH] or K/N of an OOD set that is really ID, or its certificate.json."
        ),
    ] = None,
    known_in: Annotated[
        Path | None, typer.Option(help="List of image ids known to be ID: figures with and without them.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Score a classifier on OOD sets with the ViM suite: AUROC, AUPR and both FPR95, with intervals.

    \b
    Example: python cli.py score --features workspace/features/resnet50.tv_in1k --ood openimage_o --out scores
    """
    from manifests.image_ids import read_image_ids
    from manifests.workspace import Workspace
    from scoring.groups import read_groups
    from scoring.heads import read_head
    from scoring.score import score as score_sets
    from scoring.score_plan import plan_score
    from scoring.score_settings import FigureSettings, FitSettings, SetNames
    from scoring.tables import results_data, results_table

    folder = Workspace(workspace).find_features(features)
    if second_features is not None:
        second_features = Workspace(workspace).find_features(second_features)
    # Results of two models are of both.
    results_name = ".".join(one.name for one in (folder, second_features) if one is not None)
    out_dir = out or Workspace(workspace).scores_dir / results_name
    by_default = ("residual", "vim", *(["vim_group"] if groups else []))
    on_space = by_default if method is None else [one for one in _ON_SPACE if one in method]
    options = _method_options(option or (), {"dim_rule": dim_rule, "dim": dim}, on_space)
    fit = FitSettings(mode, options, read_groups(groups, read_head(folder).n_classes) if groups else None)
    known_ids = list(read_image_ids(known_in)) if known_in else []
    figures = FigureSettings(bootstrap, seed, baseline, known_ids, _contaminations(contamination or (), ood))
    # Away from a workspace, the folder of results keeps its own record.
    recorder = Workspace(workspace if out is None else out)
    names = SetNames(tuple(ood), val, train or None, fit_val or None)
    if current_report().is_dry_run:
        plan = plan_score(folder, names, out_dir, methods=method, second_dir=second_features)
        current_report().plan = plan.recorded_as(recorder.root, f"score.{results_name}")
        return
    files = ["head.safetensors", *(f"{name}.parquet" for name in (*names.of_id, *names.ood))]
    inputs = [one / file for one in (folder, second_features) if one is not None for file in files]
    inputs += [path for path in (groups, known_in) if path is not None]
    with recorder.stage("score", recorded_arguments(context), inputs, record_as=f"score.{results_name}") as record:
        result = score_sets(
            folder, names, out_dir, methods=method, fit=fit, figures=figures, device=device,
            second_dir=second_features,
        )  # fmt: skip
        record.counts = dict(result.n_images)
    current_report().data = results_data(result)
    print(results_table(result))
    print("score: " + ", ".join(map(str, result.paths)))


def _method_options(
    given: Sequence[str], of_space: Mapping[str, str | int | None], on_space: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the options of each method: those given for it, and those of the principal space for who has one."""
    from scoring.methods.fitting import options_from_text

    options = options_from_text(list(pairs(given, "--option").items()))
    for name, value in of_space.items():
        if value is not None and not on_space:
            raise InputError(f"--{name.replace('_', '-')}: none of residual, vim and vim_group is asked for")
        for method in on_space if value is not None else ():
            options.setdefault(method, {}).setdefault(name, value)
    return options


def _contaminations(given: Sequence[str], ood: Sequence[str]) -> "dict[str, Contamination]":
    """Return the contamination of each OOD set that is given one."""
    from scoring.contamination import parse_contamination

    rates: dict[str, Contamination] = {}
    # Those of one set after those of all, whatever their order on the command line.
    for value in sorted(given, key=lambda value: "=" in value):
        name, equals, text = value.rpartition("=")
        rates |= {one: parse_contamination(text) for one in ([name] if equals else ood)}
    return rates


def plot(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Folder of results; default: the workspace's only one.",
            autocompletion=names_below("scores", "*/scores.parquet"),
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: plots/ in the folder of results.")] = None,
    val: Annotated[str, typer.Option(help="The in-distribution set.")] = "val",
    method: Annotated[
        list[str] | None,
        typer.Option(help="A method; may be given several times; default: all.", autocompletion=method_names),
    ] = None,
    against: Annotated[str | None, typer.Option(help="OOD set on the horizontal axis of the comparison.")] = None,
    file_format: Annotated[
        str, typer.Option("--format", help="png, svg or pdf.", autocompletion=words("png", "svg", "pdf"))
    ] = "png",
) -> None:
    """Plot scores: a histogram a method, ROC curves a set, and the AUROC of one set against another.

    \b
    Example: python cli.py plot --scores workspace/scores/resnet50.tv_in1k
    """
    from manifests.workspace import Workspace
    from scoring.plots.plot import plan_plots, plot_results

    folder = Workspace(workspace).find_scores(scores)
    out_dir = out or folder / "plots"
    chosen: dict[str, Any] = {"val": val, "methods": method, "against": against, "file_format": file_format}
    if current_report().is_dry_run:
        current_report().plan = plan_plots(folder, out_dir, **chosen)
        return
    result = plot_results(folder, out_dir, **chosen)
    print(f"plot: {len(result.paths)} pictures in {out_dir}")
    for reason in result.left_out:
        print(f"  left out: {reason}")
