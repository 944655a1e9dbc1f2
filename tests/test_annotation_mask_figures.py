"""What report, consensus and audit say of evidence masks that annotators had opened."""

import random
from pathlib import Path

import pytest

from annotation.audit.lines import report_lines
from annotation.audit.plan import plan_audit
from annotation.audit.report import report_audit
from annotation.consensus import run_consensus
from annotation.decision_log import log_path, open_log
from annotation.decisions import Decision
from annotation.mask_use import MaskUse
from annotation.report.answers import answers_section
from annotation.report.checks import checks_section
from annotation.report.team import read_team
from annotation.statistics.mask_figures import NO_PROOF, mask_figures, mask_lines, pair_rows
from annotation.verdicts import ConsensusRule
from manifests import schema
from manifests.audit_design import Goal
from manifests.report.parts import Table, Text
from manifests.workspace import Workspace
from tests.annotation_workspace import decision, image_id_of, make_workspace
from tests.audit_world import certificate, drawn, frozen_world

OPENED, CLOSED, NONE = MaskUse("opened", (3,)), MaskUse("closed"), MaskUse("none")

# Three annotators, as number of the picture: answer, seconds, masks.
GIVEN: dict[str, dict[int, tuple[str, float, MaskUse | None]]] = {
    "ann": {
        0: ("out", 2, OPENED), 1: ("in", 10, OPENED), 2: ("out", 4, OPENED), 3: ("out", 1, CLOSED),
        4: ("skip", 9, OPENED),
    },
    "ben": {0: ("out", 3, CLOSED), 1: ("out", 5, CLOSED), 2: ("difficult", 6, OPENED), 3: ("out", 1, NONE)},
    "cem": {0: ("out", 7, None), 5: ("out", 8, None)},
}  # fmt: skip


def decisions_of(name: str) -> dict[str, Decision]:
    return {
        image_id_of(number): decision(f"{name}-{number}", image_id_of(number), word, seconds=seconds, masks=masks)
        for number, (word, seconds, masks) in GIVEN[name].items()
    }


def votes() -> dict[str, dict[str, Decision]]:
    return {
        name: {image_id: made for image_id, made in decisions_of(name).items() if made.answer != "skip"}
        for name in GIVEN
    }


@pytest.fixture
def judged(tmp_path: Path) -> Workspace:
    workspace = make_workspace(tmp_path / "judged")
    for name in GIVEN:
        with open_log(workspace, name) as log:
            log.append_all(list(decisions_of(name).values()))
    return workspace


class TestFigures:
    def test_each_state_has_its_answers_seconds_and_images_counted_by_hand(self) -> None:
        opened, closed, none, unknown = mask_figures(votes())
        assert [one.state for one in (opened, closed, none, unknown)] == [
            "opened",
            "closed",
            "none",
            "not recorded",
        ]
        assert opened.answers == {"out": 2, "in": 1, "difficult": 1}
        # Of 2, 4, 6, 10: the middle, and 0.7 of the way from the third to the last.
        assert (opened.median_s, opened.p90_s) == (5, pytest.approx(8.8))
        # With ann, who opened, two pairs on picture 0, that agree, and one each on 1 and 2, that do not.
        assert (opened.n_pairs, opened.agreement.n_images) == (4, 3)
        assert opened.agreement.value == pytest.approx(1 / 3)
        # Of picture 3, neither was opened; of 0, ben and cem: whether cem had opened is not known.
        assert [(one.n_pairs, one.agreement.value) for one in (closed, unknown)] == [(1, 1.0), (1, 1.0)]
        assert none.n_pairs == 0
        assert (unknown.median_s, none.p90_s) == (7.5, 1)
        # Where all images agree alike, resamples say nothing.
        assert [row[0::4] for row in pair_rows((closed, none))] == [("not opened", "-")]

    def test_agreement_does_not_fall_with_the_number_of_answers(self) -> None:
        # Answers and masks have nothing to do with each other; most images have two answers, the others four.
        drawn = random.Random(2)
        votes: dict[str, dict[str, Decision]] = {f"a{number}": {} for number in range(4)}
        for number in range(3000):
            for name in drawn.sample(sorted(votes), 2 if drawn.random() < 0.7 else 4):
                word = "out" if drawn.random() < 0.85 else "difficult"
                masks = OPENED if drawn.random() < 0.3 else CLOSED
                one = image_id_of(number)
                votes[name][one] = decision(f"{name}-{number}", one, word, masks=masks)
        expected = 0.85**2 + 0.15**2
        for figures in mask_figures(votes):
            found = figures.agreement
            assert found.low < expected < found.high
            # Pairs of one image share answers: an interval that took them for independent would be narrower.
            assert found.high - found.low > 2 * 1.96 * (expected * (1 - expected) / figures.n_pairs) ** 0.5

    def test_images_no_longer_under_review_are_in_no_row(self, judged: Workspace) -> None:
        rows = judged.read(schema.SCREEN).to_pylist()
        judged.write(schema.SCREEN, [row for row in rows if row["image_id"] != image_id_of(0)])
        summary = run_consensus(judged)
        # Without the answers of all three to picture 0.
        assert [(one.state, one.answers.total()) for one in summary.masks] == [
            ("opened", 3), ("closed", 2), ("none", 1), ("not recorded", 1)
        ]  # fmt: skip
        parts = answers_section(read_team(judged)).parts
        texts = [part.text for part in parts if isinstance(part, Text)]
        assert any(text.endswith("by queue: first 3.") for text in texts)
        assert [part.rows[0][:2] for part in parts if isinstance(part, Table)][1] == ("opened", "3")

    def test_nothing_is_said_where_nobody_opened_a_mask(self, judged: Workspace) -> None:
        assert mask_figures({name: given for name, given in votes().items() if name == "cem"}) == ()
        assert mask_lines(()) == []
        for name in ("ann", "ben"):
            log_path(judged, name).unlink()
        texts = [part.text for part in answers_section(read_team(judged)).parts if isinstance(part, Text)]
        assert not any("masks" in text for text in texts)

    def test_consensus_has_the_figures_of_those_who_count_and_records_how_many(self, judged: Workspace) -> None:
        summary = run_consensus(judged, ConsensusRule(set_aside=("ann",)))
        assert [one.answers.total() for one in summary.masks] == [1, 2, 1, 2]
        counts = judged.read_record("consensus", "counts")
        assert {name: n for name, n in counts.items() if name.startswith("votes_masks")} == {
            "votes_masks_opened": 1, "votes_masks_closed": 2, "votes_masks_none": 1, "votes_masks_not_recorded": 2
        }  # fmt: skip
        lines = mask_lines(summary.masks)
        assert lines[1].split() == ["opened", "1", "0.0%", "0.0%", "100.0%", "6.0", "6.0"]
        # Of pictures with an answer of ben and one of cem there is one.
        assert lines[-2].split() == ["not", "recorded", "1", "1", "100.0%", "-"]
        assert lines[-1].strip() == NO_PROOF

    def test_report_shows_the_table_and_says_that_it_is_no_proof(self, judged: Workspace) -> None:
        with open_log(judged, "dan") as log:
            log.append(decision("ruling", image_id_of(1), "out", queue="dispute", masks=OPENED))
        parts = answers_section(read_team(judged)).parts
        told, table, pairs, how, proof = parts[-5:]
        assert isinstance(told, Text)
        assert told.text.endswith("by queue: first 4, dispute 1.")
        assert isinstance(table, Table)
        assert table.rows[0] == ("opened", "4", "25.0%", "50.0%", "25.0%", "5.0", "8.8")
        assert isinstance(pairs, Table)
        assert pairs.rows[0][:4] == ("opened", "3", "4", "33.3%")
        assert isinstance(how, Text)
        assert "nine in ten less than the 90 % s" in how.text
        assert proof == Text(NO_PROOF)

    def test_report_counts_nobody_who_is_set_aside_and_says_who_that_is(self, judged: Workspace) -> None:
        run_consensus(judged, ConsensusRule(set_aside=("ann",)))
        parts = answers_section(read_team(judged)).parts
        told = next(part.text for part in parts if isinstance(part, Text) and "masks opened" in part.text)
        assert told.endswith("by queue, without ann, who are set aside: first 1.")
        assert next(part for part in parts[-5:] if isinstance(part, Table)).rows[0][:2] == ("opened", "1")


class TestAudit:
    def test_a_certificate_states_answers_with_masks_opened_and_without_any_says_nothing(
        self, tmp_path: Path
    ) -> None:
        space = frozen_world(tmp_path / "ws")
        plan_audit(space, None, Goal(0.02, 0.95, 0))
        sample = drawn(space)
        with open_log(space, "ann") as log:
            log.append_all([decision(one, one, queue="audit", masks=NONE) for one in sample[1:]])
            log.append(decision(sample[0], sample[0], queue="audit", masks=OPENED))
        report = report_audit(space)
        assert certificate(space)["masks_opened"] == [sample[0]]
        texts = [part.text for part in checks_section(read_team(space)).parts if isinstance(part, Text)]
        assert texts[-1].endswith("with evidence masks opened, which audits do not offer: 1.")
        assert any(line.endswith("which audits do not offer: 1") for line in report_lines(report))
        with open_log(space, "ann") as log:
            log.append(decision("back", sample[0], "undo", queue="audit"))
            log.append(decision("again", sample[0], queue="audit", masks=NONE))
        report_audit(space)
        assert "masks_opened" not in certificate(space)
