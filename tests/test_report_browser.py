import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest

import cli
from manifests import schema
from manifests.build import build_manifest
from manifests.selection import BuildRules
from tests.annotation_app import CHROMIUM
from tests.manifest_world import image_name, world

pytestmark = pytest.mark.skipif(not shutil.which(CHROMIUM), reason="no Chromium: make browser")

N_IMAGES = 130
MARKUP = "<img src=x onerror=\"document.title='run'\">"


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """The report of a workspace with a frozen set, one picture of which is gone and one turned."""
    space = world(tmp_path_factory.mktemp("report") / "ws", N_IMAGES)
    # A log of the manifests' tests, which no annotator could have written.
    shutil.rmtree(space.decisions_dir)
    rows = space.read(schema.CANDIDATES).to_pylist()
    rows[1] |= {"rotation_deg": 90, "title": MARKUP, "landing_url": "https://photos.invalid/1"}
    space.write(schema.CANDIDATES, rows)
    labels = [
        {"image_id": image_name(number), "label_mid": f"/m/{number % 5}", "label_name": f"Thing {number % 5}",
         "source": "human", "confidence": 1.0} for number in range(N_IMAGES)
    ]  # fmt: skip
    space.write(schema.LABELS, labels)
    build_manifest(space, "x", "1.0.0", rules=BuildRules(splits={}))
    (space.root / space.relative_image_path(image_name(2))).unlink()
    assert cli.run(["report", "--workspace", str(space.root)]) == 0
    return space.root / "report.html"


@dataclass
class Opened:
    """The report in a browser, and everything that should not happen there."""

    page: Any
    trouble: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def opened(browser, page_path):
    context = browser.new_context(viewport={"width": 1280, "height": 850})
    found = Opened(context.new_page())
    found.page.on("console", lambda message: found.trouble.append(message.text))
    found.page.on("pageerror", lambda error: found.trouble.append(str(error)))
    found.page.on("requestfailed", lambda request: found.trouble.append(f"failed: {request.url}"))
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.goto(page_path.as_uri())
    yield found
    context.close()
    assert found.trouble == []
    assert all(url.startswith((page_path.parent.as_uri(), "data:image/jpeg")) for url in found.requests)


def shown_ids(page):
    return page.locator(".gallery.long .card .first").all_inner_texts()


def place_of(page):
    return page.inner_text(".gallery.long .place")


def test_the_contents_lead_to_every_section_and_follow_the_reader(opened, tmp_path):
    page = opened.page
    links = page.locator("nav > ol > li > a")
    targets = [link.get_attribute("href") for link in links.all()]
    assert targets[0] == "#overview"
    assert targets[-2:] == ["#scores", "#provenance"]
    assert len(set(targets)) == len(targets)
    for target in targets:
        page.click(f"nav a[href='{target}']")
        # Below the last headings there may be no page left to scroll.
        box = page.locator(f"{target} h2").bounding_box()
        assert 0 <= box["y"] < 850, target
    page.click("nav a[href='#manifest']")
    page.wait_for_selector("nav a[href='#manifest'][aria-current]")
    assert page.locator("nav [aria-current]").count() == 1
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(255, 255, 255)", "rgb(22, 24, 27)"]


def test_a_gallery_turns_its_pages_by_button_key_and_number(opened):
    page = opened.page
    first = [image_name(number) for number in range(48)]
    assert shown_ids(page) == first
    assert place_of(page) == "1 to 48 of 130"
    page.click(".gallery.long [data-to=next]")
    assert shown_ids(page) == [image_name(number) for number in range(48, 96)]
    page.keyboard.press("ArrowRight")
    assert shown_ids(page) == [image_name(number) for number in range(96, 130)]
    assert page.is_disabled(".gallery.long [data-to=next]")
    page.keyboard.press("ArrowRight")
    assert place_of(page) == "97 to 130 of 130"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert shown_ids(page) == first
    page.fill(".gallery.long .number", "3")
    page.keyboard.press("Enter")
    assert place_of(page) == "97 to 130 of 130"
    page.fill(".gallery.long .number", "99")
    page.keyboard.press("Enter")
    assert page.input_value(".gallery.long .number") == "3"


def test_a_filter_keeps_the_cards_that_have_all_its_words(opened):
    page = opened.page
    page.click(".gallery.long [data-to=next]")
    # Every third image, from number 1, has the licence CC BY-NC 2.0.
    page.fill(".gallery.long .filter", "PX  by-nc")
    assert shown_ids(page) == [image_name(number) for number in range(1, N_IMAGES, 3)]
    page.fill(".gallery.long .filter", "nowhere")
    assert place_of(page) == "no card has these words"
    page.fill(".gallery.long .filter", "")
    assert len(shown_ids(page)) == 48


def test_every_thumbnail_is_seen_and_a_missing_one_says_so(opened):
    page = opened.page
    page.locator(".gallery.long").scroll_into_view_if_needed()
    for image in page.locator(".gallery.long img").all():
        image.scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('.gallery.long img')].every((one) => one.naturalWidth)")
    assert page.locator(".gallery.long img").count() == 47
    assert page.inner_text(".gallery.long .blank") == f"{image_name(2)}: no picture here"


def test_markup_of_strangers_is_read_as_text_in_cards_made_by_the_page_too(opened):
    page = opened.page
    page.fill(".gallery.long .filter", image_name(1))
    assert f"{MARKUP} by <b>somebody</b>" in page.inner_text(".gallery.long .card")
    link = page.locator(".gallery.long .card a")
    assert link.get_attribute("href") == "https://photos.invalid/1"
    assert link.get_attribute("rel") == "nofollow noopener noreferrer"
    assert page.title() == "Report of ws"


def test_a_picture_is_seen_whole_upright_and_left_by_escape(opened, tmp_path):
    page = opened.page
    page.locator(".gallery.long .shot").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] .stage img[src*='/images/'], dialog[open] .stage img[src^='images/']")
    assert page.inner_text("dialog .told .first") == image_name(0)
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("dialog .stage img.turned.on-its-side")
    # A quarter turn to the left, as the metadata of Open Images says: its 41 x 30 px stand upright.
    box = page.locator("dialog .stage img").bounding_box()
    assert box["height"] > box["width"] * 0.5
    transform = page.evaluate("document.querySelector('dialog .stage img').style.transform")
    assert transform == "rotate(-90deg)"
    page.screenshot(path=tmp_path / "viewer.png")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("dialog .told .first") == image_name(0)
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    # The focus goes back a moment after the dialog has closed.
    page.wait_for_function("document.activeElement.className === 'shot'")
    page.locator(".gallery.long .shot").last.click()
    page.keyboard.press("ArrowRight")
    # The next picture lies on the next page.
    assert page.inner_text("dialog .told .first") == image_name(48)
    page.click("dialog button:has-text('Close')")
    assert place_of(page) == "49 to 96 of 130"


def tabbed_from(page, start, n_tabs):
    page.focus(start)
    names = set()
    for _ in range(n_tabs):
        page.keyboard.press("Tab")
        names.add(page.evaluate("document.activeElement.tagName"))
    return names


def test_everything_is_reached_by_keyboard(opened):
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip the contents"
    assert tabbed_from(page, "nav a >> nth=0", 3) == {"A"}
    assert tabbed_from(page, ".gallery.long h3 a", 5) == {"BUTTON", "INPUT"}
    assert "SUMMARY" in tabbed_from(page, ".gallery.long .shot >> nth=-1", 12)


LETTERS_PX = """() => [...document.querySelectorAll("figure svg")].flatMap(svg =>
  [...svg.querySelectorAll("text")].map(text =>
    parseFloat(getComputedStyle(text).fontSize) * svg.clientWidth / svg.viewBox.baseVal.width))"""


def test_a_narrow_screen_scrolls_within_tables_and_charts_alone(opened):
    page = opened.page
    assert page.locator(".drawing[tabindex]").count() == 0
    page.set_viewport_size({"width": 380, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).position") == "static"
    # The chart of the funnel fills a page and keeps its letters legible; those of half a page fit the screen.
    assert page.locator("#overview .drawing[tabindex]").count() == 1
    assert page.locator("#manifest figure.half").count() == 2
    assert page.locator("#manifest .drawing[tabindex]").count() == 0
    assert min(page.evaluate(LETTERS_PX)) > 7


def test_it_prints_without_side_bar_and_tools(opened, tmp_path):
    page = opened.page
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.is_visible("nav")
    assert not page.is_visible(".tools button")
    # Paper shows one page of the gallery, and says which.
    assert page.is_visible(".tools .place")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_paper_shows_what_is_folded_and_says_what_it_leaves_out(opened):
    page = opened.page
    page.emulate_media(media="print")
    long_list = "document.querySelector('details details tbody')"
    page.evaluate(f"for (let n = 0; n < 101; n++) {long_list}.append(document.createElement('tr'))")
    # What the reader has opened is open afterwards too.
    page.evaluate("document.querySelector('details').open = true")
    n_folded = page.locator("details").count()
    assert n_folded > 3
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details[open]").count() == n_folded - 1
    closed = "getComputedStyle(document.querySelector('details:not([open]) > summary'), '::after').content"
    assert page.evaluate(closed) == '" (not printed)"'
    assert page.inner_text(".on-paper") == (
        "Printed: 48 of 130 cards, those that were on the screen; the page itself has all."
    )
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 1
    page.emulate_media(media="screen")
    assert not page.is_visible(".on-paper")
    page.fill(".gallery.long .filter", image_name(1))
    assert page.locator(".on-paper").text_content().startswith("Printed: 1 of 130 cards")


def test_without_scripts_the_first_page_and_a_word_on_it_are_there(browser, page_path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_path.as_uri())
    assert len(shown_ids(page)) == 48
    assert not page.is_visible(".tools")
    assert "only the first 48 are shown" in page.inner_text(".gallery.long")
    context.close()
