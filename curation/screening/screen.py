"""The stage `screen`: which pictures go to the annotators, with which ten classes, in which order."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.duplicates.find import find_duplicates
from curation.duplicates.leaks import leaked_images
from curation.duplicates.rules import DuplicateRules
from curation.imagenet_classes import imagenet_classes
from curation.labels import VerifiedClasses, verified_classes
from curation.screening.calibration import Calibration
from curation.screening.checks import CHECKS
from curation.screening.evidence import HIGHEST_COSINE, NUMBER_NAMES
from curation.screening.gather import Gathered, gather, number_names, unreadable_reasons
from curation.screening.operating_point import OperatingPoint, check_max_lost
from curation.screening.quality import flagged_images
from curation.screening.small_masks import check_masks, mask_files, read_small_masks
from curation.screening.sources import ClassSource
from manifests import schema
from manifests.errors import InputError
from manifests.label_space import ClassName, write_label_space
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace


@dataclass(frozen=True)
class ScreenRules:
    """What is dropped.

    Attributes
    ----------
    max_lost : float or None
        With a calibration: largest share of truly OOD pictures that may be dropped as in-class; None takes the
        calibration's own goal.
    control_share : float
        Share of the pictures dropped as in-class that goes to the annotators all the same, unmarked.
    drop_quality : tuple of str
        Quality checks whose flag drops a picture.
    duplicates : DuplicateRules
        What a near-duplicate is.
    seed : int
        Chooses the control images.
    has_masks : bool
        With a calibration that has it too: take the evidence of small masks for risk, see `small_masks`.
    """

    max_lost: float | None = None
    control_share: float = 0.05
    drop_quality: tuple[str, ...] = ()
    duplicates: DuplicateRules = field(default_factory=DuplicateRules)
    seed: int = 0
    has_masks: bool = False


@dataclass(frozen=True)
class ScreenSummary:
    """Pictures per status and reason, and the operating point, None without a calibration."""

    counts: dict[str, int]
    operating_point: OperatingPoint | None


def screen_pictures(
    workspace: Workspace,
    classes: Sequence[ClassName],
    sources: Sequence[ClassSource],
    rules: ScreenRules,
    *,
    calibration_path: Path | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> ScreenSummary:
    """Write ``screen.parquet`` and ``classes.csv``, and return what was dropped and what that loses.

    With a calibration, risk is its probability and pictures above its operating point are dropped. Without one
    nothing is dropped as in-class: risk then is (1 + highest cosine) / 2, averaged over the sources, which
    orders the queue and is no probability.

    Parameters
    ----------
    workspace : Workspace
        With downloads and embeddings; what people verified is used where `labels` has run, and leaks and quality
        where those stages have.
    classes, sources
        As `open_sources` returns them.
    rules : ScreenRules
        What is dropped.
    calibration_path : Path, optional
        What `calibrate` wrote for these sources.
    announce : callable
        Told in one line what else is used.

    Raises
    ------
    InputError
        A rule or file is not what it should be, or the calibration is for other sources.
    StageMissingError
        Downloads or embeddings are missing or not complete.
    """
    calibration = check_inputs(workspace, classes, rules, calibration_path)
    arguments = {
        "max_lost": rules.max_lost, "control_share": rules.control_share, "seed": rules.seed,
        "drop_quality": list(rules.drop_quality), "duplicates": vars(rules.duplicates),
        "sources": [source.digest for source in sources], "has_masks": rules.has_masks,
        "calibration": workspace.name_in_records(calibration_path) if calibration_path else None,
    }  # fmt: skip
    tables = [schema.CANDIDATES, schema.DOWNLOADS, schema.LABELS, schema.LEAKS]
    tables += [schema.QUALITY] if rules.drop_quality else []
    inputs = [workspace.path_of(table) for table in tables]
    inputs += mask_files(workspace) if rules.has_masks else []
    inputs += [path for source in sources for path in source.store.paths()]
    with workspace.stage(
        "screen", arguments, [*inputs, *([calibration_path] if calibration_path else [])]
    ) as record:
        pictures = stored_pictures(workspace)
        verified = verified_of(workspace, classes, announce)
        _announce_cut(verified, announce)
        masks = read_small_masks(workspace, classes) if rules.has_masks else None
        names = number_names(sources, verified, masks)
        if calibration is not None:
            calibration.check_holds_for(sources, names)
        unreadable = unreadable_reasons(sources, pictures)
        unusable = unreadable if masks is None else {**unreadable, **masks.unreadable}
        low_quality = flagged_images(workspace, rules.drop_quality, but=unusable)
        gathered = list(gather(sources, pictures, verified, masks))
        reasons = _reasons(workspace, sources, rules, low_quality, unusable)
        table = _screened(gathered, calibration, rules, reasons)
        table = pa.concat_tables([_with_absent(table, verified), _unreadable_rows(unreadable)])
        write_label_space(workspace.classes_path, list(classes))
        workspace.write(schema.SCREEN, table)
        record.seed = rules.seed
        record.counts = _counts(table)
        point = None if calibration is None else calibration.operating_point(rules.max_lost)
        return ScreenSummary(record.counts, point)


def _announce_cut(verified: Mapping[str, VerifiedClasses] | None, announce: Callable[[str], None]) -> None:
    n_cut = sum(len(classes.present) > schema.N_SHOWN_CLASSES for classes in (verified or {}).values())
    if n_cut:
        announce(
            f"labels.parquet: in {n_cut:,} images people verified more than {schema.N_SHOWN_CLASSES} classes; "
            "those of the lowest indices are shown"
        )


def verified_of(
    workspace: Workspace, classes: Sequence[ClassName], announce: Callable[[str], None]
) -> dict[str, VerifiedClasses] | None:
    """Return what people verified, by image id; None without `labels`, or for other classes than ImageNet's."""
    if not workspace.has(schema.LABELS):
        return None
    if [known.name for known in classes] != [known.name for known in imagenet_classes()]:
        announce("labels.parquet is not used: its reviewed map leads to ImageNet-1K, the classes are others")
        return None
    return verified_classes(workspace)


def _reasons(
    workspace: Workspace,
    sources: Sequence[ClassSource],
    rules: ScreenRules,
    low_quality: Collection[str],
    unreadable: Collection[str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Return why pictures are dropped whatever their risk, and of what they are duplicates.

    What is dropped for itself stands for no copy of it, so that no photograph goes with its copies alone; but all
    copies of a photograph that is in another set are in it.
    """
    unusable = {*low_quality, *unreadable}
    duplicates = find_duplicates(workspace, rules.duplicates, store=sources[0].store, unusable=unusable)
    leaked = leaked_images(workspace)
    leaked_originals = {duplicates.get(image_id, image_id) for image_id in leaked}
    leaked |= leaked_originals | {copy for copy, original in duplicates.items() if original in leaked_originals}
    reasons = dict.fromkeys(duplicates, "duplicate")
    reasons |= dict.fromkeys(low_quality, "low_quality")
    reasons |= dict.fromkeys(leaked, "leak")
    reasons |= dict.fromkeys(unreadable, "unreadable")
    return reasons, duplicates


def _screened(
    gathered: Sequence[Gathered],
    calibration: Calibration | None,
    rules: ScreenRules,
    dropped: tuple[dict[str, str], dict[str, str]],
) -> pa.Table:
    """Return the rows of all pictures with embeddings, but for what people verified as absent."""
    reasons, duplicates = dropped
    if not gathered:
        return schema.SCREEN.schema.empty_table()
    image_ids = [image_id for block in gathered for image_id in block.image_ids]
    numbers = np.concatenate([block.numbers for block in gathered])
    risks = stand_in_risks(numbers) if calibration is None else calibration.model.risks(numbers)
    bound = None if calibration is None else calibration.operating_point(rules.max_lost).drop_above
    is_in_class = np.zeros(len(risks), bool) if bound is None else risks > bound
    own = [
        reasons.get(image_id) or ("in_class" if above else None)
        for image_id, above in zip(image_ids, is_in_class.tolist(), strict=True)
    ]
    is_control = [
        reason == "in_class" and _is_chosen(image_id, rules.control_share, rules.seed)
        for image_id, reason in zip(image_ids, own, strict=True)
    ]
    statuses = ["dropped" if why and not kept else "review" for why, kept in zip(own, is_control, strict=True)]
    duplicate_of = [
        duplicates.get(image_id) if reason == "duplicate" else None
        for image_id, reason in zip(image_ids, own, strict=True)
    ]
    shown = {
        name: pa.chunked_array([block.shown[name] for block in gathered])
        for name in (field.name for field in schema.SCREEN.schema if field.name.startswith("shown_"))
    }
    columns = {
        "image_id": image_ids, "status": statuses, "reason": own, "duplicate_of": duplicate_of,
        "risk": pa.array(risks, mask=np.isnan(risks)),
        **shown, "absent_classes": pa.nulls(len(image_ids), pa.list_(pa.int16())), "is_control": is_control,
    }  # fmt: skip
    return pa.table(columns, schema=schema.SCREEN.schema)


def stand_in_risks(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return (1 + highest cosine) / 2, averaged over the sources: an order without a calibration."""
    columns = np.arange(NUMBER_NAMES.index(HIGHEST_COSINE), numbers.shape[1], len(NUMBER_NAMES))
    risks: npt.NDArray[np.float32] = ((1 + numbers[:, columns].mean(axis=1)) / 2).clip(0, 1).astype(np.float32)
    return risks


def _with_absent(table: pa.Table, verified: Mapping[str, VerifiedClasses] | None) -> pa.Table:
    """Return the rows with the classes that people verified as absent: shown all the same, but known."""
    if verified is None:
        return table
    absent = [sorted(verified[k].absent) if k in verified else [] for k in table.column("image_id").to_pylist()]
    place = table.schema.get_field_index("absent_classes")
    return table.set_column(place, table.schema.field(place), pa.array(absent, pa.list_(pa.int16())))


def _unreadable_rows(image_ids: Collection[str]) -> pa.Table:
    rows = [
        {"image_id": image_id, "status": "dropped", "reason": "unreadable", "is_control": False}
        for image_id in sorted(image_ids)
    ]
    return pa.Table.from_pylist(rows, schema=schema.SCREEN.schema)


def _is_chosen(image_id: str, share: float, seed: int) -> bool:
    """Return whether an image falls into a random share that depends on its id and the seed alone."""
    drawn = int.from_bytes(hashlib.sha256(f"{seed} {image_id}".encode()).digest()[:8])
    return drawn < share * 2**64


def _counts(table: pa.Table) -> dict[str, int]:
    rows = table.select(["status", "reason", "is_control"]).to_pylist()
    return dict(
        Counter(
            "control" if row["is_control"] else row["reason"] if row["status"] == "dropped" else "review"
            for row in rows
        )
    )


def check_inputs(
    workspace: Workspace, classes: Sequence[ClassName], rules: ScreenRules, calibration_path: Path | None
) -> Calibration | None:
    """Return the calibration, None without one, after a look at all that is known before prototypes are made.

    Raises as `screen_pictures`, which calls it; the command does before the prototypes, which take minutes.
    """
    _check_rules(rules, has_calibration=calibration_path is not None)
    calibration = Calibration.read(calibration_path) if calibration_path else None
    if calibration is not None:
        calibration.check_made_with_masks(rules.has_masks)
    optional = [table for table in (schema.LABELS, schema.LEAKS) if workspace.has(table)]
    quality = [schema.QUALITY] if rules.drop_quality else []
    for table in (schema.CANDIDATES, schema.DOWNLOADS, *optional, *quality):
        workspace.path_to_read(table)
    leaked_images(workspace)
    if rules.has_masks:
        check_masks(workspace, classes)
    return calibration


def _check_rules(rules: ScreenRules, *, has_calibration: bool) -> None:
    if not 0 <= rules.control_share <= 1:
        raise InputError(f"--control-share: expected 0 to 1, found {rules.control_share}")
    if rules.max_lost is not None:
        check_max_lost(rules.max_lost)
        if not has_calibration:
            raise InputError("--max-lost: needs --calibration FILE, which 'calibrate' makes of labelled images")
    if rules.has_masks and not has_calibration:
        raise InputError("--masks: needs --calibration FILE, which 'calibrate --masks' makes of labelled images")
    strange = set(rules.drop_quality) - set(CHECKS)
    if strange:
        raise InputError(f"--drop-quality: expected some of {', '.join(CHECKS)}, found {min(strange)!r}")
