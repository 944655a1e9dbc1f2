import csv

import pytest

from curation.label_map.build import REFUSED_PATH, REVIEWS_PATH, Review, build_map, main, match_label, read_reviews
from curation.label_map.read import MAP_PATH, read_label_map
from curation.label_map.wordnet import Nouns, Synset, normalised, read_nouns
from manifests.errors import InputError

BIRD, LIFT, CAT, TABBY, LENS, SHADES = (f"n0000000{number}" for number in range(6))
NOUNS = Nouns(
    {
        BIRD: Synset(("crane",), "a wading bird", ()),
        LIFT: Synset(("crane",), "it lifts", ()),
        CAT: Synset(("cat", "true cat"), "feline", ()),
        TABBY: Synset(("tabby",), "a striped cat", (CAT,)),
        LENS: Synset(("sunglass",), "a burning lens", ()),
        SHADES: Synset(("sunglasses",), "dark", ()),
    }
)
CLASSES = [BIRD, CAT, LENS, SHADES]


def rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_an_unambiguous_name_a_plural_and_a_kind_enter():
    labels = [("/m/1", "True Cat"), ("/m/2", "Cats"), ("/m/3", "Tabby"), ("/m/4", "Sunglasses"), ("/m/5", "Dog")]
    kept, refused = build_map(labels, NOUNS, CLASSES, {})
    assert [(row[0], row[2], row[3], row[5]) for row in kept] == [
        ("/m/2", CAT, "1", "same"), ("/m/4", SHADES, "3", "same"), ("/m/3", CAT, "1", "narrower"),
        ("/m/1", CAT, "1", "same"),
    ]  # fmt: skip
    assert refused == []


def test_a_homonym_stays_out_until_a_review_lets_it_in():
    (refused,) = build_map([("/m/1", "Crane")], NOUNS, CLASSES, {})[1]
    assert refused == ("/m/1", "Crane", BIRD, "2 senses in WordNet, and no ruling which of them the label means")
    (kept,) = build_map([("/m/1", "Crane")], NOUNS, CLASSES, {"/m/1": Review("accept", "", "under Bird")})[0]
    assert (kept[2], kept[6]) == (BIRD, f"name of {BIRD}; reviewed: under Bird")


def test_a_name_of_two_labels_stays_out():
    kept, refused = build_map([("/m/1", "Cat"), ("/m/2", " cat")], NOUNS, CLASSES, {})
    assert (kept, [row[3] for row in refused]) == ([], ["the name of 2 labels"] * 2)


def test_a_review_overrules_an_unambiguous_name():
    kept, refused = build_map([("/m/1", "Cat")], NOUNS, CLASSES, {"/m/1": Review("refuse", "", "a musical")})
    assert (kept, refused[0][3]) == ([], "reviewed: a musical")


@pytest.mark.parametrize(
    ("reviews", "message"),
    [
        ({"/m/9": Review("accept", "", "x")}, "/m/9 is no label that shares a name with a class"),
        ({"/m/1": Review("accept", LENS, "x")}, f"/m/1 Cat: expected one of {CAT}"),
    ],
)
def test_a_review_that_fits_nothing_is_refused(reviews, message):
    with pytest.raises(InputError, match=message):
        build_map([("/m/1", "Cat")], NOUNS, CLASSES, reviews)


def test_names_are_compared_without_case_hyphens_and_apostrophes():
    assert normalised(" Yellow lady's-slipper ") == "yellow ladys slipper"
    assert match_label("TRUE-cat", NOUNS, CLASSES).classes == [CAT]


def test_a_file_that_is_not_wordnet_3_0_is_refused(tmp_path):
    (tmp_path / "data.noun").write_text("00001740 03 n 01 entity 0 000 | that which exists\n")
    with pytest.raises(InputError, match=r"expected the 82,115 nouns of WordNet 3\.0, found 1"):
        read_nouns(tmp_path / "data.noun")
    (tmp_path / "data.noun").write_text("nonsense\n")
    with pytest.raises(InputError, match=r"cannot be read as WordNet's data\.noun"):
        read_nouns(tmp_path / "data.noun")


@pytest.mark.parametrize(
    "line", ["/m/1,Cat,perhaps,,x", "/m/1,Cat,accept,,", "/m/1,Cat,refuse,,x\n/m/1,Cat,refuse,,x"]
)
def test_a_malformed_review_is_refused(tmp_path, line):
    path = tmp_path / "reviews.csv"
    path.write_text(f"mid,label_name,decision,wnid,reason\n{line}\n")
    with pytest.raises(InputError, match="expected a MID once, accept or refuse, and a reason"):
        read_reviews(path)


# Class indices in torchvision's order, as ImageNet's users know them.
@pytest.mark.parametrize(
    ("mid", "class_index"),
    [("/m/0449p", 290), ("/m/096mb", 291), ("/m/020lf", 673), ("/m/05bm6", 677), ("/m/0pg52", 468),
     ("/m/0fp6w", 953), ("/m/09qck", 954), ("/m/017ftj", 837), ("/m/03bj1", 388), ("/m/06l9r", 387)],
)  # fmt: skip
def test_the_map_knows_what_everybody_knows(mid, class_index):
    assert read_label_map()[mid].class_index == class_index


@pytest.mark.parametrize(
    ("mid", "name"),
    [("/m/01c43w", "Crane"), ("/m/01v50j", "Crane"), ("/m/02zt3", "Kite"), ("/m/04rmv", "Mouse"),
     ("/m/08wphn", "Maillot"), ("/m/0dm32", "Sweet potato"), ("/m/01j51", "Balloon"), ("/m/01phq4", "Pier"),
     ("/m/0h2mp", "Fly"), ("/m/0c37z", "Screw"), ("/m/0g_3r", "Siamese"), ("/m/01l_mq", "Throne"),
     ("/m/04msr", "Labyrinth")],
)  # fmt: skip
def test_homonyms_are_refused_with_a_reason(mid, name):
    (row,) = [row for row in rows(REFUSED_PATH) if row["mid"] == mid]
    assert row["label_name"] == name
    assert row["reason"]
    assert mid not in read_label_map()


def test_no_label_is_both_kept_and_refused_and_wnids_ascend_with_indices():
    kept, refused = rows(MAP_PATH), rows(REFUSED_PATH)
    mids = [row["mid"] for row in kept + refused]
    assert len(mids) == len(set(mids))
    pairs = sorted({(int(row["class_index"]), row["wnid"]) for row in kept})
    # torchvision sorts the classes' folders, so ids and indices ascend together, one for one.
    assert [wnid for _, wnid in pairs] == sorted({row["wnid"] for row in kept})
    assert len({index for index, _ in pairs}) == len(pairs)
    assert all(row["evidence"] and row["relation"] in ("same", "narrower") for row in kept)


def test_every_label_of_the_map_has_the_name_that_open_images_gives_it(shared):
    with (shared / "data" / "openimages" / "class-descriptions.csv").open(encoding="utf-8", newline="") as stream:
        names = {mid: name.strip() for mid, name in csv.reader(stream)}
    for path in (MAP_PATH, REFUSED_PATH, REVIEWS_PATH):
        for row in rows(path):
            assert names[row["mid"]] == row["label_name"]


def test_the_script_writes_the_committed_map_again(shared, tmp_path):
    from importlib.util import find_spec
    from pathlib import Path

    nouns_path = Path("/usr/share/wordnet/data.noun")
    if not nouns_path.is_file():
        pytest.skip(f"WordNet 3.0 is not at hand: {nouns_path} is absent (Debian's package wordnet-base)")
    synsets = Path(find_spec("timm").origin).parent / "data" / "_info" / "imagenet_synsets.txt"
    descriptions = shared / "data" / "openimages" / "class-descriptions.csv"
    out, refused = tmp_path / "map.csv", tmp_path / "refused.csv"
    arguments = ["--class-descriptions", descriptions, "--nouns", nouns_path, "--synsets", synsets]
    assert main([str(one) for one in (*arguments, "--out", out, "--refused", refused)]) == 0
    assert out.read_bytes() == MAP_PATH.read_bytes()
    assert refused.read_bytes() == REFUSED_PATH.read_bytes()
