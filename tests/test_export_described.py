"""What an export says of its images: attribution that does no harm, and descriptions counted from the logs."""

import csv
import dataclasses
import hashlib
import json

import pytest

from manifests import schema
from manifests.build import build_manifest
from manifests.chained_log import LogHead, chained_line
from manifests.errors import InputError, TableError
from manifests.exporters import described
from manifests.exporters.attribution import license_name
from manifests.exporters.export import export_manifest, exported_set
from manifests.exporters.exported_set import AnnotationFacts, Publication
from tests.export_world import HOSTILE_TITLE, LICENSE, frozen_set, make_workspace


@pytest.fixture
def frozen(tmp_path):
    return frozen_set(tmp_path / "ws")


def test_attribution_names_title_author_source_and_licence_of_every_image(frozen, tmp_path):
    folder = export_manifest(frozen, "openood", tmp_path / "out")
    with (folder / "ATTRIBUTION.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image_id"] for row in rows] == [f"000{number}" for number in range(7)]
    assert rows[1] == {
        "image_id": "0001", "title": "title 1", "author": "author 1", "source": "https://flickr.invalid/1",
        "license": "CC BY 2.0", "license_url": LICENSE, "picture_url": "https://mirror.invalid/0001.jpg",
    }  # fmt: skip
    assert (rows[6]["title"], rows[6]["license"]) == ("", "")
    page = (folder / "ATTRIBUTION.html").read_text()
    assert "7 images · CC BY 2.0: 6 · licence not known: 1" in page
    assert '<a href="https://flickr.invalid/1" rel="nofollow noopener noreferrer">title 1</a>' in page


def test_formulas_and_markup_of_strangers_are_harmless(frozen, tmp_path):
    for name in ("openood", "csv"):
        folder = export_manifest(frozen, name, tmp_path / "out")
        for path in folder.glob("*.csv"):
            with path.open(newline="", encoding="utf-8") as stream:
                row = next(csv.DictReader(stream))
            assert row["title"] == "'" + HOSTILE_TITLE
            assert row["image_id"] == "0000"
        page = (folder / "ATTRIBUTION.html").read_text()
        assert "<script" not in page
        assert "<img" not in page
        assert "javascript:" not in page
        assert "\u202e" not in page
        assert "&lt;img src=x onerror=" in page


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://creativecommons.org/licenses/by/2.0/", "CC BY 2.0"),
        ("http://www.creativecommons.org/licenses/by-nc-sa/3.0/de/", "CC BY-NC-SA 3.0 DE"),
        ("https://creativecommons.org/licenses/by/4.0/legalcode", "CC BY 4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "Public Domain Mark 1.0"),
        ("https://example.invalid/licenses/by/2.0/", "https://example.invalid/licenses/by/2.0/"),
        (None, ""),
    ],
)
def test_a_licence_is_named(url, name):
    assert license_name(url) == name


def answered(image_id, answer, day, queue="first"):
    return {
        "image_id": image_id, "answer": answer, "queue": queue, "guideline": "guideline 1",
        "tool_version": "0.1.0", "at": f"2026-03-{day:02}T10:00:00+00:00",
    }  # fmt: skip


def append(path, rows, head=None):
    path.parent.mkdir(exist_ok=True)
    head = head or LogHead(0, "0" * 64)
    with path.open("ab") as stream:
        for row in rows:
            line = chained_line(row, head)
            stream.write(line)
            head = LogHead(head.n_lines + 1, hashlib.sha256(line[:-1]).hexdigest())
    return head


@pytest.fixture
def annotated(tmp_path):
    """Two agreed images, by the logs of two annotators; one answer was taken back, one is of an audit."""
    workspace = make_workspace(tmp_path / "ws")
    rows = [
        {"image_id": one, "verdict": "out", "source": "consensus", "n_out": 2, "n_in": 0, "n_difficult": 0}
        for one in ("0001", "0002")
    ]
    workspace.write(schema.VERDICTS, rows)
    append(
        workspace.decisions_dir / "ana.jsonl",
        [answered("0001", "in", 1), answered("0001", "undo", 2), answered("0001", "out", 3),
         answered("0002", "out", 4), answered("0005", "in", 9)],
    )  # fmt: skip
    head = append(
        workspace.decisions_dir / "ben.jsonl",
        [answered("0001", "out", 5), answered("0002", "out", 6), answered("0002", "out", 8, "audit")],
    )
    return workspace, build_manifest(workspace, "openimage_o", "1.0.0"), head


def test_the_logs_tell_who_answered_what_and_when_up_to_the_freezing(annotated):
    workspace, manifest, head = annotated
    expected = AnnotationFacts(2, 4, "2026-03-03", "2026-03-06", ("guideline 1",), ("0.1.0",))
    assert exported_set(workspace, manifest).facts == expected
    append(workspace.decisions_dir / "ben.jsonl", [answered("0001", "in", 20)], head)
    assert exported_set(workspace, manifest).facts == expected


def test_a_log_that_is_not_the_one_of_the_freezing_is_refused(annotated):
    workspace, manifest, _ = annotated
    path = workspace.decisions_dir / "ana.jsonl"
    path.write_bytes(path.read_bytes().replace(b"2026-03-04", b"2026-03-05"))
    with pytest.raises(TableError, match=r"ana\.jsonl: not the log that the manifest was frozen with"):
        exported_set(workspace, manifest)


def test_croissant_fields_of_responsible_ai_come_from_the_logs(annotated, tmp_path):
    workspace, manifest, _ = annotated
    said = Publication(("A lab",), "https://example.invalid/set", "2026-04-01")
    folder = export_manifest(exported_set(workspace, manifest, publication=said), "croissant", tmp_path / "out")
    metadata = json.loads((folder / "croissant.json").read_text())
    assert metadata["rai:annotationsPerItem"] == "2.00 standing answers on average (4 in all)"
    assert metadata["rai:dataCollectionTimeFrame"] == ["2026-03-03T00:00:00Z", "2026-03-06T00:00:00Z"]
    assert metadata["rai:dataAnnotationPlatform"] == ["openimage-o-toolkit 0.1.0 (FiftyOne App)"]
    assert metadata["rai:dataAnnotationAnalysis"] == ["Answers 'out' an image: 2 votes: 2 images."]
    assert "2 annotators" in metadata["rai:dataAnnotationProtocol"][0]
    assert metadata["creator"] == [{"@type": "sc:Organization", "name": "A lab"}]
    assert (metadata["url"], metadata["datePublished"]) == ("https://example.invalid/set", "2026-04-01")


def test_what_nobody_said_is_left_out_of_the_description(frozen, tmp_path):
    metadata = json.loads((export_manifest(frozen, "croissant", tmp_path) / "croissant.json").read_text())
    left_out = {"creator", "url", "datePublished", "rai:annotationsPerItem", "rai:dataCollectionTimeFrame"}
    assert not left_out & metadata.keys()


def test_a_day_or_address_that_is_none_is_refused():
    with pytest.raises(InputError, match="--published: expected a day"):
        Publication(published="1.4.2026")
    with pytest.raises(InputError, match="--url: expected an address"):
        Publication(url="example.invalid")


def test_the_card_states_licence_splits_and_how_the_images_were_chosen(annotated, tmp_path):
    workspace, manifest, _ = annotated
    card = (export_manifest(exported_set(workspace, manifest), "huggingface", tmp_path) / "README.md").read_text()
    front, body = card.split("---\n", 2)[1:]
    assert 'license: "cc-by-2.0"\n' in front
    assert '  - split: "test"\n    path: "data/test-*.parquet"\n' in front
    assert "2 annotators, each blind to the others" in body


def test_a_certificate_is_told_in_the_card(frozen, tmp_path):
    stated = {
        "audit": "first", "manifest": "openimage_o-1.0.0", "n_images": 17_632, "n_sample": 299, "n_defects": 0,
        "upper_bound": 0.009970, "upper_bound_here": 0.009970, "n_removed_since": 0, "confidence": 0.95,
        "bound": 0.01, "is_certified": True,
    }  # fmt: skip
    export = dataclasses.replace(frozen, header={**frozen.header, "certificate": stated})
    card = (export_manifest(export, "huggingface", tmp_path) / "README.md").read_text()
    assert (
        "The blind audit first of openimage_o-1.0.0 found 0 defects in a sample of 299 of 17,632 images: "
        "with 95% confidence, at most 0.9970% are defects. For openimage_o-1.0.0 it certifies the bound of "
        "1.0000% that it was planned for."
    ) in card


def test_a_later_version_states_its_own_bound_and_that_nothing_was_certified(frozen):
    # 4 defects of 628 in a set of 1,000; 500 of its images are gone: 0.0145 * 1000 / 500.
    stated = {
        "audit": "first", "manifest": "openimage_o-1.0.0", "n_images": 1_000, "n_sample": 628, "n_defects": 4,
        "upper_bound": 0.0145, "upper_bound_here": 0.0290, "n_removed_since": 500, "confidence": 0.95,
        "bound": 0.01, "is_certified": False,
    }  # fmt: skip
    text = described.certificate(dataclasses.replace(frozen, header={**frozen.header, "certificate": stated}))
    assert "at most 2.9000% of this version, which leaves out 500 of them, are defects." in text
    assert "it does not certify the bound of 1.0000%" in text
    assert "1.45" not in text
