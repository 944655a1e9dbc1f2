import io
import itertools
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from curation.duplicates.alignment import fits, plain_agreements
from curation.duplicates.find import find_duplicates, mark_duplicates
from curation.duplicates.fingerprints import N_SHARDS, FileToRead, FingerprintStore, fingerprint_files
from curation.duplicates.hashing import (
    CROP_WINDOWS,
    MIRROR_BITS,
    hashes_of,
    perceptual_hash_of_bytes,
    window_hashes,
)
from curation.duplicates.repetition import repetitions
from curation.duplicates.rules import DuplicateRules
from curation.duplicates.thumbnails import COLOUR_SIDE, SIDE, Thumbnails, thumbnail, thumbnail_of_bytes
from curation.engine.local import LocalEngine
from manifests import schema
from manifests.errors import InputError, StageMissingError, TableError
from manifests.stored_pictures import stored_pictures
from manifests.workspace import Workspace
from tests.photographs import jpeg, photograph
from tests.picture_workspace import add_pictures
from tests.screen_world import add_store


def hash_of(image):
    return int(hashes_of(thumbnails([image]).brightness)[0])


def n_bits(first, second):
    return (first ^ second).bit_count()


def mirrored(image):
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def cropped(image, left, top, share):
    width, height = round(image.width * share), round(image.height * share)
    return image.crop((left, top, left + width, top + height))


def marked(image):
    copy = image.copy()
    ImageDraw.Draw(copy).ellipse((10, 10, 80, 80), fill="red")
    return copy


COPIES = {
    "re-encoded": lambda image: Image.open(io.BytesIO(jpeg(image, 30))),
    "smaller": lambda image: image.resize((160, 120)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "mirrored": mirrored,
    "cropped": lambda image: cropped(image, 30, 10, 0.8),
    "mirrored and cropped": lambda image: cropped(mirrored(image), 0, 40, 0.75),
    "marked": marked,
    "turned": lambda image: image.rotate(3, Image.Resampling.BICUBIC),
}


def chessboard(n_squares, colour=255):
    rows, columns = np.indices((240, 240)) * n_squares // 240
    return Image.fromarray(((rows + columns) % 2 * colour).astype(np.uint8)).convert("RGB")


def thumbnails(images):
    return Thumbnails.from_bytes([thumbnail(image) for image in images])


def agreements(firsts, seconds):
    return fits(firsts, seconds).agreement


def mirror_of(pictures):
    return Thumbnails(pictures.brightness[:, :, ::-1].copy(), pictures.colour[..., ::-1].copy())


def naive_hash(image):
    """The hash by its definition, with the cosine of each place and frequency in a loop."""
    pixels = np.asarray(image.convert("L").resize((48, 48), Image.Resampling.BOX), float)
    places = np.arange(48)
    # The constant term tells nothing; the row after the last takes its place.
    frequencies = [(8, 0), *list(itertools.product(range(8), range(8)))[1:]]
    bits = 0
    for row, column in frequencies:
        down = np.cos(np.pi * row * (places + 0.5) / 48)
        right = np.cos(np.pi * column * (places + 0.5) / 48)
        bits = 2 * bits + int(down @ pixels @ right > 0)
    return bits


def test_the_hash_is_that_of_its_definition():
    for seed in range(20):
        # Whole-number cosines move a sum by a little, which may turn a sign that is nearly none.
        assert n_bits(hash_of(photograph(seed)), naive_hash(photograph(seed))) <= 1


def test_the_mirror_image_has_the_hash_with_every_second_column_turned():
    assert f"{MIRROR_BITS:016x}" == "55" * 8
    for seed in range(10):
        pixels = thumbnails([photograph(seed)]).brightness
        assert hashes_of(pixels[:, :, ::-1])[0] == hashes_of(pixels)[0] ^ np.uint64(MIRROR_BITS)


def test_a_picture_that_is_its_own_mirror_image_has_one_hash():
    half = thumbnails([photograph(0)]).brightness
    pixels = np.concatenate([half, half[:, :, ::-1]], axis=2)
    assert hashes_of(pixels[:, :, ::-1])[0] == hashes_of(pixels)[0]
    assert hashes_of(pixels)[0] & np.uint64(MIRROR_BITS) == 0


def test_a_hash_does_not_depend_on_what_is_hashed_with_it():
    pictures = thumbnails([photograph(seed) for seed in range(9)]).brightness
    together = window_hashes(pictures)
    assert together.shape == (9, len(CROP_WINDOWS))
    for place in range(9):
        assert window_hashes(pictures[place : place + 1])[0].tolist() == together[place].tolist()


def test_hashes_of_unlike_pictures_are_far_and_of_re_encoded_ones_near():
    hashes = [hash_of(photograph(seed)) for seed in range(40)]
    assert min(n_bits(a, b) for a, b in itertools.combinations(hashes, 2)) >= 12
    for seed, own in enumerate(hashes):
        assert n_bits(own, hash_of(COPIES["re-encoded"](photograph(seed)))) <= 4


def test_decoding_at_reduced_size_moves_the_hash_by_few_bits():
    moved = []
    for seed in range(20):
        content = jpeg(photograph(seed, (1024, 768)))
        whole = hash_of(Image.open(io.BytesIO(content)))
        moved.append(n_bits(whole, perceptual_hash_of_bytes(content)))
    assert max(moved) <= 3


def test_the_rotation_is_applied_before_hashing():
    content = jpeg(photograph(0))
    upright = jpeg(photograph(0).rotate(90, expand=True))
    assert n_bits(perceptual_hash_of_bytes(content, 90), perceptual_hash_of_bytes(upright)) <= 4
    assert n_bits(perceptual_hash_of_bytes(content), perceptual_hash_of_bytes(upright)) >= 12


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_agrees_and_another_picture_does_not(way):
    sources = [photograph(seed) for seed in range(12)]
    copies = thumbnails([COPIES[way](image) for image in sources])
    assert agreements(thumbnails(sources), copies).min() >= 0.8
    assert agreements(copies, thumbnails(sources)).min() >= 0.8
    assert agreements(thumbnails(sources), copies[np.roll(np.arange(12), 1)]).max() < 0.65


def test_a_picture_agrees_fully_with_itself_and_with_its_mirror_image():
    pictures = thumbnails([photograph(0), photograph(1)])
    assert agreements(pictures, pictures) == pytest.approx([1, 1], abs=1e-3)
    assert agreements(pictures, mirror_of(pictures)) == pytest.approx([1, 1], abs=1e-3)
    assert plain_agreements(pictures, mirror_of(pictures)) == pytest.approx([1, 1], abs=1e-3)


def test_an_agreement_does_not_depend_on_the_pairs_beside_it():
    first, second = (
        thumbnails([photograph(s) for s in range(8)]),
        thumbnails([marked(photograph(s)) for s in range(8)]),
    )
    alone = [agreements(first[k : k + 1], second[k : k + 1])[0] for k in range(8)]
    assert agreements(first, second) == pytest.approx(alone, abs=2e-4)


def test_pictures_without_any_detail_agree_with_nothing():
    flat = thumbnails([Image.new("RGB", (60, 60), colour) for colour in ("black", "grey", "white")])
    assert agreements(flat, flat[np.array([2, 1, 0])]).max() < 0.1
    assert agreements(flat, thumbnails([photograph(s) for s in range(3)])).max() < 0.5


def test_a_thumbnail_is_the_mean_of_what_it_covers():
    halves = np.zeros((96, 96, 3), np.uint8)
    halves[:, :48] = (255, 0, 0)
    one = thumbnails([Image.fromarray(halves)])
    assert one.brightness.shape == (1, SIDE, SIDE)
    assert one.colour.shape == (1, 2, COLOUR_SIDE, COLOUR_SIDE)
    # Red has the luma 0.299 and the chroma (-0.169, 0.5) of JPEG's conversion.
    assert one.brightness[0, 5, [0, -1]].tolist() == [76, 0]
    assert one.colour[0, :, 3, 0].tolist() == pytest.approx([85, 255], abs=1)
    assert one.colour[0, :, 3, -1].tolist() == [128, 128]


def test_one_drawing_on_another_ground_or_in_another_colour_is_no_copy():
    def drawn(ground, colour):
        image = ground.copy()
        draw = ImageDraw.Draw(image)
        draw.polygon([(60, 40), (250, 90), (130, 220)], fill=colour, outline="black")
        draw.ellipse((120, 80, 170, 130), fill="white")
        return image

    plain, other = Image.new("RGB", (320, 240), (90, 160, 90)), Image.new("RGB", (320, 240), (180, 120, 200))
    firsts = thumbnails([drawn(plain, (250, 200, 40))] * 3)
    seconds = thumbnails(
        [
            drawn(plain, (250, 200, 40)).resize((160, 120)),
            drawn(other, (250, 200, 40)),
            drawn(plain, (120, 215, 255)),
        ]
    )
    assert agreements(firsts, seconds).min() > 0.7
    assert DuplicateRules().are_linked(firsts, seconds).tolist() == [True, False, False]


def test_a_grey_copy_is_a_copy():
    pictures = [photograph(seed) for seed in range(6)]
    grey = thumbnails([picture.convert("L") for picture in pictures])
    fit = fits(thumbnails(pictures), grey)
    assert fit.colour_difference.tolist() == [0] * 6
    assert fit.tone.min() > 0.95
    assert DuplicateRules().are_linked(thumbnails(pictures), grey).all()


def test_what_is_grey_is_a_copy_of_what_is_coloured_only_if_it_is_as_bright():
    red = np.zeros((240, 240, 3), np.uint8)
    rows, columns = np.indices((240, 240)) * 6 // 240
    red[:] = np.where(((rows + columns) % 2)[..., None], 255, (220, 30, 30))
    boards = thumbnails([Image.fromarray(red)] * 2)
    others = thumbnails([chessboard(6), Image.fromarray(red).convert("L")])
    fit = fits(boards, others)
    assert fit.agreement.min() > 0.99
    # The luma of that red is 87, which half of the squares have and a black board has not.
    assert fit.light_difference == pytest.approx([43.5, 0], abs=2)
    assert DuplicateRules().are_linked(boards, others).tolist() == [False, True]


def test_a_darker_copy_that_thereby_lost_its_faint_colour_is_a_copy():
    grey = np.asarray(photograph(0).convert("L"), int)
    faint = np.stack([grey + 6, grey, grey - 6], axis=2).clip(0, 255).astype(np.uint8)
    source = Image.fromarray(faint)
    pair = thumbnails([source]), thumbnails([ImageEnhance.Brightness(source).enhance(0.6)])
    strengths = [np.abs(one.colour.astype(int) - 128).mean() for one in pair]
    assert strengths[1] < 3 < strengths[0] < 6
    assert fits(*pair).light_difference[0] > 27
    assert DuplicateRules().are_linked(*pair)[0]


def test_grey_pictures_are_told_apart_by_brightness_where_they_agree_least():
    disc, ring = (Image.new("L", (240, 240), ground) for ground in (250, 140))
    for image, colour in ((disc, 60), (ring, 20)):
        ImageDraw.Draw(image).ellipse((60, 60, 180, 180), fill=colour)
    ImageDraw.Draw(ring).line((0, 120, 240, 200), fill=200, width=12)
    pictures = thumbnails([disc, ring])
    fit = fits(pictures[:1], pictures[1:])
    assert 0.7 < fit.agreement[0] < 0.9
    assert fit.n_grey[0] == 2
    assert fit.tone[0] > 0.75
    assert not DuplicateRules().are_linked(pictures[:1], pictures[1:])[0]


def test_one_chessboard_is_no_copy_of_another_but_of_itself_made_smaller():
    boards = thumbnails([chessboard(6), chessboard(6)])
    others = thumbnails([chessboard(8), chessboard(6, 200).resize((100, 100))])
    assert repetitions(boards).min() > 0.9
    assert DuplicateRules().are_linked(boards, others).tolist() == [False, True]
    assert repetitions(thumbnails([photograph(0)]))[0] < 0.7


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"least_agreement": 1.5}, "--least-agreement: expected 0 to 1, found 1.5"),
        ({"least_agreement": float("nan")}, "--least-agreement: expected 0 to 1, found nan"),
        ({"least_similarity": -2}, "--least-similarity: expected -1 to 1, found -2"),
        ({"most_bits": 65}, "--most-bits: expected 0 to 64, found 65"),
    ],
)
def test_a_bound_out_of_its_range_is_refused(rules, message):
    with pytest.raises(InputError, match=message):
        DuplicateRules(**rules)


def test_the_more_pictures_the_fewer_bits():
    assert [DuplicateRules().bits_of(n) for n in (2, 5_000, 5_001, 20_000, 20_001)] == [18, 18, 16, 16, 14]
    assert DuplicateRules(most_bits=3).bits_of(2) == 3


def world(folder, contents):
    return add_pictures(Workspace(folder), contents)


def planted():
    """Five photographs, four with a copy; the copy's id tells whose it is."""
    contents = {f"photo{seed}": jpeg(photograph(seed)) for seed in range(5)}
    ways = ("mirrored", "cropped", "marked", "smaller")
    contents |= {f"copy{seed}": jpeg(COPIES[way](photograph(seed))) for seed, way in enumerate(ways)}
    return contents


PLANTED = {"copy0": "photo0", "copy1": "photo1", "copy2": "photo2", "copy3": "photo3"}


def pairs_of(kept_of):
    return {tuple(sorted(pair)) for pair in kept_of.items()}


def test_planted_copies_are_found_by_hash_alone(tmp_path):
    workspace = world(tmp_path, planted())
    assert pairs_of(find_duplicates(workspace, DuplicateRules())) == pairs_of(PLANTED)
    rows = {row["image_id"]: row for row in workspace.read(schema.DUPLICATES).to_pylist()}
    assert {(row["kind"], row["similarity"]) for row in rows.values()} == {("pixels", None)}
    assert min(row["agreement"] for row in rows.values()) >= 0.7
    assert rows["copy1"]["duplicate_of"] == "photo1", "the crop has fewer pixels"


def test_what_hashes_miss_the_embedding_proposes_and_the_pixels_decide(tmp_path):
    workspace = world(tmp_path, planted())
    vectors = {name: [[1.0, 0.0]] if name[-1] in "01" else [[0.0, 1.0]] for name in planted()}
    store = add_store(workspace, vectors)
    rules = DuplicateRules(most_bits=0, has_crops=False)
    assert len(find_duplicates(workspace, rules)) < len(PLANTED)
    assert pairs_of(find_duplicates(workspace, rules, store=store)) == pairs_of(PLANTED)
    rows = workspace.read(schema.DUPLICATES).to_pylist()
    assert {row["similarity"] for row in rows} == {1.0}


def test_equal_bytes_under_two_ids_and_equal_pixels_in_other_bytes_are_told_apart(tmp_path):
    content = jpeg(photograph(0))
    contents = {
        "a": content,
        "b": content,
        "c": jpeg(photograph(0), comment=b"other bytes"),
        "d": jpeg(photograph(1)),
    }
    workspace = world(tmp_path, contents)
    # c has as many pixels and more bytes than a and b.
    assert find_duplicates(workspace, DuplicateRules()) == {"a": "c", "b": "c"}
    rows = workspace.read(schema.DUPLICATES).to_pylist()
    assert [(row["image_id"], row["kind"], row["bits"], row["agreement"]) for row in rows] == [
        ("a", "pixels", 0, pytest.approx(1, abs=1e-3)), ("b", "pixels", 0, pytest.approx(1, abs=1e-3)),
    ]  # fmt: skip
    assert find_duplicates(world(tmp_path / "two", {"a": content, "b": content}), DuplicateRules()) == {"b": "a"}
    assert Workspace(tmp_path / "two").read(schema.DUPLICATES).column("kind").to_pylist() == ["bytes"]


def test_a_chain_of_crops_is_one_group_though_its_ends_share_nothing(tmp_path):
    whole = photograph(3, (960, 720))
    middle = cropped(whole, 190, 140, 0.6)
    parts = {"a": jpeg(whole), "b": jpeg(middle), "c": jpeg(cropped(middle, 110, 80, 0.6))}
    workspace = world(tmp_path, parts)
    first, second, last = (Thumbnails.from_bytes([thumbnail_of_bytes(content)]) for content in parts.values())
    rules = DuplicateRules()
    links = [bool(rules.are_linked(x, y)[0]) for x, y in ((first, second), (second, last), (first, last))]
    assert links == [True, True, False]
    kept_of = find_duplicates(workspace, rules, store=add_store(workspace, {name: [[1.0, 0.0]] for name in parts}))
    assert kept_of == {"b": "a", "c": "a"}


def test_pictures_that_cannot_be_read_are_in_no_group(tmp_path):
    workspace = world(tmp_path, {"a": jpeg(photograph(0)), "b": jpeg(photograph(0)), "c": jpeg(photograph(1))})
    for name in "ab":
        (tmp_path / workspace.relative_image_path(name)).write_bytes(b"broken")
    assert find_duplicates(workspace, DuplicateRules()) == {}
    store = FingerprintStore(workspace.fingerprints_dir)
    assert store.read().names == ["c"]
    counts = store.update(map(FileToRead.of_picture, stored_pictures(workspace).values()))
    assert counts == {"new": 0, "kept": 1, "unreadable": 2}


def test_a_file_that_is_not_the_one_downloaded_is_no_copy_of_what_it_shows_now(tmp_path):
    workspace = world(tmp_path, {"a": jpeg(photograph(0)), "b": jpeg(photograph(1))})
    (tmp_path / workspace.relative_image_path("b")).write_bytes(jpeg(photograph(0)))
    assert find_duplicates(workspace, DuplicateRules()) == {}
    rows = fingerprint_files([FileToRead.of_picture(stored_pictures(workspace)["b"])]).to_pylist()
    assert rows[0]["reason"] == "the file is not the one downloaded: run 'download --verify'"
    assert rows[0]["thumbnail"] is None


def files_below(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_shuffled_input_more_workers_and_a_second_run_end_in_the_same_bytes(tmp_path):
    contents = planted()
    expected = None
    for number, names in enumerate((list(contents), random.Random(1).sample(list(contents), len(contents)))):
        workspace = world(tmp_path / str(number), {name: contents[name] for name in names})
        mark_duplicates(workspace, DuplicateRules())
        mark_duplicates(workspace, DuplicateRules())
        found = files_below(workspace.root)
        assert expected is None or found == expected
        expected = found
    workspace = world(tmp_path / "spawned", contents)
    find_duplicates(workspace, DuplicateRules(), engine=LocalEngine(2))
    assert files_below(workspace.root) == expected


def test_a_run_that_was_killed_goes_on_and_reads_nothing_twice(tmp_path):
    contents = planted()
    whole = world(tmp_path / "whole", contents)
    find_duplicates(whole, DuplicateRules())
    killed = world(tmp_path / "killed", contents)
    files = [FileToRead.of_picture(picture) for picture in stored_pictures(killed).values()]
    read = []

    class KilledError(Exception):
        pass

    class Engine:
        n_slots = 1

        def __init__(self, n_shards):
            self.n_shards = n_shards

        def map(self, function, shards, **needs):
            for number, shard in enumerate(shards):
                if number == self.n_shards:
                    raise KilledError
                read.extend(file.name for file in shard)
                yield function(shard)

    store = FingerprintStore(killed.fingerprints_dir)
    for n_shards in (2, 3):
        with pytest.raises(KilledError):
            store.update(files, Engine(n_shards))
    find_duplicates(killed, DuplicateRules(), engine=Engine(N_SHARDS))
    assert sorted(read) == sorted(contents)
    assert files_below(killed.root) == files_below(whole.root)


def test_a_picture_that_changed_is_read_again_and_one_that_left_is_forgotten(tmp_path):
    workspace = world(tmp_path, planted())
    find_duplicates(workspace, DuplicateRules())
    left = {name: content for name, content in planted().items() if name != "copy3"}
    left["copy0"] = jpeg(photograph(77))
    world(tmp_path, left)
    assert pairs_of(find_duplicates(workspace, DuplicateRules())) == {("copy1", "photo1"), ("copy2", "photo2")}
    fresh = world(tmp_path.parent / "fresh", left)
    find_duplicates(fresh, DuplicateRules())
    assert files_below(fresh.root) == files_below(workspace.root)


def test_rows_of_a_shard_depend_on_the_files_alone(tmp_path):
    workspace = world(tmp_path, planted())
    files = [FileToRead.of_picture(picture) for picture in stored_pictures(workspace).values()]
    assert fingerprint_files(files).equals(fingerprint_files(files[::-1]))


def test_a_damaged_shard_is_named(tmp_path):
    workspace = world(tmp_path, planted())
    find_duplicates(workspace, DuplicateRules())
    path = sorted(workspace.fingerprints_dir.glob("*.parquet"))[0]
    path.write_bytes(b"PAR1")
    with pytest.raises(TableError, match=path.name):
        find_duplicates(workspace, DuplicateRules())


def test_embeddings_that_are_not_complete_are_refused(tmp_path):
    workspace = world(tmp_path, planted())
    store = add_store(workspace, {name: [[1.0, 0.0]] for name in planted()})
    (store.folder / "unreadable.parquet").unlink()
    with pytest.raises(StageMissingError, match="run the stage 'embed' again"):
        find_duplicates(workspace, DuplicateRules(), store=store)


def test_crops_are_looked_for_by_hash_among_up_to_20000_pictures_unless_told():
    assert [DuplicateRules().looks_for_crops(n) for n in (20_000, 20_001)] == [True, False]
    assert DuplicateRules(has_crops=True).looks_for_crops(10**7)
    assert not DuplicateRules(has_crops=False).looks_for_crops(2)
