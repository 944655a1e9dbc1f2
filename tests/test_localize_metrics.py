import numpy as np
import pytest

from curation.localize.metrics import MaskCounts, count_pixels, segmentation_figures

# Two answers on 3 x 4 pixels, counted by eye.
TRUTH_A = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
ANSWER_A = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
TRUTH_B = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]], dtype=bool)
ANSWER_B = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]], dtype=bool)
COUNTS = [MaskCounts(3, 1, 1, 7), MaskCounts(2, 0, 0, 10)]


def test_pixels_are_counted_as_by_eye():
    assert [count_pixels(TRUTH_A, ANSWER_A), count_pixels(TRUTH_B, ANSWER_B)] == COUNTS


def test_iou_of_one_answer_is_intersection_over_union():
    assert COUNTS[0].iou == 3 / 5
    assert COUNTS[1].iou == 1


def test_mean_iou_weighs_answers_alike_and_overall_iou_weighs_pixels():
    figures = segmentation_figures(COUNTS)
    assert figures.mean_iou == pytest.approx((3 / 5 + 1) / 2)
    assert figures.overall_iou == pytest.approx((3 + 2) / (5 + 2))


def test_precision_counts_answers_strictly_above_each_threshold():
    # 0.6 is not above 0.6.
    assert segmentation_figures(COUNTS).precision_at == (1.0, 0.5, 0.5, 0.5, 0.5)


def test_pixel_measures_are_those_of_the_two_by_two_matrix():
    figures = segmentation_figures(COUNTS)
    # Of all 24 pixels: 5 object hits, 1 missed, 1 wrong, 17 background hits.
    assert figures.pixel_accuracy == pytest.approx(22 / 24)
    assert figures.mean_pixel_accuracy == pytest.approx((5 / 6 + 17 / 18) / 2)
    assert figures.class_mean_iou == pytest.approx((5 / 7 + 17 / 19) / 2)


def test_the_two_measures_called_mean_iou_differ():
    figures = segmentation_figures(COUNTS)
    assert figures.mean_iou != pytest.approx(figures.class_mean_iou, abs=1e-3)


def test_an_empty_answer_to_an_empty_mask_counts_as_in_the_authors_code():
    assert MaskCounts(0, 0, 0, 12).iou == 0


def test_a_class_without_pixels_is_left_out_of_means_over_classes():
    figures = segmentation_figures([MaskCounts(3, 1, 0, 0)])
    assert figures.mean_pixel_accuracy == pytest.approx(3 / 4)
    assert figures.class_mean_iou == pytest.approx((3 / 4 + 0 / 1) / 2)


def test_no_answers_have_figures_of_zero():
    assert set(segmentation_figures([]).as_row().values()) == {0.0}
