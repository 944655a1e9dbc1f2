"""`bench annotate`: its made-up workspace, its figures, and one short run in the real App."""

from pathlib import Path

import pytest
from PIL import Image

from annotation.bench.chromium import measure_in_chromium, measure_masks_in_chromium
from annotation.bench.figures import BrowserFigures, MaskTimes, SizeFigures, Times, annotate_data, annotate_table
from annotation.bench.later_tables import make_later_tables
from annotation.bench.made_masks import make_masks
from annotation.bench.run import bench_annotate
from annotation.bench.serve import ANNOTATOR
from annotation.bench.world import N_CLASSES, OTHER_ANNOTATOR, make_world
from annotation.decision_log import log_path, read_decisions
from annotation.picture_facts import FACTS, read_facts
from annotation.queues import open_queue
from manifests import schema
from manifests.errors import InputError, ToolMissingError
from manifests.label_space import read_label_space
from tests.annotation_app import needs_app

N_ROWS = 120


class TestWorld:
    def test_workspace_is_whole_and_half_of_it_is_answered_by_another(self, tmp_path: Path) -> None:
        workspace = make_world(tmp_path / "ws", N_ROWS, seed=3)
        queue = open_queue(workspace, "ann")
        assert (queue.n_left, len(read_decisions(log_path(workspace, OTHER_ANNOTATOR)))) == (N_ROWS, N_ROWS // 2)
        assert len(read_label_space(workspace.classes_path)) == N_CLASSES == 1000
        paths = [item.path for item in queue.plan.items.values()]
        assert len(set(paths)) == N_ROWS
        sizes = set()
        for path in paths:
            with Image.open(path) as picture:
                sizes.add(picture.size)
        assert sizes == {(1024, 768)}
        # Many names, few files: else 125,000 pictures would fill the disk.
        assert len({path.stat().st_ino for path in paths}) == 16

    def test_equal_seeds_make_equal_bytes(self, tmp_path: Path) -> None:
        made = [make_world(tmp_path / name, N_ROWS, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))]
        for workspace in made:
            make_later_tables(workspace, 5)
        tables = (schema.SCREEN, schema.DOWNLOADS, schema.VERDICTS, schema.QUALITY)
        contents = [[workspace.path_of(table).read_bytes() for table in tables] for workspace in made]
        assert contents[0] == contents[1]
        assert not set(contents[0]) & set(contents[2])

    def test_no_field_of_the_curator_is_left_out_but_those_of_later_stages(self, tmp_path: Path) -> None:
        workspace = make_world(tmp_path / "ws", N_ROWS, seed=3)
        make_later_tables(workspace, 5)
        _, columns = read_facts(workspace)
        empty = {fact.name for fact in FACTS if not columns.get(fact.name)}
        # Nobody has noted anything, nothing was dropped, and no manifest is frozen.
        assert empty == {"author", "license", "reason", "notes", "n_notes", "disagreement", "manifest_split"}


class TestFigures:
    def test_median_and_95th_percentile_are_those_of_the_sorted_durations(self) -> None:
        durations = [number / 1000 for number in range(101)]
        times = Times.of(durations[::-1])
        assert (times.median_s, times.p95_s) == (0.05, pytest.approx(0.095))

    def test_table_shows_each_size_beside_the_goal(self) -> None:
        browser = BrowserFigures(
            dataset_s=42.04, panel_s=3.0, key_to_picture=Times(0.011, 0.045), key_to_durable=Times(0.034, 0.112),
            floor=Times(0.0013, 0.002), curator_dataset_s=71.0, first_grid_s=2.6,
        )  # fmt: skip
        figures = SizeFigures(125_000, 3.2, Times(0.00003, 0.00005), Times(0.002, 0.004), browser)
        lines = {
            line.partition(",")[0]: line.split()[-6:] for line in annotate_table([figures]).splitlines() if line
        }
        assert "125,000" in annotate_table([figures])
        assert lines["key to next picture"][-6:] == ["11.00", "/", "45.00", "p95", "under", "50"]
        assert lines["key to durable"][-6:] == ["34.00", "/", "112.00", "p95", "under", "150"]
        assert lines["annotators' dataset"][-2:] == ["42.04", "120"]

    def test_data_has_each_figure_in_seconds_and_the_goals_by_the_same_names(self) -> None:
        browser = BrowserFigures(
            42.04, 3.0, Times(0.011, 0.045), Times(0.034, 0.112), Times(0.001, 0.002), 71.0, 2.6
        )
        masks = MaskTimes(Times(0.012, 0.046), Times(0.02, 0.06), Times(0.013, 0.047))
        fsync, next_item = Times(0.002, 0.004), Times(0.00003, 0.00005)
        plain = annotate_data([SizeFigures(1000, 3.2, next_item, fsync, browser)])
        (size,) = plain["sizes"]
        assert (size["n_rows"], size["queue_s"], size["dataset_s"]) == (1000, 3.2, 42.04)
        assert size["key_to_durable"] == {"median_s": 0.034, "p95_s": 0.112}
        assert (plain["goals_s"]["key_to_durable"], plain["goals_s"]["first_grid_s"]) == (0.15, 5)
        (with_masks,) = annotate_data([SizeFigures(1000, 3.2, next_item, fsync, browser, masks)])["sizes"]
        assert with_masks.keys() - size.keys() == {"key_to_picture_closed", "key_to_picture_opened", "key_to_mask"}
        assert plain["goals_s"].keys() <= with_masks.keys()

    def test_masks_have_rows_of_their_own_below_the_figure_without(self) -> None:
        browser = BrowserFigures(
            dataset_s=1.0, panel_s=3.0, key_to_picture=Times(0.011, 0.045), key_to_durable=Times(0.034, 0.112),
            floor=Times(0.0013, 0.002), curator_dataset_s=71.0, first_grid_s=2.6,
        )  # fmt: skip
        masks = MaskTimes(Times(0.012, 0.046), Times(0.02, 0.06), Times(0.013, 0.047))
        times = Times(0.001, 0.002)
        lines = annotate_table([SizeFigures(1000, 1.0, times, times, browser, masks)]).splitlines()
        start = next(place for place, line in enumerate(lines) if line.startswith("key to next picture"))
        assert [line.split()[-7:-3] for line in lines[start : start + 3]] == [
            ["ms", "11.00", "/", "45.00"], ["opened", "12.00", "/", "46.00"], ["time", "13.00", "/", "47.00"]
        ]  # fmt: skip
        assert lines[start + 3].split() == ["key", "to", "mask,", "ms", "20.00", "/", "60.00"]

    def test_three_sessions_need_pictures_enough(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="--rows: expected at least 301, found 300"):
            bench_annotate(tmp_path / "bench", [300], with_masks=True, announce=lambda line: None)

    def test_too_few_rows_are_refused_before_anything_is_made(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="--rows: expected at least 100, found 99"):
            bench_annotate(tmp_path / "bench", [1000, 99], announce=lambda line: None)
        assert not (tmp_path / "bench").exists()


class TestChromium:
    def test_without_chromium_it_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ToolMissingError, match="make browser"):
            measure_in_chromium(make_world(tmp_path / "ws", N_ROWS, 0), 2)


class TestApp:
    pytestmark = needs_app

    def test_keys_that_were_timed_are_answers_in_the_log(self, tmp_path: Path) -> None:
        workspace = make_world(tmp_path / "ws", N_ROWS, seed=3)
        make_later_tables(workspace, 5)
        order = open_queue(workspace, ANNOTATOR).plan.order
        figures = measure_in_chromium(workspace, 4)
        answers = [(given.image_id, given.answer) for given in read_decisions(log_path(workspace, ANNOTATOR))]
        assert answers == [(image_id, "out") for image_id in order[:4]]
        # Reply and fsync are not had for nothing; how fast pictures come, a machine at rest shows.
        assert figures.key_to_durable.p95_s >= figures.key_to_durable.median_s > 0.0005
        assert 0 < figures.key_to_picture.median_s < 30
        assert figures.first_grid_s > 0.1

    def test_masks_are_opened_in_the_second_session_alone(self, tmp_path: Path) -> None:
        workspace = make_world(tmp_path / "ws", N_ROWS, seed=3)
        make_masks(workspace, 5)
        figures = measure_masks_in_chromium(workspace, 2)
        decisions = read_decisions(log_path(workspace, ANNOTATOR))
        assert [given.masks.state for given in decisions if given.masks] == ["closed"] * 2 + ["opened"] * 2
        assert [len(given.masks.classes) for given in decisions if given.masks] == [0, 0, 1, 1]
        for times in (figures.key_to_picture_closed, figures.key_to_mask, figures.key_to_picture_opened):
            assert 0 < times.median_s < 30
