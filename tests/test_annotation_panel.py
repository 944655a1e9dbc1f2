"""What the annotator sees and types in the panel: the real App in a real Chromium."""

import signal
from collections.abc import Iterator

import pytest

from annotation.decision_log import log_path
from tests.annotation_app import MARKUP, RunningApp, Screen, needs_app, shared_app
from tests.annotation_workspace import CLASS_NAMES, shown_classes_of

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with shared_app(tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.fixture
def screen(opened: Screen) -> Screen:
    return opened.settle()


def hold(screen: Screen, key: str, *, n_repeats: int = 8) -> None:
    for _ in range(1 + n_repeats):
        screen.page.keyboard.down(key)
        # Longer than the panel wants a picture looked at, so that a repetition could answer the next one.
        screen.page.wait_for_timeout(60)
    screen.page.keyboard.up(key)


def press_place(screen: Screen, code: str, key: str, *, has_shift: bool = False) -> None:
    """Press the key at a place of the keyboard that has another sign there."""
    screen.page.evaluate(
        """([code, key, shiftKey]) => document.querySelector("#oio-judge").dispatchEvent(
             new KeyboardEvent("keydown", { code, key, shiftKey, bubbles: true, cancelable: true }))""",
        [code, key, has_shift],
    )


class TestKeys:
    pytestmark = needs_app

    def test_class_outside_the_ten_is_found_by_keyboard_and_stored(self, screen: Screen) -> None:
        number = screen.number()
        absent = next(
            index for index in range(len(CLASS_NAMES)) if index not in shown_classes_of(number) and index != 5
        )
        screen.press("/")
        screen.page.keyboard.type(CLASS_NAMES[absent][:5])
        found = screen.page.locator(".oio-hit")
        place = [int(hit.get_attribute("data-class-index")) for hit in found.all()].index(absent)
        screen.press(*["ArrowDown"] * place, "Enter")
        screen.page.wait_for_selector(".oio-overlay", state="detached")
        screen.wait_until_saved()
        assert screen.app.answers()[-1] == (number, "in", absent)

    def test_typing_never_judges(self, screen: Screen) -> None:
        before, number = screen.app.answers(), screen.number()
        for key in ("/", "n"):
            screen.press(key)
            screen.page.keyboard.type("odsu1230zg?")
            screen.press("Escape")
        screen.press("Control+d", "g", "o", "Escape")
        screen.page.evaluate("document.body.append(Object.assign(document.createElement('input'), {id: 'typed'}))")
        screen.page.focus("#typed")
        screen.page.keyboard.type("odsu13")
        assert screen.page.input_value("#typed") == "odsu13"
        screen.page.evaluate("document.querySelector('#typed').remove()")
        assert (screen.number(), screen.app.answers()) == (number, before)
        assert screen.page.inner_text("#oio-note") == "N Note"

    def test_note_lands_in_the_log_with_the_answer(self, screen: Screen) -> None:
        screen.press("n")
        screen.page.keyboard.type("a fin, or a wing? <b>")
        screen.press("Enter", "d")
        screen.wait_until_saved()
        row = screen.app.last_row()
        assert (row["answer"], row["note"]) == ("difficult", "a fin, or a wing? <b>")

    def test_note_and_search_belong_to_the_picture_at_which_they_were_opened(self, screen: Screen) -> None:
        page, app = screen.page, screen.app
        before, first = app.answers(), screen.number()
        second = app.order[app.order.index(first) + 1]
        held: list[sync_api.Route] = []
        page.route("**/operators/execute", lambda route: route.continue_() if held else held.append(route))
        app.limit_file_size(log_path(app.workspace, "ann").stat().st_size if before else 1)
        screen.press("o")
        screen.wait_for(second)
        screen.press("n")
        page.keyboard.type("of the second")
        # Refused: the first picture comes back under the open dialog.
        held[0].continue_()
        page.wait_for_selector(".oio-overlay", state="detached")
        app.limit_file_size(-1)
        screen.wait_for(first)
        assert page.inner_text("#oio-note") == "N Note"
        screen.press("/")
        assert page.locator(".oio-overlay .oio-message").inner_text().startswith("Not saved: ")
        screen.press("Escape", "d")
        screen.wait_for(second)
        assert page.inner_text("#oio-note") == "N Note ✓"
        screen.press("s")
        screen.wait_until_saved()
        assert app.answers() == [*before, (first, "difficult", None), (second, "skip", None)]
        assert app.last_row()["note"] == "of the second"

    def test_held_key_answers_once(self, screen: Screen) -> None:
        before, order = screen.app.answers(), screen.app.order
        start = order.index(screen.number())
        hold(screen, "o")
        screen.wait_for(order[start + 1])
        # The button keeps the focus, and Enter presses it; only once, however long it is held.
        screen.page.focus("#oio-difficult")
        hold(screen, "Enter")
        screen.wait_for(order[start + 2])
        hold(screen, "/")
        assert screen.page.input_value("#oio-search-text") == ""
        screen.press("Escape")
        screen.wait_until_saved()
        words = ("out", "difficult")
        assert screen.app.answers() == before + [
            (number, word, None) for number, word in zip(order[start:], words, strict=False)
        ]

    @pytest.mark.parametrize(
        ("code", "key", "answer", "place"),
        [
            ("Digit1", "&", "in", 0),
            ("Digit6", "-", "in", 5),
            ("Digit0", "à", "in", 9),
            ("KeyO", "щ", "out", None),
            ("KeyS", "o", "out", None),
        ],
    )
    def test_keys_of_other_keyboards_answer_by_their_sign_or_else_by_their_place(
        self, screen: Screen, code: str, key: str, answer: str, place: int | None
    ) -> None:
        """French, French, French, Russian and Dvorak."""
        before, number = screen.app.answers(), screen.number()
        press_place(screen, code, key)
        screen.wait_until_saved()
        class_index = None if place is None else shown_classes_of(number)[place]
        assert screen.app.answers() == [*before, (number, answer, class_index)]
        screen.press("u")
        screen.wait_for(number)

    def test_shifted_digits_of_other_keyboards_answer_nothing(self, screen: Screen) -> None:
        before = screen.app.answers()
        press_place(screen, "Digit1", "!", has_shift=True)
        # The slash of a German keyboard.
        press_place(screen, "Digit7", "/", has_shift=True)
        assert screen.page.locator("#oio-search-text").count() == 1
        assert screen.app.answers() == before

    def test_enter_on_a_found_class_that_has_the_focus_takes_that_one(self, screen: Screen) -> None:
        number = screen.number()
        screen.press("/")
        screen.page.keyboard.type("shark")
        third = screen.page.locator(".oio-hit").nth(1)
        class_index = int(third.get_attribute("data-class-index"))
        screen.press("Tab", "Tab", "Enter")
        screen.wait_until_saved()
        assert screen.app.answers()[-1] == (number, "in", class_index)

    def test_nothing_of_the_app_around_the_panel_can_be_seen_or_reached(self, screen: Screen) -> None:
        page = screen.page
        for x, y in ((3, 3), (640, 20), (60, 85), (1270, 30), (1270, 790)):
            assert page.evaluate(
                "([x, y]) => Boolean(document.elementFromPoint(x, y).closest('#oio-judge'))", [x, y]
            )
        reached = set()
        for _ in range(25):
            screen.press("Tab")
            reached.add(
                page.evaluate(
                    """(({ id, className, tagName }) => document.activeElement.closest("#oio-judge") ?
                         id || className : tagName)(document.activeElement)"""
                )
            )
        # BODY: once round, the focus is outside the page.
        assert reached - {"BODY"} == {"oio-card"} | {
            f"oio-{name}" for name in ("out", "search", "difficult", "skip", "note", "guideline", "undo")
        }
        # The App's own key for its list of operators.
        screen.press("`")
        assert page.locator("[role=dialog], [placeholder*=operator]").count() == 0

    def test_stopped_server_is_said_in_words_and_nothing_moves(self, screen: Screen) -> None:
        page, app = screen.page, screen.app
        before, start = app.answers(), app.order.index(screen.number())
        places = [card.bounding_box() for card in page.locator(".oio-card").all()]
        app.process.send_signal(signal.SIGSTOP)
        try:
            screen.press("s")
            page.wait_for_selector(
                ".oio-message:has-text('Waiting for the server. Keep this page open: 1 answer waits')"
            )
            assert [card.bounding_box() for card in page.locator(".oio-card").all()] == places
            for number in app.order[start + 1 : start + 3]:
                screen.wait_for(number)
                screen.press("s")
            page.wait_for_selector(
                ".oio-message:has-text('3 answers wait in it to be saved. Keys answer nothing')"
            )
        finally:
            app.process.send_signal(signal.SIGCONT)
        screen.wait_until_saved()
        page.wait_for_selector(".oio-message", state="detached")
        assert app.answers() == before + [(number, "skip", None) for number in app.order[start : start + 3]]


class TestScreen:
    pytestmark = needs_app

    def test_pointing_at_a_card_draws_its_tile_on_the_candidate(self, screen: Screen) -> None:
        page = screen.page
        assert page.locator("#oio-box").count() == 0
        card = page.locator(".oio-card").nth(1)
        assert card.locator(".oio-mark").all_inner_texts() == ["CLIP", "tile"]
        for point, leave in ((card.hover, lambda: page.hover("#oio-progress")), (card.focus, lambda: card.blur())):
            point()
            box, sheet = page.locator("#oio-box").bounding_box(), page.locator("#oio-sheet").bounding_box()
            # The tile at the top right of two by two, whose squares are two thirds of the shorter side.
            side = 2 / 3 * min(sheet["width"], sheet["height"])
            assert (box["width"], box["height"]) == pytest.approx((side, side), abs=2)
            assert box["x"] + box["width"] == pytest.approx(sheet["x"] + sheet["width"], abs=2)
            assert box["y"] == pytest.approx(sheet["y"], abs=2)
            leave()
            page.wait_for_selector("#oio-box", state="detached")

    def test_candidate_is_zoomed_under_the_pointer_dragged_turned_and_put_back(self, screen: Screen) -> None:
        page = screen.page
        box = lambda: page.locator("#oio-sheet").bounding_box()  # noqa: E731
        before = box()
        x, y = before["x"] + 30, before["y"] + 40
        page.mouse.move(x, y)
        page.mouse.wheel(0, -300)
        page.wait_for_function("document.querySelector('#oio-sheet').style.transform.includes('scale(1.7')")
        zoomed = box()
        assert zoomed["width"] == pytest.approx(before["width"] * 1.2**3, rel=0.01)
        # What was under the pointer still is.
        assert x - zoomed["x"] == pytest.approx(30 * 1.2**3, abs=1)
        page.mouse.down()
        page.mouse.move(x + 50, y + 20)
        page.mouse.up()
        assert box()["x"] == pytest.approx(zoomed["x"] + 50, abs=1)
        screen.press("z")
        assert box() == pytest.approx(before)
        screen.press("r")
        turned = box()
        assert turned["width"] / turned["height"] == pytest.approx(before["height"] / before["width"], rel=0.01)

    def test_markup_in_names_is_shown_as_text(self, screen: Screen) -> None:
        screen.press("/")
        screen.page.keyboard.type("onerror")
        assert MARKUP in screen.page.inner_text(".oio-hit")
        assert screen.page.locator(".oio-hit img[src='x']").count() == 0
        assert screen.page.title() != "run"

    @pytest.mark.parametrize("size", [(1280, 800), (1920, 1080), (2560, 1440)])
    def test_everything_is_on_screen_at_any_size(self, screen: Screen, size: tuple[int, int]) -> None:
        page = screen.page
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.wait_for_timeout(200)
        boxes = [
            card.bounding_box() for card in page.locator(".oio-card, .oio-answer, #oio-sheet, #oio-progress").all()
        ]
        assert len(boxes) == 10 + 7 + 2
        for box in boxes:
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= size[0]
            assert box["y"] + box["height"] <= size[1]
        assert page.locator("#oio-sheet").bounding_box()["height"] > 0.6 * size[1]

    def test_text_is_readable_on_its_background(self, screen: Screen) -> None:
        """WCAG 2.1, 1.4.3 level AA: a contrast of 4.5 to 1."""
        screen.page.wait_for_selector(".oio-mark.oio-human")
        pairs = screen.page.evaluate(
            """() => [...document.querySelectorAll("#oio-judge, #oio-judge *")].filter((part) =>
                 [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) &&
                 part.tagName !== "STYLE" && !part.closest(":disabled")).map((part) => {
               let behind = part;
               const ground = () => getComputedStyle(behind).backgroundColor;
               while (ground() === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
               return [getComputedStyle(part).color, ground(), part.className]; })"""
        )
        assert len(pairs) > 30
        assert {part: ratio for front, back, part in pairs if (ratio := contrast(front, back)) < 4.5} == {}


def contrast(front: str, back: str) -> float:
    lighter, darker = sorted((luminance(front), luminance(back)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    shares = [int(part) / 255 for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
