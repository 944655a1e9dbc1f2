"""The section of losses: what the screen dropped although it is out-of-distribution, by its control images."""

import pyarrow as pa
import pyarrow.compute as pc

from annotation.report.team import Team
from manifests import schema
from manifests.control import ControlEstimate, control_estimate
from manifests.report.own_pictures import own_pictures
from manifests.report.parts import Card, Gallery, Part, Section, Table, Text

KEY, TITLE = "losses", "What the screen lost"
_MOST_CARDS = 60


def loss_section(team: Team) -> Section:
    """Return the section: the estimate, how to read it, and the control images that turned out to be out."""
    workspace = team.workspace
    if not workspace.has(schema.SCREEN):
        return Section(KEY, TITLE, missing="Nothing has been screened: `python cli.py screen` does it.")
    if not workspace.has(schema.VERDICTS):
        missing = "The control images have no verdicts yet: `python cli.py consensus` makes them of the answers."
        return Section(KEY, TITLE, missing=missing)
    estimate = control_estimate(workspace)
    if estimate is None:
        missing = (
            "The screen dropped nothing as in-class, so it lost nothing: only `screen --calibration FILE` does."
        )
        return Section(KEY, TITLE, missing=missing)
    return Section(KEY, TITLE, [_reading(estimate), _table(estimate), *_gallery(team)])


def _reading(estimate: ControlEstimate) -> Text:
    how = (
        "Control images were found in-class by the screen and went to the annotators all the same, drawn at "
        "random and unmarked. The share of them that is out is that of all that was dropped as in-class."
    )
    lost = estimate.lost()
    if lost is None:
        return Text(f"{how} None of them has a settled verdict yet, so the loss is not known.")
    interval = f"{lost.low:.2%} to {lost.high:.2%}"
    if lost.value is None:
        return Text(
            f"{how} So far the screen lost {interval} of all out-of-distribution images (95 % interval). There is "
            f"one figure when all others under review are settled: {estimate.n_kept_settled:,} of "
            f"{estimate.n_kept:,} are."
        )
    return Text(
        f"{how} By that, the screen lost {lost.value:.2%} of all out-of-distribution images (95 % {interval})."
    )


def _table(estimate: ControlEstimate) -> Table:
    out = estimate.control_out()
    rows = [
        ("dropped as in-class, seen by nobody", f"{estimate.n_dropped:,}"),
        ("control images", f"{estimate.n_control:,}"),
        ("of these, with a settled verdict", f"{estimate.n_control_settled:,}"),
        ("of these, out", f"{estimate.n_control_out:,}"),
        ("others under review", f"{estimate.n_kept:,}"),
        ("of these, with a settled verdict", f"{estimate.n_kept_settled:,}"),
        ("of these, out", f"{estimate.n_kept_out:,}"),
    ]
    if out.n_all:
        rows.insert(4, ("out among settled controls", f"{out.value:.1%} ({out.low:.1%} to {out.high:.1%})"))
    return Table(("images", "count"), rows, "What the estimate is made of.", numeric=frozenset({1}))


def _gallery(team: Team) -> list[Part]:
    """Return the control images that are out after all: pictures of the screen's own mistakes."""
    controls = team.workspace.read(schema.SCREEN).filter(pc.field("is_control")).select(["image_id", "risk"])
    verdicts = team.workspace.read(schema.VERDICTS).filter(pc.equal(pc.field("verdict"), "out"))
    settled_out = set(verdicts.column("image_id").to_pylist()) | {
        image_id for image_id, entry in team.gold.items() if entry.answer == "out"
    }
    lost = controls.filter(pc.is_in(controls.column("image_id"), pa.array(sorted(settled_out), pa.string())))
    if not lost.num_rows:
        return []
    shown = lost.sort_by([("risk", "descending"), ("image_id", "ascending")]).to_pylist()[:_MOST_CARDS]
    pictures = own_pictures(team.workspace, [row["image_id"] for row in shown])
    cards = [Card([pictures[row["image_id"]]], [f"risk {row['risk']:.3f}", row["image_id"]]) for row in shown]
    caption = (
        f"{len(cards):,} of {lost.num_rows:,} control images that annotators judged out, riskiest first: without "
        "the control arm the screen would have lost them."
    )
    return [Gallery("Control images that are out", cards, caption)]
