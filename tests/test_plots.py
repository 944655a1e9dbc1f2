"""What all plots share; those of each package are tested with their own."""

import matplotlib as mpl
import pytest

from manifests.errors import InputError
from manifests.plots.curves import CurvePanel, curves_figure
from manifests.plots.page import IN_PAGE, INK, SERIES, svg_of
from manifests.plots.style import FORMATS, ON_PAPER, ON_SCREEN

LOSS = CurvePanel("loss", {"loss": [2.0, 1.0, 0.5]})


def ticks(axis) -> list[str]:
    axis.figure.draw_without_rendering()
    return [label.get_text() for label in axis.get_ticklabels()]


class TestStyle:
    @pytest.mark.parametrize(("style", "size_pt"), [(ON_PAPER, 7), (ON_SCREEN, 8), (IN_PAGE, 9)])
    def test_names_are_written_as_they_are_in_words_of_one_size(self, style, size_pt):
        with style.applied():
            axes = style.new_figure(3, 2).subplots()
            title, label = axes.set_title("$a_b$"), axes.set_xlabel("x")
        assert not title.get_parse_math()
        assert title.get_fontsize() == label.get_fontsize() == size_pt
        assert [name for name, spine in axes.spines.items() if spine.get_visible()] == ["left", "bottom"]

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_a_users_own_settings_change_no_byte(self, tmp_path, file_format):
        paths = [tmp_path / f"{name}.{file_format}" for name in ("plain", "styled")]
        for path, settings in zip(paths, ({}, {"font.size": 20, "axes.facecolor": "red"}), strict=True):
            with mpl.rc_context(settings), ON_SCREEN.figure_at(path, 3, 2) as figure:
                figure.subplots().plot([1, 2], label="$x$")
        assert paths[0].read_bytes() == paths[1].read_bytes()

    def test_a_name_that_tells_no_format_is_refused_before_anything_is_drawn(self, tmp_path):
        with (
            pytest.raises(InputError, match=r"plot\.jpg: expected a file name that ends in \.png, \.svg, \.pdf"),
            ON_SCREEN.figure_at(tmp_path / "plot.jpg", 3, 2),
        ):
            pytest.fail("drawn")
        with pytest.raises(InputError, match="plot: expected a file name that ends in"):
            ON_PAPER.write(ON_PAPER.new_figure(3, 2), tmp_path / "plot")
        assert not list(tmp_path.iterdir())

    def test_a_chart_of_the_page_has_the_pages_colours_and_its_own_words(self):
        with IN_PAGE.applied():
            figure = IN_PAGE.new_figure(3, 2)
            axes = figure.subplots()
            axes.plot([1, 2], color=SERIES[1])
            axes.set_title("5 $ < 6 $", color=INK)
        svg = svg_of(figure, "one")
        assert svg.startswith("<svg")
        assert "var(--series-2)" in svg
        assert "#0102" not in svg
        assert "5 $ &lt; 6 $</text>" in svg
        assert "<metadata" not in svg
        assert svg_of(figure, "other") != svg


class TestCurves:
    def test_a_panel_shows_every_value_that_is_defined_and_a_dotted_line_before_each_step(self):
        panel = CurvePanel("IoU, %", {"mean": [None, 0.25, 0.5], "overall": [0.1, 0.2, 0.4]}, scale="percent")
        figure = curves_figure([1, 2, 3], [LOSS, panel], title="scenes", steps=[3])
        loss, iou = figure.axes
        assert [loss.get_title(), iou.get_title(), figure.get_suptitle()] == ["loss", "IoU, %", "scenes"]
        assert loss.lines[0].get_xydata().tolist() == [[1, 2.0], [2, 1.0], [3, 0.5]]
        assert iou.lines[0].get_xydata().tolist() == [[2, 0.25], [3, 0.5]]
        assert [line.get_xdata()[0] for line in (loss.lines[1], iou.lines[2])] == [2.5, 2.5]
        assert loss.get_legend() is None
        assert [text.get_text() for text in iou.get_legend().get_texts()] == ["mean", "overall"]
        assert ticks(iou.yaxis) == ["0", "25", "50", "75", "100"]

    def test_an_epoch_that_is_alone_is_a_point_at_one_tick(self):
        (axes,) = curves_figure([7], [CurvePanel("loss", {"loss": [2.0]})], title="").axes
        assert axes.lines[0].get_marker() == "."
        assert "7" in ticks(axes.xaxis)
        assert not [tick for tick in ticks(axes.xaxis) if "." in tick]

    def test_what_is_defined_after_no_epoch_has_no_figures_on_its_axis(self):
        (axes,) = curves_figure([1, 2], [CurvePanel("WFC", {"WFC": [None, None]}, scale="log")], title="").axes
        assert [text.get_text() for text in axes.texts] == ["not defined"]
        assert ticks(axes.yaxis) == []

    def test_a_logarithmic_axis_has_plain_figures(self):
        (axes,) = curves_figure([1, 2], [CurvePanel("WFC", {"WFC": [0.04, 2.0]}, scale="log")], title="").axes
        assert axes.get_yscale() == "log"
        assert {"0.05", "0.1", "0.2", "0.5", "1", "2"} <= set(ticks(axes.yaxis))

    def test_more_lines_than_can_be_told_apart_and_a_line_of_another_length_are_refused(self):
        five = {str(number): [0.0] for number in range(5)}
        with pytest.raises(ValueError, match="argument 2 is shorter"):
            curves_figure([1], [CurvePanel("five", five)], title="")
        with pytest.raises(ValueError, match="argument 2 is longer"):
            curves_figure([1, 2], [LOSS], title="")
