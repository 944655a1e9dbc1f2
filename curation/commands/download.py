"""`download`: the pictures of the candidates, from a mirror or out of an official archive."""

from pathlib import Path
from typing import Annotated

import typer

from curation.commands.options import EngineOption
from manifests.commands.options import (
    DEFAULT_WORKSPACE,
    AllowPrivateOption,
    ProxyOption,
    WorkspaceOption,
    refuse_without_effect,
)
from manifests.commands.summary import announce, counted
from manifests.completion import words
from manifests.run_report import current_report

# What only requests need.
_REQUESTING = (
    "base_url", "allow_private", "allow_host", "workers", "rate", "deadline", "proxy", "ca_bundle", "contact",
)  # fmt: skip


def download(
    context: typer.Context,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    base_url: Annotated[str | None, typer.Option(help="A mirror with pictures at URL/<subset>/<id>.jpg.")] = None,
    allow_private: AllowPrivateOption = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Also ask this host: NAME, NAME:PORT or *.DOMAIN.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Requests to one host at a time.")] = 16,
    rate: Annotated[float, typer.Option(help="Most requests a second to one host.")] = 2000.0,
    deadline: Annotated[float, typer.Option(help="Seconds for one picture, retries and waits included.")] = 120.0,
    proxy: ProxyOption = None,
    ca_bundle: Annotated[Path | None, typer.Option(help="Certificates to trust, beside no others.")] = None,
    contact: Annotated[str | None, typer.Option(help="URL or address that the User-Agent names.")] = None,
    retry: Annotated[
        list[str] | None,
        typer.Option(
            help="Fetch images of this status again, e.g. failed.",
            autocompletion=words(
                "missing", "placeholder", "not_an_image", "undecodable", "too_large", "refused", "failed"
            ),
        ),
    ] = None,
    from_tar: Annotated[
        list[Path] | None, typer.Option(help="Take the pictures from this official archive instead.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read stored pictures again; replace what has changed.")
    ] = False,
    max_failures: Annotated[
        float, typer.Option(help="Largest share of images without a picture; above it, exit 1.")
    ] = 0.05,
    wait: Annotated[bool, typer.Option("--wait", help="Wait where another process is at work here.")] = False,
    engine: EngineOption = "local",
) -> None:
    """Download every candidate that is not there yet, with a status and a reason for each.

    \b
    Example: python cli.py download --workspace workspace --retry failed
    """
    from curation.download import check_arguments, download_pictures
    from curation.download_plan import DownloadRequest, plan_download
    from curation.engine.engine import cluster_engine
    from curation.fetch import FetchPolicy
    from manifests.workspace import Workspace

    if from_tar:
        refuse_without_effect(context, "with --from-tar", _REQUESTING)
    policy = FetchPolicy(
        allow_private=allow_private, host_requests_per_s=rate, deadline_s=deadline, proxy=proxy,
        ca_bundle=str(ca_bundle) if ca_bundle else None, contact=contact,
        allowed_hosts=FetchPolicy.allowed_hosts | set(allow_host or ()),
    )  # fmt: skip
    if current_report().is_dry_run:
        check_arguments(workers, retry or (), max_failures)
        request = DownloadRequest(base_url, tuple(from_tar or ()), frozenset(retry or ()), verify)
        current_report().plan = plan_download(Workspace(workspace), request).recorded_as(workspace, "download")
        return
    with cluster_engine(engine) as cluster:
        counts = download_pictures(
            Workspace(workspace, announce_wait=announce if wait else None), base_url=base_url, policy=policy,
            n_workers=workers, retry=retry or (), max_failures=max_failures, verify=verify,
            tar_paths=from_tar or (), engine=cluster, announce=announce,
        )  # fmt: skip
    current_report().written += [workspace / "images", workspace / "downloads.jsonl"]
    counted("download", counts)
