"""Colours of printed plots; a page of the report has its own, chosen for its two grounds, in its style sheet."""

# The colours that Okabe and Ito (2008, "Color universal design") chose to be told apart by everyone; without their
# yellow, which is too pale for a line on white.
BLACK, ORANGE, SKY_BLUE, GREEN, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip

GREY, PALE_GREY = "#666666", "#B8B8B8"
"""For guides and notes, and for lines that stand back."""
