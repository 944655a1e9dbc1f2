import io
import tarfile

import pytest

from curation.candidates import propose_candidates
from curation.label_map.read import read_label_map
from curation.labels import LabelFiles, VerifiedClasses, collect_labels, verified_classes
from manifests import schema
from manifests.errors import InputError, StageMissingError
from manifests.funnel import funnel
from manifests.workspace import Workspace
from tests.open_images_world import CLASS_NAMES, DRUM, HAT, JAGUAR, LABELS_HEADER, labels_csv


def write(path, rows, header=LABELS_HEADER):
    path.write_text(labels_csv(rows, header), encoding="utf-8")
    return path


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "ids.txt").write_text("0a\n0b\nff\n")
    made = Workspace(tmp_path / "ws")
    propose_candidates(made, tmp_path / "ids.txt")
    return made


@pytest.fixture
def names(tmp_path):
    return write(tmp_path / "class-descriptions.csv", CLASS_NAMES, None)


def test_labels_of_the_candidates_come_with_name_source_and_class(tmp_path, workspace, names):
    human = write(tmp_path / "h.csv", [
        ("ff", "verification", HAT, "1"), ("0a", "crowdsource-verification", JAGUAR, "0"),
        ("99", "verification", HAT, "1"), ("0a", "verification", "/m/0zzzz", "1"),
    ])  # fmt: skip
    machine = write(tmp_path / "m.csv", [("0a", "machine", JAGUAR, "0.7"), ("0a", "machine", JAGUAR, "0.7")])
    counts = collect_labels(workspace, LabelFiles([human], [machine], names))
    assert counts == {
        "human": 3, "machine": 1, "of_other_images": 1, "repeated": 1, "without_name": 1, "of_imagenet_classes": 2,
        "images_verified_in_class": 0,
    }  # fmt: skip
    rows = [tuple(row.values()) for row in workspace.read(schema.LABELS).to_pylist()]
    assert rows == [
        ("0a", JAGUAR, "Jaguar", "human", 0.0, "n02128925"),
        ("0a", "/m/0zzzz", None, "human", 1.0, None),
        ("0a", JAGUAR, "Jaguar", "machine", pytest.approx(0.7), "n02128925"),
        ("ff", HAT, 'Hat, "any"', "human", 1.0, None),
    ]


def test_the_v3_archives_give_the_same_labels_as_csvs(tmp_path, workspace, names):
    rows = [("0a", "verification", JAGUAR, "1"), ("0b", "verification", DRUM, "0")]
    plain = LabelFiles([write(tmp_path / "h.csv", rows)], [], names)
    collect_labels(workspace, plain)
    expected = workspace.path_of(schema.LABELS).read_bytes()
    packed = {}
    for name, member, content in (
        ("annotations_human_2017_11.tar.gz", "annotations-human.csv", labels_csv(rows)),
        ("classes_2017_11.tar.gz", "class-descriptions.csv", labels_csv(CLASS_NAMES, None)),
    ):
        packed[name] = tmp_path / name
        with tarfile.open(packed[name], "w:gz") as archive:
            entry = tarfile.TarInfo(f"2017_11/test/{member}")
            entry.size = len(content.encode())
            archive.addfile(entry, io.BytesIO(content.encode()))
    human, classes = packed.values()
    collect_labels(workspace, LabelFiles([human], [], classes))
    assert workspace.path_of(schema.LABELS).read_bytes() == expected


def test_class_names_may_have_a_header(tmp_path, workspace):
    names = write(tmp_path / "v7.csv", CLASS_NAMES, ["LabelName", "DisplayName"])
    human = write(tmp_path / "h.csv", [("0a", "verification", DRUM, "1")])
    assert collect_labels(workspace, LabelFiles([human], [], names))["without_name"] == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("0a", "verification", JAGUAR, "0.5"), "line 3: Confidence: expected 0 or 1 where a person verified"),
        (("0a", "machine", JAGUAR, "1.5"), "line 3: Confidence: expected a number from 0 to 1, found '1.5'"),
        (("0a", "machine", JAGUAR, "nan"), "line 3: Confidence"),
        (("0a", "oracle", JAGUAR, "1"), "line 3: Source: expected one of verification, crowdsource-verification"),
        (("0a", "verification", "Jaguar", "1"), "line 3: LabelName: expected a MID such as /m/0449p"),
        (("../a", "verification", JAGUAR, "1"), "line 3: ImageID"),
        (("0a", "machine", JAGUAR, "0.9"), "holds labels of the source machine"),
    ],
)
def test_a_malformed_label_is_refused_and_nothing_is_written(tmp_path, workspace, names, row, message):
    human = write(tmp_path / "h.csv", [("0b", "verification", DRUM, "1"), row])
    with pytest.raises(InputError, match=message):
        collect_labels(workspace, LabelFiles([human], [], names))
    assert not workspace.has(schema.LABELS)


def test_labels_need_candidates_and_files(tmp_path, workspace, names):
    with pytest.raises(StageMissingError, match="run the stage 'candidates'"):
        collect_labels(Workspace(tmp_path / "other"), LabelFiles([names], [], names))
    with pytest.raises(InputError, match="expected --human or --machine"):
        collect_labels(workspace, LabelFiles([], [], names))
    with pytest.raises(InputError, match="there is no such file"):
        collect_labels(workspace, LabelFiles([tmp_path / "none.csv"], [], names))


def test_class_names_of_an_empty_file_are_refused(tmp_path, workspace):
    human = write(tmp_path / "h.csv", [("0a", "verification", DRUM, "1")])
    for content in ("", "LabelName,DisplayName\n"):
        (tmp_path / "names.csv").write_text(content)
        with pytest.raises(
            InputError, match=r"--class-names .*names\.csv: holds no class: is it the whole file\?"
        ):
            collect_labels(workspace, LabelFiles([human], [], tmp_path / "names.csv"))
    assert not workspace.has(schema.LABELS)


def test_two_names_of_one_label_are_refused(tmp_path, workspace):
    names = write(tmp_path / "names.csv", [(DRUM, "Drum"), (DRUM, "Barrel")], None)
    human = write(tmp_path / "h.csv", [("0a", "verification", DRUM, "1")])
    with pytest.raises(InputError, match=f"{DRUM} has two names"):
        collect_labels(workspace, LabelFiles([human], [], names))


def test_what_people_verified_is_known_by_class(tmp_path, workspace, names):
    narrower = next(
        mid for mid, label in read_label_map().items() if label.is_narrower and label.class_index == 541
    )
    human = write(tmp_path / "h.csv", [
        ("0a", "verification", JAGUAR, "1"), ("0a", "verification", DRUM, "0"),
        # A kind of drum: there, so a drum is there; not there, so nothing is known.
        ("0b", "verification", narrower, "1"), ("0b", "verification", DRUM, "0"),
        ("ff", "verification", narrower, "0"), ("ff", "verification", JAGUAR, "0"),
        ("ff", "crowdsource-verification", JAGUAR, "1"),
    ])  # fmt: skip
    machine = write(tmp_path / "m.csv", [("ff", "machine", DRUM, "0.9")])
    counts = collect_labels(workspace, LabelFiles([human], [machine], names))
    assert counts["images_verified_in_class"] == 2  # 0a and 0b; of ff, one says yes and one no
    (step,) = [step for step in funnel(workspace) if "verified" in step.stage]
    assert step.n_images == 2
    assert verified_classes(workspace) == {
        "0a": VerifiedClasses(frozenset({290}), frozenset({541})),
        "0b": VerifiedClasses(frozenset({541}), frozenset()),
    }
