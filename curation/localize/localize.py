"""The stage `localize`: where in each picture under review each of its shown classes might be."""

import itertools
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curation.localize.localizer import Localizer
from curation.localize.missing import currency, in_shards, missing_by_shard
from curation.verified_bytes import verified_bytes
from manifests import schema
from manifests.ahead import prepared_ahead
from manifests.errors import InputError, UnreadableImageError
from manifests.images import decode_image
from manifests.masks import MaskedImage, MaskFacts, MaskStore, mask_facts, mask_of
from manifests.stage_progress import ProgressBar
from manifests.stored_pictures import still_unreadable, stored_pictures
from manifests.wanted_masks import Wanted, wanted_pictures
from manifests.work_plan import WorkPlan, weights_to_fetch
from manifests.workspace import Workspace

_NO_NUMBER = "the localizer gives a value that is no number"


@dataclass(frozen=True)
class LocalizeRules:
    """Which pictures are localized, and how many are decoded ahead.

    Attributes
    ----------
    has_dropped : bool
        Those too that `screen` dropped, for it to take masks as evidence.
    limit : int, optional
        New pictures at most. Which these are depends on a hash of their ids alone, so that what has masks tells
        annotators nothing of a picture's risk.
    n_workers : int
        Threads that decode.

    Raises
    ------
    InputError
        A value is out of range.
    """

    has_dropped: bool = False
    limit: int | None = None
    n_workers: int = 2

    def __post_init__(self) -> None:
        for flag, value in (("--limit", self.limit), ("--workers", self.n_workers)):
            if value is not None and value < 1:
                raise InputError(f"{flag}: expected 1 or more, found {value}")


@dataclass(frozen=True)
class LocalizeSummary:
    """What a run did: the localizer's digest, and pictures that are new, kept, unreadable and still to do."""

    digest: str
    n_new: int
    n_kept: int
    n_unreadable: int
    n_left: int
    seconds: float

    def __str__(self) -> str:
        rate = f" at {self.n_new / self.seconds:.1f} images/s" if self.n_new and self.seconds else ""
        left = f", {self.n_left:,} left by --limit" if self.n_left else ""
        return (
            f"localize: {self.n_new:,} new{rate}, {self.n_kept:,} there already, {self.n_unreadable:,} "
            f"unreadable{left}; masks {self.digest}"
        )


def localize_pictures(
    workspace: Workspace,
    load: Callable[[], Localizer],
    arguments: Mapping[str, Any],
    rules: LocalizeRules | None = None,
    *,
    announce: Callable[[str], None] = lambda line: None,
) -> LocalizeSummary:
    """Write the masks that the workspace lacks, and ``localized.parquet``.

    Pictures under review and those with a known answer (gold) are localized alike: which has masks must not tell
    annotators one from another.

    Parameters
    ----------
    workspace : Workspace
        Screened.
    load : callable
        Returns the localizer; called once the workspace has been looked at, as it takes seconds.
    arguments : mapping
        What it was loaded with, for the record.
    rules : LocalizeRules, optional
        Which pictures.
    announce : callable
        Told in one line what localizes.

    Raises
    ------
    StageMissingError
        `screen` or a stage before it has not been run.
    """
    rules = rules or LocalizeRules()
    wanted_pictures(workspace, has_dropped=rules.has_dropped)
    localizer = load()
    announce(f"localize: {localizer.name}")
    digest = localizer.digest
    inputs = [
        workspace.path_of(table) for table in (schema.CANDIDATES, schema.DOWNLOADS, schema.SCREEN, schema.GOLD)
    ]
    told = {**arguments, "has_dropped": rules.has_dropped, "limit": rules.limit}
    with workspace.stage("localize", told, [*inputs, workspace.classes_path]) as record:
        run = _Run(workspace, localizer, MaskStore(workspace, digest), rules)
        summary = run.fill(wanted_pictures(workspace, has_dropped=rules.has_dropped))
        record.counts = {
            "localized": summary.n_new + summary.n_kept, "unreadable": summary.n_unreadable, "left": summary.n_left
        }  # fmt: skip
        record.details = {"localizer": localizer.name, "digest": digest}
    return summary


def plan_localize(workspace: Workspace, arguments: Mapping[str, Any], rules: LocalizeRules) -> WorkPlan:
    """Return which pictures a run would localize; parameters and errors as of `localize_pictures`.

    Which masks are a localizer's depends on its weights, which a plan does not load: they are taken to be those of
    the last run that was done, if its localizer was chosen by the same arguments.
    """
    wanted = wanted_pictures(workspace, has_dropped=rules.has_dropped)
    before = workspace.read_record("localize", "arguments")
    digest = None
    if before and all(before.get(name) == value for name, value in arguments.items()):
        digest = workspace.read_record("localize", "details")["digest"]
    folder = workspace.masks_dir / (digest or "<digest of the localizer>")
    n_missing = len(wanted)
    if digest is not None:
        n_missing = sum(map(len, missing_by_shard(MaskStore(workspace, digest), in_shards(wanted)).values()))
    n_due = n_missing if rules.limit is None else min(rules.limit, n_missing)
    model = arguments.get("model")
    notes = (
        ["no run by this localizer is recorded"] if digest is None else [f"if it still has the digest {digest}"]
    )
    return WorkPlan(
        n_due, len(wanted) - n_missing, reads=[f"{n_due:,} pictures"] if n_due else [],
        fetches=[] if model is None else weights_to_fetch(model, arguments["pretrained"] or ""),
        writes=[str(folder), str(workspace.path_of(schema.LOCALIZED))], notes=notes,
    )  # fmt: skip


@dataclass(frozen=True)
class _Run:
    """One run over the pictures of a workspace, into one store."""

    workspace: Workspace
    localizer: Localizer
    store: MaskStore
    rules: LocalizeRules

    def fill(self, wanted: Mapping[str, Wanted]) -> LocalizeSummary:
        """Write each shard that lacks a mask or holds an outdated one, and then the table."""
        started = time.monotonic()
        shards = in_shards(wanted)
        missing = missing_by_shard(self.store, shards)
        n_missing = sum(map(len, missing.values()))
        known = self.store.read_unreadable()
        chosen = self._chosen(missing, known)
        unreadable = self._fill_shards(shards, chosen, len(wanted) - n_missing)
        tried = {one.picture.image_id for group in chosen.values() for one in group}
        # Wanted or not, as masks: `screen --masks` reads why a picture has none.
        found = still_unreadable(known, stored_pictures(self.workspace))
        untried = {image_id: told for image_id, told in found.items() if image_id not in tried}
        self.store.write_unreadable(untried | unreadable)
        self._write_table()
        n_chosen = len(tried)
        return LocalizeSummary(
            self.store.digest, n_chosen - len(unreadable), len(wanted) - n_missing, len(unreadable),
            n_missing - n_chosen, time.monotonic() - started,
        )  # fmt: skip

    def _chosen(self, missing: Mapping[int, Sequence[Wanted]], known: Container[str]) -> dict[int, list[Wanted]]:
        """Return up to the limit of what is missing, by shard; last what could not be read before."""
        in_order = [one for group in missing.values() for one in group]
        in_order.sort(key=lambda one: one.picture.image_id in known)
        chosen: dict[int, list[Wanted]] = {}
        for one in in_order[: self.rules.limit]:
            chosen.setdefault(self.store.shard_of(one.picture.image_id), []).append(one)
        return dict(sorted(chosen.items()))

    def _fill_shards(
        self,
        shards: Mapping[int, Sequence[Wanted]],
        chosen: Mapping[int, Sequence[Wanted]],
        n_kept: int,
    ) -> dict[str, tuple[str, str]]:
        """Write the shards; return, by image id, the sha256 of pictures without masks, and why."""
        is_current = currency(self.workspace)
        unreadable: dict[str, tuple[str, str]] = {}
        n_workers = self.rules.n_workers
        results = prepared_ahead(
            _read, itertools.chain.from_iterable(chosen.values()), n_workers=n_workers, n_ahead=2 * n_workers
        )
        total = n_kept + sum(map(len, chosen.values()))
        with ProgressBar(total, "localize", initial=n_kept) as bar:
            for shard in sorted({*shards, *self.store.numbers()}):
                known = self.store.read_facts(shard)
                if shard not in chosen and all(map(is_current, known.values())):
                    continue
                images = {k: v for k, v in self.store.read_shard(shard).items() if is_current(v)}
                for one, read in itertools.islice(results, len(chosen.get(shard, ()))):
                    made = read if isinstance(read, str) else self._masked(one, read)
                    bar.update(n_failed=int(isinstance(made, str)))
                    if isinstance(made, str):
                        unreadable[one.picture.image_id] = (one.picture.sha256, made)
                    else:
                        images[one.picture.image_id] = made
                self.store.write_shard(shard, images)
        return unreadable

    def _masked(self, one: Wanted, picture: Image.Image) -> MaskedImage | str:
        evidence = self.localizer.evidence(picture, list(one.names.values()))
        if not np.isfinite(evidence).all():
            return _NO_NUMBER
        masks = {
            class_index: mask_of(of_class, picture.size)
            for class_index, of_class in zip(one.names, evidence, strict=True)
        }
        facts = {index: MaskFacts(one.names[index], *mask_facts(mask)) for index, mask in masks.items()}
        return MaskedImage(one.picture.image_id, *one.picture.pixels, facts, masks)

    def _write_table(self) -> None:
        facts = self.store.facts()
        digests = pa.array([self.store.digest] * facts.num_rows, pa.string())
        table = facts.append_column("localizer", digests).select(schema.LOCALIZED.schema.names)
        self.workspace.write(
            schema.LOCALIZED, table.sort_by([(name, "ascending") for name in schema.LOCALIZED.key])
        )


def _read(one: Wanted) -> Image.Image | str:
    """Return the upright picture, or why there is none."""
    try:
        return decode_image(verified_bytes(one.picture.path, one.picture.sha256), one.picture.rotation_deg)
    except UnreadableImageError as error:
        return error.reason
