"""What a run of `export` would write, told without writing it."""

from collections.abc import Sequence
from pathlib import Path

from manifests.exporters.export import checked_format
from manifests.exporters.exported_set import ExportedSet
from manifests.work_plan import WorkPlan, size_in_words


def plan_export(export: ExportedSet, formats: Sequence[str], out_dir: Path, *, pictures: bool = False) -> WorkPlan:
    """Return the folders that would be written, and how many pictures of how many bytes go into each.

    Raises
    ------
    InputError
        A format is unknown.
    """
    sizes = [path.stat().st_size for path in (export.pictures or {}).values() if path.is_file()]
    replaced = [str(out_dir / name) for name in formats if (out_dir / name).exists()]
    notes = [f"{', '.join(replaced)}: in place of what is there"] if replaced else []
    with_pictures = [name for name in formats if pictures or checked_format(name).needs_pictures]
    if with_pictures:
        notes.append(f"with pictures: {', '.join(with_pictures)}")
        notes.append(
            f"pictures: {len(sizes):,} of {len(export.records):,} are here, {size_in_words(sum(sizes))} a format, "
            "as hard links where that is possible"
        )
        if len(sizes) < len(export.records):
            notes.append("pictures that are not here stop an export: run 'download' first")
    return WorkPlan(
        len(export.records), 0, reads=[f"{export.name}-{export.version}"],
        writes=[str(out_dir / name) for name in formats],
        notes=notes,
    )  # fmt: skip
