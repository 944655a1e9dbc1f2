"""The sections of frozen manifests: what each is, what is in it, what is known of its errors, and its pictures."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from manifests import schema
from manifests.certified import certificate_for
from manifests.errors import TableError, one_line
from manifests.exporters.attribution import license_name
from manifests.frozen import Manifest, find_manifest, frozen_folders, read_header, read_manifest
from manifests.report.parts import Card, CardPicture, Gallery, Part, Section, Table, Text
from manifests.report.set_charts import aspect_chart, size_chart
from manifests.report.set_contents import contents_parts, label_names
from manifests.tombstones import Tombstones, read_tombstones
from manifests.versions import parse_version
from manifests.workspace import Workspace

_MOST_STRATA = 20


def manifest_sections(workspace: Workspace, name: str | None = None) -> list[Section]:
    """Return a section a set: that of `name`, or the newest version of each.

    Parameters
    ----------
    workspace : Workspace
        What is reported.
    name : str, optional
        ``<name>-<X.Y.Z>``.

    Raises
    ------
    InputError
        There is no manifest of this name.
    TableError
        A manifest, or a table that it is told with, is damaged.
    """
    headers = [read_header(folder) for folder in frozen_folders(workspace.manifests_dir)]
    if not headers and name is None:
        missing = "No manifest is frozen yet: `python cli.py build-manifest` freezes the images agreed to be out."
        return [Section("manifest", "Manifest", missing=missing)]
    if name is not None:
        chosen = [find_manifest(workspace.manifests_dir, name)]
    else:
        newest = {header["name"]: header for header in sorted(headers, key=_version)}
        folders = [f"{one}-{newest[one]['version']}" for one in sorted(newest)]
        chosen = [read_manifest(workspace.manifests_dir / folder) for folder in folders]
    return [_section(workspace, manifest, headers, len(chosen) > 1) for manifest in chosen]


def _version(header: Mapping[str, Any]) -> tuple[int, int, int]:
    return parse_version(header["version"])


def _section(
    workspace: Workspace, manifest: Manifest, headers: Sequence[Mapping[str, Any]], is_one_of_many: bool
) -> Section:
    tombstones = read_tombstones(workspace)
    records, header = manifest.records, manifest.header
    certificate, problem = _certificate(workspace, manifest)
    rows = records.to_pylist()
    labels = workspace.read(schema.LABELS) if workspace.has(schema.LABELS) else None
    key = f"manifest-{manifest.name}".lower().replace("_", "-").replace(".", "-") if is_one_of_many else "manifest"
    parts: list[Part] = [
        _identity(workspace, manifest, sum(row["image_id"] in tombstones for row in rows)),
        *certificate,
        *contents_parts(labels, records),
    ]
    sizes = [(row["width_px"], row["height_px"]) for row in rows if row["width_px"] and row["height_px"]]
    if sizes:
        parts += [size_chart(sizes, key), aspect_chart(sizes, key)]
    else:
        parts.append(Text("No picture of it has been downloaded here, so that no size is known.", is_quiet=True))
    parts += [
        _counted(
            rows,
            lambda row: license_name(row["license_url"]) or "not known",
            "Licence",
            "Licences, as the metadata of Open Images list them.",
        ),
        _counted(rows, lambda row: row["split"], "Split", "Splits."),
        *_strata_parts(labels, rows),
        *_left_out_parts(header),
        *_versions_parts(manifest.name, headers),
        _gallery(workspace, manifest, rows, tombstones),
    ]
    return Section(key, f"Manifest {manifest.name} {header['version']}", parts, problem=problem)


def _identity(workspace: Workspace, manifest: Manifest, n_retired: int) -> Table:
    header = manifest.header
    rows = [
        ("Images", f"{manifest.records.num_rows:,}"),
        *([("Withdrawn since it was frozen", f"{n_retired:,}")] if n_retired else []),
        ("Digest of its records", header["content_sha256"]),
        ("Merkle root", str(header.get("merkle_root", ""))),
        ("Built again by, beside the workspace", _rebuild_command(workspace, header)),
        ("Made by version", str(header.get("tool_version", ""))),
    ]
    return Table(("What", "Value"), rows, "The set.")


def _rebuild_command(workspace: Workspace, header: Mapping[str, Any]) -> str:
    """Return the header's command for this version: the header names neither a version nor a place.

    The workspace is given by its own name, as in the page's title: a copy elsewhere has the same page.
    """
    words = shlex.split(str(header.get("rebuild", "")))
    if not words:
        return ""
    if "--version" in words[:-1]:
        words[words.index("--version") + 1] = str(header["version"])
    return shlex.join([*words, "--workspace", workspace.root.resolve().name])


def _certificate(workspace: Workspace, manifest: Manifest) -> tuple[list[Part], str | None]:
    """Return what an audit says of a set, and what is wrong with the certificate where it cannot be believed.

    The header states what was known when the set was frozen; an audit that ended later stands in a file.
    """
    found, problem = manifest.header.get("certificate"), None
    try:
        found = found or certificate_for(workspace, manifest.records)
    except TableError as error:
        problem = one_line(error)
    if found is None:
        text = (
            "How many of its images are in-distribution after all is not known: no audit of it has ended. "
            "`python cli.py audit plan` draws a blind sample."
        )
        return [Text(text)], problem
    return [Text(_certificate_text(found)), _certificate_table(found)], problem


def _certificate_text(found: Mapping[str, Any]) -> str:
    """Return what is certified, of which set: a version that leaves images out has a bound of its own."""
    n_removed, audited = int(found["n_removed_since"]), found["manifest"]
    outcome = "certified" if found["is_certified"] else "not certified"
    goal = f"{outcome}: at most {_percent(found['bound'])} of the audited set"
    whole = f"the {found['n_images']:,} images of {audited}" if n_removed else "these images"
    told = (
        f"Contamination: with a confidence of {_percent(found['confidence'])}, at most "
        f"{found['upper_bound']:.4%} of {whole} are in-distribution ({goal}). An audit drew "
        f"{found['n_sample']:,} of {found['n_images']:,} images blindly and found {found['n_defects']:,} such."
    )
    if not n_removed:
        return told
    return (
        f"{told} This version leaves out {n_removed:,} of the audited images, "
        f"{found['n_defects_removed_since']:,} of them defects that it found. Of this version at most "
        f"{found['upper_bound_here']:.4%} are, whichever images were left out."
    )


def _certificate_table(found: Mapping[str, Any]) -> Table:
    n_removed = int(found["n_removed_since"])
    outcome = "certified" if found["is_certified"] else "not certified"
    rows = [
        ("Audit", str(found["audit"])),
        ("The audited set", f"{found['manifest']}, {found['n_images']:,} images"),
        ("Sample", f"{found['n_sample']:,} images"),
        ("Defects found", f"{found['n_defects']:,}"),
        ("Answered difficult", f"{found['n_difficult']:,}"),
        ("Confidence, one-sided", f"{found['confidence']:.2%}"),
        ("Confidence of all its audits together", f"{found['confidence_of_all']:.2%}"),
        ("Share of defects of the audited set, at most", f"{found['upper_bound']:.4%}"),
        ("The same, difficult counted too", f"{found['upper_bound_with_difficult']:.4%}"),
        ("Goal for the audited set", f"at most {_percent(found['bound'])}: {outcome}"),
    ]
    if n_removed:
        rows += [
            ("Audited images that this version leaves out", f"{n_removed:,}"),
            ("Share of defects of this version, at most", f"{found['upper_bound_here']:.4%}"),
        ]
    return Table(("What", "Value"), rows, "Certificate.")


def _percent(share: float) -> str:
    """Return a share as a percentage without the digits that a goal or a confidence does not have."""
    return f"{100 * share:.6g}%"


def _counted(
    rows: Sequence[Mapping[str, Any]], word_of: Callable[[Mapping[str, Any]], str], what: str, caption: str
) -> Table:
    counts = Counter(word_of(row) for row in rows)
    shown = [(word, f"{n:,}", f"{n / len(rows):.1%}") for word, n in _by_count(counts)]
    return Table((what, "Images", "Share"), shown, caption, frozenset({1, 2}))


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _strata_parts(labels: pa.Table | None, rows: Sequence[Mapping[str, Any]]) -> list[Part]:
    known = [row for row in rows if row["strata"] is not None]
    if not known:
        return []
    names = {} if labels is None else label_names(labels)
    ordered = _by_count(Counter(_readable(row["strata"], names) for row in known))
    caption = (
        "Strata: the third of its risk among all that was to be reviewed, and what Open Images says it shows."
    )
    if len(ordered) > _MOST_STRATA:
        rest = sum(n for _, n in ordered[_MOST_STRATA:])
        caption += f" The {_MOST_STRATA} largest of {len(ordered):,}; the others have {rest:,} images."
    shown = [(word, f"{n:,}", f"{n / len(rows):.1%}") for word, n in ordered[:_MOST_STRATA]]
    return [Table(("Stratum", "Images", "Share"), shown, caption, frozenset({1, 2}))]


def _readable(stratum: str, names: Mapping[str, str]) -> str:
    before, mark, label = stratum.partition("label=")
    told = before.replace("risk=", "").strip() + " risk"
    return f"{told}, {names.get(label, label)}" if mark else told


def _left_out_parts(header: Mapping[str, Any]) -> list[Part]:
    left_out = header.get("left_out") or {}
    if not left_out:
        return []
    shown = [(reason.replace("_", " "), f"{n:,}") for reason, n in _by_count(left_out)]
    return [
        Table(("Reason", "Images"), shown, "What it was chosen from and does not hold, and why.", frozenset({1}))
    ]


def _versions_parts(name: str, headers: Sequence[Mapping[str, Any]]) -> list[Part]:
    own = sorted((header for header in headers if header["name"] == name), key=_version)
    if len(own) < 2:
        return []
    shown = [
        (str(header["version"]), f"{header['counts']['images']:,}", str(header["content_sha256"]))
        for header in own
    ]
    return [Table(("Version", "Images", "Digest"), shown, "All versions of the set.", frozenset({1}))]


def _gallery(
    workspace: Workspace, manifest: Manifest, rows: Sequence[Mapping[str, Any]], tombstones: Tombstones
) -> Gallery:
    rotations: dict[str, int | None] = {}
    if workspace.has(schema.CANDIDATES):
        columns = workspace.read(schema.CANDIDATES).select(["image_id", "rotation_deg"]).to_pydict()
        rotations = dict(zip(columns["image_id"], columns["rotation_deg"], strict=True))
    cards = [_card(workspace, row, rotations.get(row["image_id"]), tombstones) for row in rows]
    caption = f"All {len(cards):,} images by id, each with its author and licence; `source` leads to its own page."
    return Gallery(f"All images of {manifest.name}", cards, caption)


def _card(workspace: Workspace, row: Mapping[str, Any], rotation_deg: int | None, tombstones: Tombstones) -> Card:
    image_id = row["image_id"]
    if image_id in tombstones:
        # Withdrawn is withdrawn: neither the picture nor its author's name is shown any more.
        return Card((), (image_id, f"withdrawn: {tombstones[image_id].reason}"))
    picture = CardPicture(workspace.root / workspace.relative_image_path(image_id), image_id, rotation_deg)
    credit = " by ".join(row[word] for word in ("title", "author") if row[word]) or "author not known"
    size = f", {row['width_px']} x {row['height_px']} px" if row["width_px"] else ""
    licence = license_name(row["license_url"]) or "licence not known"
    return Card((picture,), (image_id, credit, licence, f"{row['split']}{size}"), row["landing_url"])
