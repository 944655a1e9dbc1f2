"""Drawings of in-distribution classes that people make; each varies with the generator it is given."""

import math
from itertools import pairwise

import numpy as np

from curation.sample.sketch import Sketch, circle_points, darker, mirrored, pick_colour

_WHITE = (250, 248, 242)
_BLACK = (24, 22, 26)


def draw_analog_clock(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a round clock face with hour marks and two or three hands."""
    rim = pick_colour(rng, (0, 360), (0.1, 0.9), (0.2, 0.85))
    face = pick_colour(rng, (30, 60), (0, 0.15), (0.88, 1))
    sketch.disc((0, 0), 0.97, rim, darker(rim))
    sketch.disc((0, 0), rng.uniform(0.78, 0.88), face, darker(rim))
    for hour in range(12):
        (outer,), length = circle_points(1, 0.74, 30 * hour), 0.8 if hour % 3 == 0 else 0.9
        sketch.line([outer, (outer[0] * length, outer[1] * length)], _BLACK, 0.07 if hour % 3 == 0 else 0.035)
    hands = [(0.42, 0.09), (0.62, 0.055)]
    for length, width in hands:
        sketch.line([(0, 0), circle_points(1, length, rng.uniform(0, 360))[0]], _BLACK, width)
    if rng.random() < 0.5:
        sketch.line([(0, 0), circle_points(1, 0.66, rng.uniform(0, 360))[0]], (190, 40, 40), 0.025)
    sketch.disc((0, 0), 0.07, _BLACK)


def draw_balloon(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a hot air balloon with a striped envelope and a basket."""
    first = pick_colour(rng, (0, 360), (0.6, 1), (0.7, 1))
    second = pick_colour(rng, (0, 360), (0.1, 0.9), (0.8, 1))
    wide = rng.uniform(0.62, 0.75)
    for x in (-0.15, 0.15):
        sketch.line([(x * 2, 0.3), (x, 0.78)], (70, 60, 50), 0.025)
    half = [(0, -0.98), (0.75, -0.75), (1, -0.3), (0.7, 0.15), (0.3, 0.45)]
    n_gores = int(rng.integers(3, 6))
    for k in range(n_gores, 0, -1):
        reach = wide * k / n_gores
        sketch.blob(mirrored([(x * reach, y) for x, y in half]), (first, second)[k % 2], darker(first, 0.75))
    sketch.box((-0.15, 0.74), (0.15, 0.97), (150, 105, 60), (95, 62, 35), 0.03)


def draw_candle(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a burning candle with a run of wax, at times on a plate."""
    wax = pick_colour(rng, (0, 360), (0, 0.7), (0.75, 1))
    wide, top = rng.uniform(0.16, 0.32), rng.uniform(-0.35, 0)
    if rng.random() < 0.5:
        sketch.ellipse((0, 0.9), (0.55, 0.09), pick_colour(rng, (20, 50), (0.3, 0.8), (0.4, 0.8)), _BLACK)
    sketch.box((-wide, top), (wide, 0.93), wax, darker(wax, 0.75), 0.05)
    sketch.ellipse((0, top), (wide, 0.07), darker(wax, 1.12), darker(wax, 0.75))
    for x in rng.uniform(-0.8, 0.8, size=2) * wide:
        sketch.line([(float(x), top + 0.02), (float(x), top + rng.uniform(0.15, 0.5))], darker(wax, 0.88), 0.07)
    sketch.line([(0, top), (0.02, top - 0.14)], _BLACK, 0.04)
    tall = rng.uniform(0.38, 0.55)
    base = top - 0.08
    for size, colour in ((1, (255, 150, 30)), (0.65, (255, 210, 70)), (0.32, (255, 248, 210))):
        half = [(0, base - tall * size), (0.1 * size, base - tall * 0.6 * size), (0.15 * size, base - 0.12 * size)]
        sketch.blob([*mirrored(half), (0, base)], colour)


def draw_envelope(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a letter envelope: its flap side, or its front with stamp and address."""
    paper = pick_colour(rng, (20, 230), (0, 0.3), (0.85, 1))
    line, tall = darker(paper, rng.uniform(0.45, 0.7)), rng.uniform(0.52, 0.66)
    sketch.box((-0.96, -tall), (0.96, tall), paper, line, 0.03)
    if rng.random() < 0.65:
        for x in (-0.96, 0.96):
            sketch.line([(x, tall), (0, rng.uniform(-0.1, 0.05))], line, 0.03)
        tip = rng.uniform(0.1, 0.28)
        sketch.polygon([(-0.96, -tall), (0.96, -tall), (0, tip)], darker(paper, 0.93), line)
        if rng.random() < 0.4:
            sketch.disc((0, tip), 0.13, pick_colour(rng, (-10, 10), (0.7, 1), (0.5, 0.8)))
        return
    sketch.box((0.6, -tall + 0.1), (0.86, -tall + 0.42), pick_colour(rng), line)
    for k, length in enumerate(rng.uniform(0.3, 0.7, size=3)):
        sketch.line([(-0.3, 0.02 + 0.16 * k), (-0.3 + float(length), 0.02 + 0.16 * k)], (60, 70, 110), 0.04)
    sketch.line([(-0.86, -tall + 0.14), (-0.4, -tall + 0.14)], (60, 70, 110), 0.035)


def draw_hourglass(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw an hourglass, with sand above and below."""
    wood = pick_colour(rng, (10, 40), (0.4, 0.85), (0.35, 0.75))
    sand = pick_colour(rng, (25, 55), (0.35, 0.7), (0.75, 0.95))
    wide = rng.uniform(0.42, 0.55)
    glass = (222, 236, 240)
    half = [(wide, -0.84), (wide, -0.55), (0.06, 0), (wide, 0.55), (wide, 0.84)]
    sketch.polygon(mirrored(half), glass, (120, 140, 150))
    left = rng.uniform(0.1, 0.8)
    level, reach = -0.1 - 0.6 * left, wide * (0.12 + 0.88 * min(1.0, (0.1 + 0.6 * left) / 0.55))
    sketch.polygon([(-reach * 0.9, level), (reach * 0.9, level), (0.04, -0.02), (-0.04, -0.02)], sand)
    sketch.line([(0, -0.02), (0, 0.7)], sand, 0.035)
    heap = 0.82 - 0.55 * (1 - left)
    sketch.polygon([(-wide * 0.92, 0.83), (0, heap), (wide * 0.92, 0.83)], sand)
    for x in (-wide - 0.14, wide + 0.14):
        sketch.line([(x, -0.86), (x, 0.86)], darker(wood, 0.8), 0.08)
    for y in (-0.9, 0.9):
        sketch.box((-wide - 0.24, y - 0.075), (wide + 0.24, y + 0.075), wood, darker(wood), 0.03)


def draw_padlock(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a padlock, shut or open."""
    metal = pick_colour(rng, (35, 50), (0.4, 0.85), (0.65, 0.95)) if rng.random() < 0.6 else pick_colour(rng)
    steel = pick_colour(rng, (200, 230), (0, 0.15), (0.45, 0.75))
    wide, lift = rng.uniform(0.55, 0.72), 0.18 if rng.random() < 0.25 else 0.0
    reach = wide * 0.62
    sketch.arc((0, -0.38 - lift), (reach, 0.52), (180, 360), steel, 0.16)
    sketch.line([(-reach + 0.08, -0.4 - lift), (-reach + 0.08, 0)], steel, 0.16)
    sketch.line([(reach - 0.08, -0.4 - lift), (reach - 0.08, -0.15 if lift else 0)], steel, 0.16)
    sketch.box((-wide, -0.12), (wide, 0.95), metal, darker(metal), rng.uniform(0.05, 0.3))
    sketch.disc((0, 0.32), 0.14, _BLACK)
    sketch.polygon([(-0.06, 0.35), (0.06, 0.35), (0.11, 0.7), (-0.11, 0.7)], _BLACK)


def draw_soccer_ball(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a soccer ball: dark pentagons on white, joined by seams."""
    patch = _BLACK if rng.random() < 0.7 else pick_colour(rng, (0, 360), (0.7, 1), (0.3, 0.6))
    turn_deg = rng.uniform(0, 72)
    sketch.disc((0, 0), 0.96, _WHITE, (90, 90, 95))
    size = rng.uniform(0.26, 0.34)
    sketch.polygon(circle_points(5, size, turn_deg), patch)
    for k in range(5):
        angle = turn_deg + 72 * k
        near, far = circle_points(1, size, angle)[0], circle_points(1, 0.62, angle)[0]
        sketch.line([near, far], patch, 0.04)
        edge = [
            circle_points(1, radius, angle + side)[0]
            for radius, side in ((0.62, 0), (0.74, 18), (0.93, 14), (0.93, -14), (0.74, -18))
        ]
        sketch.polygon(edge, patch)
        sketch.line([edge[1], circle_points(1, 0.72, angle + 54)[0]], patch, 0.035)


def draw_sunglasses(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw sunglasses from the front, round, square or drop-shaped."""
    frame = pick_colour(rng, (0, 360), (0, 0.9), (0.08, 0.7))
    lens = pick_colour(rng, (180, 400), (0.1, 0.6), (0.1, 0.38))
    form = rng.integers(3)
    tall = rng.uniform(0.3, 0.42)
    for side in (-1, 1):
        middle = side * 0.5
        if form == 0:
            sketch.ellipse((middle, 0), (0.42, tall), lens, frame, 0.09)
        elif form == 1:
            sketch.box((middle - 0.44, -tall), (middle + 0.44, tall), frame, rounding=0.1)
            sketch.box((middle - 0.36, -tall + 0.08), (middle + 0.36, tall - 0.08), lens, rounding=0.06)
        else:
            drop = [
                (middle - 0.42 * side, -tall),
                (middle + 0.44 * side, -tall),
                (middle + 0.4 * side, tall * 0.4),
                (middle + 0.05 * side, tall),
                (middle - 0.35 * side, tall * 0.3),
            ]
            sketch.blob(drop, lens, frame)
        sketch.line([(middle - 0.15, -tall * 0.45), (middle + 0.05, -tall * 0.1)], darker(lens, 2.4), 0.05)
        sketch.line([(side * 0.9, -tall * 0.4), (side * 0.99, -tall * 0.7)], frame, 0.1)
    sketch.arc((0, 0), (0.16, 0.14), (180, 360), frame, 0.08)


def draw_teapot(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a teapot with lid, spout and handle."""
    glaze = pick_colour(rng, (0, 360), (0.1, 0.85), (0.55, 1))
    edge, facing = darker(glaze), rng.choice([-1, 1])
    tall = rng.uniform(0.48, 0.6)
    sketch.ellipse((-facing * 0.62, 0.12), (0.32, 0.34), None, edge, 0.12)
    spout = [(0.35, 0.4), (0.72, 0.1), (0.8, -0.35), (0.98, -0.38), (0.9, 0.12), (0.45, 0.6)]
    sketch.blob([(facing * x, y) for x, y in spout], darker(glaze, 0.9), edge)
    sketch.ellipse((0, 0.22), (0.66, tall), glaze, edge)
    sketch.ellipse((0, 0.22 - tall * 0.85), (0.34, 0.1), darker(glaze, 0.88), edge)
    sketch.disc((0, 0.08 - tall), 0.1, glaze, edge)
    sketch.box((-0.34, 0.14 + tall), (0.34, 0.25 + tall), darker(glaze, 0.8), rounding=0.03)
    if rng.random() < 0.5:
        band = pick_colour(rng)
        for x in np.linspace(-0.4, 0.4, 5):
            sketch.disc((float(x), 0.25), 0.08, band)


def draw_umbrella(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw an open umbrella with a scalloped edge and a hooked handle."""
    first = pick_colour(rng, (0, 360), (0.5, 1), (0.5, 1))
    second = first if rng.random() < 0.5 else pick_colour(rng, (0, 360), (0.2, 1), (0.7, 1))
    tall = rng.uniform(0.6, 0.85)
    sketch.line([(0, -0.98), (0, 0.75)], (70, 55, 45), 0.06)
    sketch.arc((0.13, 0.75), (0.16, 0.2), (0, 180), (70, 55, 45), 0.07)
    n_panels = int(rng.integers(4, 7))
    stops = np.linspace(-1, 1, n_panels + 1)
    for k, (left, right) in enumerate(pairwise(stops)):
        rim = [
            (float(x), 0.02 - 0.1 * math.sin(math.pi * (x - left) / (right - left)))
            for x in np.linspace(left, right, 7)
        ]
        rise = [
            (x * math.cos(a), -tall * math.sin(a))
            for x, angles in ((right, np.linspace(0, 1.57, 8)), (left, np.linspace(1.57, 0, 8)))
            for a in angles
        ]
        sketch.polygon([*rim, *rise], (first, second)[k % 2], darker(first, 0.75))


def draw_sailboat(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a yawl: hull, mast, one or two sails, at times waves."""
    hull = pick_colour(rng, (0, 360), (0.3, 0.9), (0.3, 0.85))
    sail = pick_colour(rng, (0, 360), (0, 0.25), (0.9, 1))
    facing = rng.choice([-1, 1])
    sketch.line([(0, -0.97), (0, 0.5)], (95, 65, 40), 0.05)
    main = [(0.05, -0.92), (0.05, 0.38), (rng.uniform(0.6, 0.85), 0.38)]
    jib = [(-0.05, -0.8), (-0.05, 0.38), (-rng.uniform(0.4, 0.7), 0.38)]
    sketch.polygon([(facing * x, y) for x, y in main], sail, darker(sail, 0.65))
    second = sail if rng.random() < 0.5 else pick_colour(rng)
    sketch.polygon([(facing * x, y) for x, y in jib], second, darker(second, 0.65))
    sketch.polygon([(-0.85, 0.46), (0.9, 0.46), (0.6, 0.85), (-0.55, 0.85)], hull, darker(hull))
    if rng.random() < 0.6:
        wave = [(float(x), 0.88 + 0.04 * math.sin(14 * x)) for x in np.linspace(-0.98, 0.98, 40)]
        sketch.line(wave, pick_colour(rng, (190, 225), (0.4, 0.8), (0.6, 0.9)), 0.08)


def draw_traffic_light(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw a traffic light with one of three lamps lit, on a pole."""
    case = pick_colour(rng, (0, 360), (0, 0.2), (0.1, 0.3)) if rng.random() < 0.75 else (215, 170, 30)
    wide = rng.uniform(0.3, 0.38)
    sketch.line([(0, 0.5), (0, 0.99)], (80, 80, 85), 0.12)
    sketch.box((-wide, -0.97), (wide, 0.72), case, darker(case, 0.5), 0.12)
    lit = rng.integers(3)
    for k, lamp in enumerate(((240, 45, 40), (250, 190, 40), (55, 215, 90))):
        centre = (0.0, -0.66 + 0.54 * k)
        sketch.disc(centre, wide * 0.68, lamp if k == lit else darker(lamp, 0.38), _BLACK)
        if k == lit:
            sketch.disc((-0.05, centre[1] - 0.06), wide * 0.25, (255, 250, 235))
        sketch.arc(centre, (wide * 0.78, wide * 0.78), (190, 350), _BLACK, 0.05)


def draw_popsicle(sketch: Sketch, rng: np.random.Generator) -> None:
    """Draw an ice lolly on its stick, of one to three flavours, at times bitten."""
    wide = rng.uniform(0.36, 0.5)
    sketch.box((-0.1, 0.3), (0.1, 0.98), (222, 188, 135), (165, 125, 80), 0.08)
    flavours = [pick_colour(rng, (0, 360), (0.45, 0.95), (0.8, 1)) for _ in range(int(rng.integers(1, 4)))]
    sketch.box((-wide, -0.97), (wide, 0.52), flavours[0], darker(flavours[0], 0.7), wide * 0.75)
    height = 1.0 / len(flavours)
    for k, flavour in enumerate(flavours[1:], start=1):
        sketch.box((-wide + 0.03, -0.55 + k * height), (wide - 0.03, 0.48), flavour, rounding=0.08)
    for x in (-wide * 0.45, wide * 0.45):
        sketch.line([(x, -0.55), (x, 0.3)], darker(flavours[0], 0.82), 0.08)
    sketch.line([(-wide * 0.75, -0.5), (-wide * 0.75, 0.1)], darker(flavours[0], 1.5), 0.05)
