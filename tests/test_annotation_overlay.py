"""Where a class might be, over the candidate: the real App in a real Chromium, and what its pixels show."""

import hashlib
import io
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotation.queues import open_queue
from curation.localize.localize import localize_pictures
from manifests import schema
from manifests.workspace import Workspace
from tests.annotation_app import RunningApp, Screen, needs_app, own_screen
from tests.annotation_workspace import CLASS_NAMES, make_workspace

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
pytestmark = needs_app

N_REVIEW = 14
GOLD, BLUE = (255, 215, 0), (70, 130, 180)


class GoldFinder:
    """A localizer that knows the golden corner of each drawn picture; class k is sure of it by a tenth of k."""

    name, digest = "gold finder", "0000000000000001"

    def evidence(self, picture: Image.Image, names: Sequence[str]) -> np.ndarray:
        is_gold = near(np.asarray(picture.resize((64, 64))), GOLD)
        strengths = [0.3 + CLASS_NAMES.index(name) / 20 for name in names]
        return np.stack([is_gold * strength for strength in strengths]).astype(np.float32)


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels[..., :3].astype(int) - colour).max(axis=-1) < 40


def make_localized(root: Path) -> Workspace:
    """Every second picture is stored turned: what is upright must be masked upright."""
    workspace = make_workspace(root, n_review=N_REVIEW)
    candidates = workspace.read(schema.CANDIDATES).to_pylist()
    for number, row in enumerate(candidates):
        row["rotation_deg"] = 90 if number % 2 else None
    workspace.write(schema.CANDIDATES, candidates)
    downloads = workspace.read(schema.DOWNLOADS).to_pylist()
    for row in downloads:
        row["sha256"] = hashlib.sha256((root / row["path"]).read_bytes()).hexdigest()
    workspace.write(schema.DOWNLOADS, downloads)
    localize_pictures(workspace, GoldFinder, {})
    return workspace


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with RunningApp(make_localized(tmp_path_factory.mktemp("localized"))) as running:
        yield running


@pytest.fixture
def screen(opened: Screen) -> Screen:
    opened.page.mouse.move(600, 5)
    opened.press("z")
    if opened.page.locator("#oio-mask").count():
        opened.press("m")
    return opened


def shares(screen: Screen) -> tuple[float, float]:
    """Return how much of the stage is of the golden corner's colour, and how much of the ground's."""
    stage = Image.open(io.BytesIO(screen.page.locator(".oio-stage").screenshot()))
    pixels = np.asarray(stage.convert("RGB"))
    return float(near(pixels, GOLD).mean()), float(near(pixels, BLUE).mean())


def wait_for_mask(screen: Screen, class_index: int) -> None:
    screen.page.wait_for_selector(f"#oio-mask[data-class-index='{class_index}']")
    screen.page.wait_for_timeout(50)


def skip_to_next(screen: Screen) -> None:
    """Go on to a picture of which the page has no masks yet."""
    number = screen.number()
    screen.wait_for(number)
    screen.press("s")
    screen.wait_for(screen.app.order[screen.app.order.index(number) + 1])


def test_key_darkens_all_but_the_evidence_and_takes_it_off_again(screen: Screen) -> None:
    gold, blue = shares(screen)
    assert (gold > 0.02, blue > 0.3) == (True, True)
    screen.press("m")
    wait_for_mask(screen, screen.classes()[0])
    masked_gold, masked_blue = shares(screen)
    assert masked_gold == pytest.approx(gold, rel=0.25)
    assert masked_blue < 0.02
    screen.press("m")
    screen.page.wait_for_selector("#oio-mask", state="detached")
    assert shares(screen) == (gold, blue)


@pytest.mark.parametrize("keys", [("r",), ("+", "ArrowRight", "ArrowDown"), ("r", "r", "r", "+")])
def test_masks_follow_rotation_zoom_and_moves(screen: Screen, keys: tuple[str, ...]) -> None:
    screen.press(*keys)
    gold, _ = shares(screen)
    screen.press("m")
    wait_for_mask(screen, screen.classes()[0])
    masked_gold, masked_blue = shares(screen)
    screen.press(*["r"] * (-keys.count("r") % 4))
    assert masked_gold == pytest.approx(gold, rel=0.25, abs=0.003)
    assert masked_blue < 0.02


def test_pictures_stored_turned_are_masked_upright(screen: Screen) -> None:
    app, seen = screen.app, set()
    for _ in range(3):
        number = screen.number()
        seen.add(number % 2)
        gold, _ = shares(screen)
        screen.page.click("#oio-masks")
        wait_for_mask(screen, screen.classes()[0])
        assert shares(screen)[0] == pytest.approx(gold, rel=0.25)
        screen.press("s")
        screen.wait_for(app.order[app.order.index(number) + 1])
        # Of the picture that it was asked for alone.
        assert screen.page.locator("#oio-mask").count() == 0
    assert seen == {0, 1}


def test_the_card_that_is_pointed_at_says_which_class_and_the_caption_how_sure(screen: Screen) -> None:
    classes = screen.classes()
    screen.press("m")
    wait_for_mask(screen, classes[0])
    screen.page.locator(".oio-card").nth(6).hover()
    wait_for_mask(screen, classes[6])
    strength = 0.3 + classes[6] / 20
    caption = screen.page.inner_text("#oio-where")
    assert f"Where might it be: {CLASS_NAMES[classes[6]]}. Evidence {strength:.2f} of 1" in caption
    assert ("% of the picture" in caption) == (strength >= 0.5)
    screen.page.hover("#oio-progress")
    wait_for_mask(screen, classes[0])


def test_a_card_without_a_mask_shows_none_and_says_so(screen: Screen) -> None:
    skip_to_next(screen)
    page, classes = screen.page, screen.classes()

    def without_the_third(route: sync_api.Route) -> None:
        reply = route.fetch()
        body = reply.json()
        if "masks" in body["result"]:
            body["result"]["masks"] = [
                mask for mask in body["result"]["masks"] if mask["class_index"] != classes[2]
            ]
        route.fulfill(response=reply, json=body)

    page.route("**/operators/execute", without_the_third)
    screen.press("m")
    wait_for_mask(screen, classes[0])
    page.locator(".oio-card").nth(2).hover()
    page.wait_for_selector("#oio-mask", state="detached")
    assert page.inner_text("#oio-where-text") == f"There is no mask of {CLASS_NAMES[classes[2]]}."
    page.unroute_all()
    screen.press("m")


def test_masks_that_cannot_be_had_are_said_to_be_and_can_be_asked_for_again(screen: Screen) -> None:
    skip_to_next(screen)
    screen.page.route("**/operators/execute", lambda route: route.abort())
    screen.press("m")
    screen.page.wait_for_selector("#oio-where-text:has-text('could not be fetched; M asks again')")
    assert screen.page.locator("#oio-mask").count() == 0
    screen.page.unroute_all()
    screen.press("m")
    wait_for_mask(screen, screen.classes()[0])
    screen.press("m")
    assert "whether you look is stored with your answer" in screen.page.inner_text("#oio-where-text")


def test_masks_are_asked_for_once_and_only_when_they_are_wanted(screen: Screen) -> None:
    skip_to_next(screen)
    asked: list[str] = []
    screen.page.on("request", lambda request: asked.append(request.post_data or ""))
    screen.press("+", "z")
    assert not any("show_masks" in body for body in asked)
    screen.press("m")
    wait_for_mask(screen, screen.classes()[0])
    screen.press("m", "m")
    wait_for_mask(screen, screen.classes()[0])
    assert sum("show_masks" in body for body in asked) == 1


def test_no_mask_of_a_picture_outside_the_queue_is_given_and_none_tells_more_than_the_classes(
    screen: Screen,
) -> None:
    ask = """(imageId) => fetch("/operators/execute", { method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ operator_uri: "@openimage-o/judge/show_masks", params: { image_id: imageId } }) })
      .then((reply) => reply.json())"""
    own = screen.page.evaluate(ask, f"{screen.number():016x}")["result"]["masks"]
    assert [mask["class_index"] for mask in own] == screen.classes()
    assert {name for mask in own for name in mask} == {"class_index", "png", "area_share", "peak"}
    # The dropped picture.
    refused = screen.page.evaluate(ask, f"{N_REVIEW:016x}")
    assert "is not in this queue" in str(refused)
    assert refused.get("result") is None


def test_log_says_which_masks_were_drawn_also_after_a_reload_and_an_undo(screen: Screen) -> None:
    app, number, classes = screen.app, screen.number(), screen.classes()
    screen.press("m")
    wait_for_mask(screen, classes[0])
    screen.page.locator(".oio-card").nth(6).hover()
    wait_for_mask(screen, classes[6])
    screen.press("m")
    screen.page.reload()
    drawn = {"version": 1, "state": "opened", "classes": [classes[0], classes[6]]}
    for key in ("s", "d"):
        screen.wait_for(number)
        screen.press(key)
        screen.wait_until_saved()
        assert app.last_row()["masks"] == drawn
        screen.press("u")
    screen.wait_for(number)
    # As if the screen had been run again in between: a class that is no longer shown must not block the answer.
    screen.page.evaluate(
        """() => Object.keys(sessionStorage).filter((key) => key.includes("/masks-seen/"))
             .forEach((key) => sessionStorage.setItem(key, "[999]"))"""
    )
    screen.page.reload()
    screen.wait_for(number)
    screen.press("s")
    # The next one is answered as it is.
    screen.wait_for(app.order[app.order.index(number) + 1])
    screen.press("s")
    screen.wait_until_saved()
    assert app.last_row()["masks"] == {"version": 1, "state": "closed", "classes": []}


def test_masks_that_are_damaged_on_the_way_are_said_to_be_and_not_told_as_drawn(screen: Screen) -> None:
    skip_to_next(screen)
    page, errors = screen.page, []
    page.on("pageerror", lambda error: errors.append(error))

    def broken_off(route: sync_api.Route) -> None:
        reply = route.fetch()
        body = reply.json()
        for place, mask in enumerate(body["result"].get("masks", [])):
            # Browsers draw what there is of the second, and nothing of the first.
            mask["png"] = "AAAA" if place == 0 else mask["png"][:60]
        route.fulfill(response=reply, json=body)

    page.route("**/operators/execute", broken_off)
    classes = screen.classes()
    screen.press("m")
    for place in range(2):
        page.locator(".oio-card").nth(place).hover()
        words = f"The mask of {CLASS_NAMES[classes[place]]} is damaged and cannot be drawn."
        page.wait_for_selector(f"#oio-where-text:has-text('{words}')")
    assert page.locator("#oio-mask[data-class-index]").count() == 0
    page.unroute_all()
    screen.press("s")
    screen.wait_until_saved()
    assert screen.app.last_row()["masks"] == {"version": 1, "state": "opened", "classes": []}
    assert errors == []


def test_a_browser_that_keeps_nothing_more_says_so_and_the_log_has_what_was_drawn(
    browser: sync_api.Browser, app: RunningApp
) -> None:
    with own_screen(browser, app) as screen:
        errors: list[object] = []
        screen.page.on("pageerror", lambda error: errors.append(error))
        screen.page.evaluate(
            """() => { for (const size of [100000, 100, 1]) {
                 try { for (let n = 0; ; n++) sessionStorage.setItem(`${size}/${n}`, "y".repeat(size)); }
                 catch { continue; } } }"""
        )
        classes = screen.classes()
        screen.press("m")
        wait_for_mask(screen, classes[0])
        screen.page.wait_for_selector("#oio-where-text:has-text('This browser keeps nothing more')")
        screen.press("s")
        screen.wait_until_saved()
        assert app.last_row()["masks"] == {"version": 1, "state": "opened", "classes": [classes[0]]}
        assert errors == []


def test_an_answer_that_waits_outlives_server_and_screen_and_nothing_moves_between_pictures(
    browser: sync_api.Browser, tmp_path: Path
) -> None:
    workspace = make_localized(tmp_path / "ws")
    first, without = (int(image_id, 16) for image_id in open_queue(workspace, "ann").plan.order[:2])
    located = workspace.read(schema.LOCALIZED).to_pylist()
    workspace.write(schema.LOCALIZED, [row for row in located if int(row["image_id"], 16) != without])
    with RunningApp(workspace) as app, own_screen(browser, app) as screen:
        page, drawn = screen.page, screen.classes()[0]
        screen.press("m")
        wait_for_mask(screen, drawn)
        page.route(
            "**/operators/execute",
            lambda route: (
                route.abort() if "store_answer" in (route.request.post_data or "") else route.continue_()
            ),
        )
        places = corners(screen)
        screen.press("o")
        screen.wait_for(without)
        assert page.is_disabled("#oio-masks")
        assert page.inner_text("#oio-where-text") == "There are no masks of this picture."
        assert corners(screen) == places
        page.set_viewport_size({"width": 800, "height": 700})
        assert all(right <= 800 for _, _, right in corners(screen))
        app.end(signal.SIGKILL)
        assert app.answers() == []
        page.unroute_all()
        rows = workspace.read(schema.SCREEN).to_pylist()
        for row in rows:
            kept = [place for place, index in enumerate(row["shown_classes"]) if index != drawn]
            row |= {name: [row[name][place] for place in kept] for name in ("shown_classes", "shown_similarities")}
        workspace.write(schema.SCREEN, rows)
        for shard in workspace.masks_dir.rglob("shard-*.parquet"):
            shard.write_bytes(b"PAR1garbage")
        with RunningApp(workspace, "--port", str(app.port)) as again:
            page.wait_for_selector("#oio-judge[data-ready=true]")
            screen.wait_until_saved()
            assert again.answers() == [(first, "out", None)]
            assert again.last_row()["masks"] == {"version": 1, "state": "opened", "classes": []}
            screen.wait_for(without)
            screen.press("s")
            screen.wait_for(again.order[again.order.index(without) + 1])
            screen.press("m")
            words = "The masks cannot be shown: shard-"
            page.wait_for_selector(f"#oio-where-text:has-text('{words}')")
            assert "cannot be read as Parquet" in page.inner_text("#oio-where-text")
            screen.press("d")
            screen.wait_until_saved()
            assert again.last_row()["masks"] == {"version": 1, "state": "none", "classes": []}


def corners(screen: Screen) -> list[tuple[str, int, int]]:
    """Return where the frame of the picture and the buttons begin and end."""
    found = screen.page.evaluate(
        """() => [...document.querySelectorAll(".oio-stage, .oio-answer")].map((part) => {
             const box = part.getBoundingClientRect();
             return [part.id, Math.round(box.left), Math.round(box.right)]; })"""
    )
    return [tuple(one) for one in found]


def test_without_masks_there_is_no_button_and_the_key_does_nothing(
    browser: sync_api.Browser, tmp_path: Path
) -> None:
    with RunningApp(make_workspace(tmp_path / "ws", n_review=2)) as app, own_screen(browser, app) as screen:
        screen.press("m")
        assert screen.page.locator("#oio-masks, #oio-mask, #oio-where").count() == 0
        assert screen.page.locator(".oio-answer").count() == 7
        screen.press("s")
        screen.wait_until_saved()
        assert app.last_row()["masks"] == {"version": 1, "state": "none", "classes": []}
