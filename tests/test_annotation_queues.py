import random
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.assignment import Turns, assigned, gold_order, n_gold_after, ordered
from annotation.consensus import run_consensus
from annotation.decision_log import log_path, open_log
from annotation.decisions import Decision
from annotation.gold import add_gold
from annotation.other_logs import OtherLogs
from annotation.progress import progress_lines
from annotation.queues import open_queue
from annotation.review import ReviewItem
from annotation.standing import Standing
from annotation.verdicts import ConsensusRule
from annotation.work_queue import QueuePlan, WorkQueue
from manifests import schema
from manifests.errors import InputError
from manifests.workspace import Workspace
from tests.annotation_workspace import decision, image_id_of, make_workspace

SHOWN_ORDER = [image_id_of(number) for number in (4, 2, 1, 3, 0, 5)]


def say(
    workspace: Workspace, annotator_id: str, image_id: str, answer: str = "out", **changes: object
) -> Decision:
    with open_log(workspace, annotator_id) as log:
        made = decision(f"{annotator_id}-{len(log.decisions)}", image_id, answer, **changes)
        log.append(made)
    return made


def waiting(queue: WorkQueue) -> list[str]:
    ahead = [item.image_id for item in queue.upcoming(1000)]
    # What is the turn of others is taken one by one near the end.
    return ahead + [image_id for image_id in queue.plan.order if image_id in queue._due]


class Shift:
    """One annotator at a queue with real logs, who looks at one picture at a time."""

    def __init__(self, workspace: Workspace, annotator_id: str, **options: object) -> None:
        self.workspace, self.annotator_id, self.options = workspace, annotator_id, options
        self.restart()

    def restart(self) -> None:
        self.queue = open_queue(self.workspace, self.annotator_id, **self.options)  # type: ignore[arg-type]

    def work(self, answer: str) -> str | None:
        self.queue.refresh()
        ahead = self.queue.upcoming(1)
        if not ahead:
            return None
        image_id = ahead[0].image_id
        self.queue.record(say(self.workspace, self.annotator_id, image_id, answer, queue=self.queue.plan.name))
        return image_id


@settings(max_examples=25, deadline=None)
@given(
    n_annotators=st.integers(2, 5),
    votes=st.integers(1, 3),
    is_team=st.booleans(),
    order=st.sampled_from(["risk", "random"]),
    seed=st.integers(0, 3),
    draws=st.randoms(use_true_random=False),
)
def test_every_image_gets_exactly_its_votes_and_nobody_sees_one_twice(
    tmp_path_factory: pytest.TempPathFactory,
    n_annotators: int,
    votes: int,
    is_team: bool,
    order: str,
    seed: int,
    draws: random.Random,
) -> None:
    votes = min(votes, n_annotators)
    workspace = make_workspace(tmp_path_factory.mktemp("queues"), n_review=6)
    names = [f"annotator-{number}" for number in range(n_annotators)]
    team = names if is_team else []
    shifts = [Shift(workspace, name, votes=votes, order=order, seed=seed, annotators=team) for name in names]
    answered: list[tuple[str, str]] = []
    while shifts:
        shift = draws.choice(shifts)
        if draws.random() < 0.2:
            shift.restart()
        image_id = shift.work(draws.choice(["out", "in", "difficult"]))
        if image_id is None:
            shifts.remove(shift)
        else:
            answered.append((shift.annotator_id, image_id))
    assert len(set(answered)) == len(answered)
    assert Counter(image_id for _, image_id in answered) == dict.fromkeys(SHOWN_ORDER, votes)


def test_skip_is_no_vote_and_is_not_shown_again(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    say(workspace, "ann", image_id_of(0), "skip")
    say(workspace, "ben", image_id_of(0))
    assert waiting(open_queue(workspace, "ann")) == []
    assert waiting(open_queue(workspace, "cem")) == [image_id_of(0)]


def test_answer_taken_back_elsewhere_puts_the_image_back_in_its_place(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    for name in ("ben", "cem"):
        say(workspace, name, SHOWN_ORDER[1])
    queue = open_queue(workspace, "ann", seed=1)
    assert SHOWN_ORDER[1] not in waiting(open_queue(workspace, "ann", seed=1))
    assert queue.team == {"n_done": 1, "n_total": 6, "n_annotators": 2}
    say(workspace, "cem", SHOWN_ORDER[1], "undo")
    queue.refresh()
    assert queue.n_left == 6
    assert SHOWN_ORDER[1] in waiting(queue)
    assert queue.team == {"n_done": 0, "n_total": 6, "n_annotators": 1}


def test_votes_given_meanwhile_take_images_off_the_queue(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    queue = open_queue(workspace, "ann")
    assert [item.image_id for item in queue.upcoming(2)] == SHOWN_ORDER[:2]
    for name in ("ben", "cem"):
        say(workspace, name, SHOWN_ORDER[0])
        say(workspace, name, SHOWN_ORDER[3])
    queue.refresh()
    # The first may be on screen; the fourth had not been sent yet.
    assert waiting(queue)[:2] == SHOWN_ORDER[:2]
    assert set(waiting(queue)) == {SHOWN_ORDER[place] for place in (0, 1, 2, 4, 5)}
    assert queue.n_left == 5


def test_damaged_log_of_another_does_not_stop_an_open_queue(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    say(workspace, "ben", SHOWN_ORDER[0])
    queue = open_queue(workspace, "ann")
    with log_path(workspace, "ben").open("ab") as stranger:
        stranger.write(b"note\n")
    queue.refresh()
    queue.refresh()
    assert waiting(queue) == SHOWN_ORDER


def test_a_half_written_line_of_another_is_read_when_it_is_whole(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    for name in ("ben", "cem"):
        say(workspace, name, SHOWN_ORDER[0])
    path = log_path(workspace, "cem")
    line = path.read_bytes()
    path.write_bytes(line[:50])
    queue = open_queue(workspace, "ann")
    assert queue.n_left == 6
    path.write_bytes(line)
    queue.refresh()
    assert queue.n_left == 5


def test_those_set_aside_do_not_count(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=2)
    for name in ("ben", "cem"):
        say(workspace, name, image_id_of(0))
    run_consensus(workspace, ConsensusRule(set_aside=("cem",)))
    assert set(waiting(open_queue(workspace, "ann"))) == {image_id_of(0), image_id_of(1)}


def test_team_that_is_no_team_is_refused(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    for annotators in (["ben", "cem"], ["ann", "ann"], ["ann"]):
        with pytest.raises(InputError, match="annotators: "):
            open_queue(workspace, "ann", annotators=annotators)
    with pytest.raises(InputError, match="queue: expected one of"):
        open_queue(workspace, "ann", "second")
    with pytest.raises(InputError, match="order: expected one of"):
        open_queue(workspace, "ann", order="alphabet")
    with pytest.raises(InputError, match="'inspection' alone"):
        open_queue(workspace, "ann", sample=3)


def test_turns_are_shared_equally_and_one_vote_more_keeps_those_who_had_their_turn() -> None:
    names = ["ann", "ben", "cem", "dan"]
    turns = {image_id: assigned(image_id, names, 2, 7) for image_id in map(image_id_of, range(4000))}
    counts = Counter(name for turn in turns.values() for name in turn)
    # 2,000 each; five standard deviations of a binomial with p = 1/2.
    assert all(abs(counts[name] - 2000) < 5 * 32 for name in names)
    for image_id, turn in turns.items():
        assert assigned(image_id, names[::-1], 3, 7)[:2] == turn


def test_disputes_come_to_who_has_not_voted_on_them(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    for image_id in SHOWN_ORDER[:2]:
        say(workspace, "ann", image_id, "out")
        say(workspace, "ben", image_id, "in")
    say(workspace, "cem", SHOWN_ORDER[0], "skip")
    assert waiting(open_queue(workspace, "ann", "dispute")) == []
    assert waiting(open_queue(workspace, "ann", "dispute", own_disputes=True)) == SHOWN_ORDER[:2]
    queue = open_queue(workspace, "cem", "dispute")
    assert waiting(open_queue(workspace, "cem", "dispute")) == SHOWN_ORDER[:2]
    say(workspace, "dan", SHOWN_ORDER[1], "out", queue="dispute")
    queue.refresh()
    assert waiting(queue) == [SHOWN_ORDER[0]]


def test_gold_comes_to_everybody_at_its_share_once(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    gold_ids = {SHOWN_ORDER[4], image_id_of(6)}
    (tmp_path / "gold.csv").write_text("image_id,answer\n" + "".join(f"{one},out\n" for one in sorted(gold_ids)))
    add_gold(workspace, tmp_path / "gold.csv")
    for name in ("ben", "cem", "dan"):
        say(workspace, name, SHOWN_ORDER[4], queue="gold")
    queue = open_queue(workspace, "ann", gold_share=0.5)
    assert set(waiting(queue)) == set(SHOWN_ORDER) | gold_ids
    assert (queue.n_left, len(waiting(queue))) == (7, 7)
    assert {image_id for image_id in waiting(queue) if queue.plan.counts_as(image_id) == "gold"} == gold_ids
    assert set(waiting(open_queue(workspace, "ann", gold_share=0.0))) == set(SHOWN_ORDER) - gold_ids
    say(workspace, "ann", image_id_of(6), queue="gold")
    assert waiting(open_queue(workspace, "ann", "gold")) == [SHOWN_ORDER[4]]


def test_gold_follows_images_at_its_share() -> None:
    n_gold = sum(n_gold_after(f"image-{n}", 0.05, seed=1, annotator_id="ann") for n in range(20_000))
    # Mean 20,000 / 19 = 1,053; five standard deviations of 32.
    assert abs(n_gold - 1053) < 5 * 32
    assert {n_gold_after(f"image-{n}", 0.75, seed=1, annotator_id="ann") for n in range(100)} == {3}
    assert {n_gold_after(f"image-{n}", 0.0, seed=1, annotator_id="ann") for n in range(100)} == {0}


def gold_world(root: Path, n_review: int, n_gold: int) -> tuple[Workspace, set[str]]:
    workspace = make_workspace(root, n_review=n_review, n_dropped=n_gold)
    gold_ids = {image_id_of(number) for number in range(n_review, n_review + n_gold)}
    (root / "gold.csv").write_text("image_id,answer\n" + "".join(f"{one},out\n" for one in sorted(gold_ids)))
    add_gold(workspace, root / "gold.csv")
    return workspace, gold_ids


def test_gold_keeps_its_share_in_every_session_that_is_opened_again(tmp_path: Path) -> None:
    workspace, gold_ids = gold_world(tmp_path, 120, 40)
    begun_with, n_shown = 0, 0
    for _ in range(20):
        queue = open_queue(workspace, "ann", gold_share=0.1)
        for _ in range(5):
            image_id = queue.upcoming(4)[0].image_id
            begun_with += image_id in gold_ids
            n_shown += 1
            queue.record(say(workspace, "ann", image_id, queue=queue.plan.counts_as(image_id)))
    # Mean 10 of 100; in bunches at each beginning it would be 20 and more.
    assert (n_shown, begun_with <= 17, begun_with >= 4) == (100, True, True)
    assert Counter(
        queue.plan.counts_as(image_id) for image_id in waiting(open_queue(workspace, "ann", gold_share=0.1))
    ).keys() == {"first", "gold"}


def test_who_has_nothing_to_answer_gets_no_gold_either(tmp_path: Path) -> None:
    workspace, _ = gold_world(tmp_path, 4, 4)
    for name in ("ben", "cem"):
        for number in range(4):
            say(workspace, name, image_id_of(number))
    queue = open_queue(workspace, "ann", gold_share=0.5)
    assert (queue.n_left, waiting(queue)) == (0, [])


def test_gold_is_counted_for_the_team_as_any_other_image(tmp_path: Path) -> None:
    workspace, _ = gold_world(tmp_path, 6, 12)
    for name in ("ben", "ann"):
        queue = open_queue(workspace, name, gold_share=0.5)
        assert (queue.team["n_total"], queue.n_left) == (12, 12)
        counts = []
        while ahead := queue.upcoming(1):
            image_id = ahead[0].image_id
            queue.record(say(workspace, name, image_id, queue=queue.plan.counts_as(image_id)))
            counts.append((queue.n_left, queue.team["n_done"]))
        # Six images and six gold ones: each answer of the second annotator is one more done, whichever it was.
        assert counts == [(11 - n, n + 1 if name == "ann" else 0) for n in range(12)]


def test_gold_comes_to_all_in_one_order(tmp_path: Path) -> None:
    workspace, gold_ids = gold_world(tmp_path, 30, 30)
    orders = [
        [image_id for image_id in waiting(open_queue(workspace, name, gold_share=0.5)) if image_id in gold_ids]
        for name in ("ann", "ben")
    ]
    assert orders[0] == orders[1] == gold_order(sorted(gold_ids, reverse=True), 0)
    assert orders[0] != sorted(gold_ids)


@pytest.mark.parametrize("n_annotators", [3, 5])
@pytest.mark.parametrize("is_one_process", [True, False])
def test_annotators_who_start_together_waste_no_votes(
    tmp_path: Path, n_annotators: int, is_one_process: bool
) -> None:
    workspace = make_workspace(tmp_path, n_review=60)
    names = ["ann", "ben", "cem", "dan", "eve"][:n_annotators]
    draws = random.Random(3)
    with ExitStack() as stack:
        logs, queues = {}, {}
        for name in names:
            logs[name] = stack.enter_context(open_log(workspace, name))
            queues[name] = open_queue(workspace, name, present=names if is_one_process else ())
        working = list(names)
        while working:
            name = draws.choice(working)
            queues[name].refresh()
            ahead = queues[name].upcoming(4)
            if not ahead:
                working.remove(name)
                continue
            logs[name].append(made := decision(f"{name}-{len(logs[name].decisions)}", ahead[0].image_id))
            queues[name].record(made)
        counts = Counter(made.image_id for log in logs.values() for made in log.decisions)
    assert (len(counts), min(counts.values())) == (60, 2)
    # At the very end the pictures that two already have on screen are answered thrice.
    assert sum(counts.values()) - 120 <= 2 * n_annotators


def test_turn_of_a_team_member_who_skips_is_passed_on(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=6)
    team = ["ann", "ben", "cem"]
    queue = open_queue(workspace, "cem", annotators=team)
    mine = set(waiting(queue))
    image_id = next(image_id for image_id in SHOWN_ORDER if image_id not in mine)
    say(workspace, "ann", image_id, "skip")
    queue.refresh()
    assert set(waiting(queue)) == set(waiting(open_queue(workspace, "cem", annotators=team))) == mine | {image_id}
    say(workspace, "ann", image_id, "undo")
    assert set(waiting(open_queue(workspace, "cem", annotators=team))) == mine


def test_turns_go_to_those_who_can_vote_by_hand() -> None:
    first, second, third = assigned("a", ["ann", "ben", "cem"], 3, 0)
    names = ["ann", "ben", "cem"]
    assert [Turns(name, names, 0).n_before("a", 2, lambda name: True) for name in (first, second, third)] == [
        0,
        0,
        1,
    ]
    assert [Turns(name, names, 0).n_before("a", 1, lambda name: True) for name in (first, second, third)] == [
        0,
        1,
        2,
    ]
    assert Turns(third, names, 0).n_before("a", 2, lambda name: name != first) == 0
    assert Turns(third, [third], 0).n_before("a", 2, lambda name: True) == 0
    assert Turns(third, [second], 0).n_before("a", 1, lambda name: True) > 0


def test_two_adjudicators_share_the_disputes_out(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=30)
    for number in range(30):
        say(workspace, "ann", image_id_of(number), "out")
        say(workspace, "ben", image_id_of(number), "in")
    both = ["eva", "fay"]
    queues = {name: open_queue(workspace, name, "dispute", present=both) for name in both}
    ruled: Counter[str] = Counter()
    while any(queue.n_left for queue in queues.values()):
        for name, queue in queues.items():
            queue.refresh()
            if ahead := queue.upcoming(4):
                ruled[ahead[0].image_id] += 1
                queue.record(say(workspace, name, ahead[0].image_id, "out", queue="dispute"))
    assert len(ruled) == 30
    assert ruled.total() <= 32


def test_contradicting_rulings_come_to_a_third_whose_ruling_decides(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=1)
    image_id = image_id_of(0)
    for name, answer, queue in (
        ("ann", "out", "first"), ("ben", "in", "first"), ("eva", "out", "dispute"), ("fay", "in", "dispute"),
    ):  # fmt: skip
        say(workspace, name, image_id, answer, queue=queue)
    summary = run_consensus(workspace)
    assert summary.n_by_verdict["disputed"] == 1
    assert summary.standstill.contradicted == {image_id: ("eva", "fay")}
    assert (
        f"1 disputes need another adjudicator: the rulings contradict each other ({image_id} by eva, fay)"
        in (progress_lines(workspace)[-1])
    )
    assert [open_queue(workspace, name, "dispute").n_left for name in ("eva", "fay", "gus")] == [0, 0, 1]
    say(workspace, "gus", image_id, "in", queue="dispute")
    assert run_consensus(workspace).n_by_verdict["in"] == 1
    assert open_queue(workspace, "hal", "dispute").n_left == 0


def test_disputes_are_those_of_the_recorded_rule(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, n_review=2)
    for number in range(2):
        say(workspace, "ann", image_id_of(number), "out")
        say(workspace, "ben", image_id_of(number), "in")
    run_consensus(workspace, ConsensusRule(3))
    assert open_queue(workspace, "eva", "dispute").n_left == 0
    assert open_queue(workspace, "eva").n_left == 2
    run_consensus(workspace, ConsensusRule(2))
    assert open_queue(workspace, "eva", "dispute").n_left == 2
    assert (open_queue(workspace, "eva").n_left, open_queue(workspace, "eva", votes=3).n_left) == (0, 2)


def test_audit_comes_to_who_has_not_seen_the_image(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    sample = [{"image_id": image_id, "audit": "certificate", "stratum": None} for image_id in SHOWN_ORDER[:3]]
    workspace.write(schema.audit_table("certificate"), sample)
    say(workspace, "ann", SHOWN_ORDER[0])
    say(workspace, "ben", SHOWN_ORDER[1], queue="audit")
    assert set(waiting(open_queue(workspace, "ann", "audit"))) == set(SHOWN_ORDER[1:3])


def test_order_by_risk_breaks_ties_by_id_and_random_differs_by_annotator() -> None:
    items = [
        ReviewItem(image_id_of(number), Path("a"), 1, 1, 0, [0.5, 0.25][number % 2], (), (), (), ())
        for number in range(8)
    ]
    by_risk = [image_id_of(number) for number in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert ordered(items, "risk", 0, "ann") == ordered(items[::-1], "risk", 5, "ben") == by_risk
    drawn = ordered(items, "random", 0, "ann")
    assert drawn == ordered(items[::-1], "random", 0, "ann")
    assert sorted(drawn) == sorted(by_risk)
    assert drawn != ordered(items, "random", 0, "ben")


class Nobody(OtherLogs):
    def __init__(self) -> None:
        self.standing: dict[str, Standing] = {}

    def news(self):
        return iter(())


@given(steps=st.lists(st.sampled_from(["out", "skip", "undo"]), max_size=40))
def test_counts_follow_any_answers_and_undos(steps: list[str]) -> None:
    image_ids = [f"image-{number}" for number in range(8)]
    item = ReviewItem("a", Path("a"), 1, 1, 0, 0.0, (), (), (), ())
    plan = QueuePlan("first", dict.fromkeys(image_ids, item), image_ids, dict.fromkeys(image_ids, 1))
    queue = WorkQueue("ann", plan, [], Nobody())
    # A naive second account: a stack of what stands; the next is the first that does not.
    stack: list[tuple[str, str]] = []
    for number, step in enumerate(steps):
        left = [image_id for image_id in image_ids if image_id not in {one for one, _ in stack}]
        queue.upcoming(4)
        assert list(queue._window)[:1] == left[:1]
        if step == "undo":
            assert queue.last_answer == (("first", stack[-1][0]) if stack else None)
            if stack:
                queue.record(decision(f"{number}", stack.pop()[0], "undo"))
        elif left:
            stack.append((left[0], step))
            queue.record(decision(f"{number}", left[0], step))
        assert (queue.n_left, queue.n_answered) == (8 - len(stack), len(stack))
        assert queue.team["n_done"] == sum(answer == "out" for _, answer in stack)
        assert queue.latest(3) == [image_id for image_id, _ in stack][-3:]
