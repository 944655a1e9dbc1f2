"""Pictures to train on: folders, and files of CIFAR's layout, whole, damaged and hostile."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from manifests.errors import InputError
from scoring.dml.cifar import read_cifar
from scoring.dml.data import read_training_data
from tests.dml_world import pixels_of, rows_of, write_folder, write_pickled_cifar100


def pickled(pixels: np.ndarray | None = None, labels: object = (0, 1)) -> bytes:
    """A file of CIFAR-100 with two pictures."""
    pixels = np.zeros((2, 3072), np.uint8) if pixels is None else pixels
    return pickle.dumps({b"data": pixels, b"fine_labels": list(labels)})


RECONSTRUCT = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
"""Pickle's program that begins an array."""


class TestData:
    def test_folder_of_classes_is_numbered_by_name_and_read_as_it_is(self, tmp_path):
        data = read_training_data(write_folder(tmp_path))
        assert (data.n_classes, data.train.pixels.shape, data.val.pixels.shape) == (
            3, (24, 3, 32, 32), (9, 3, 32, 32),
        )  # fmt: skip
        row = data.train.image_ids.index("train_2_5")
        assert data.train.targets[row] == 2
        assert (data.train.pixels[row].permute(1, 2, 0).numpy() == pixels_of(2, 5)).all()

    def test_table_of_labels_goes_over_folders(self, tmp_path):
        write_folder(tmp_path, 2, 2)
        for part in ("train", "val"):
            files = sorted(path.name for path in (tmp_path / part).rglob("*.png"))
            rows = [f"{name},{(int(name.split('_')[1]) + 1) % 3}" for name in files]
            (tmp_path / f"{part}_labels.csv").write_text("\n".join(["file,class_index", *rows, ""]))
        found = read_training_data(tmp_path)
        assert found.train.targets.tolist() == [1, 1, 2, 2, 0, 0]

    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_pickles_of_cifar_are_read_as_they_were_written(self, tmp_path, protocol):
        found = read_training_data(write_pickled_cifar100(tmp_path, protocol))
        pixels, labels = rows_of(4)
        assert (found.name, found.n_classes, found.val.image_ids[1]) == ("cifar100", 3, "cifar100_test_00001")
        assert found.train.targets.tolist() == labels
        assert (found.train.pixels.numpy().reshape(12, -1) == pixels).all()

    def test_binary_files_of_both_data_sets_are_read(self, tmp_path):
        pixels, labels = rows_of(2)
        tail = [bytes([label]) + row.tobytes() for row, label in zip(pixels, labels, strict=True)]
        ten, hundred = tmp_path / "ten", tmp_path / "hundred"
        ten.mkdir()
        hundred.mkdir()
        for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
            (ten / name).write_bytes(b"".join(tail))
        for name in ("train.bin", "test.bin"):
            (hundred / name).write_bytes(b"".join(b"\x13" + record for record in tail))
        assert read_cifar(ten, "train").targets.tolist() == labels * 5
        assert (read_cifar(hundred, "test").pixels.reshape(6, -1) == pixels).all()
        assert read_cifar(hundred, "test").targets.tolist() == labels

    def test_hostile_pickle_is_refused_and_runs_nothing(self, tmp_path):
        write_pickled_cifar100(tmp_path / "cifar")

        class Hostile:
            def __reduce__(self):
                return (os.mkdir, (str(tmp_path / "ran"),))

        (tmp_path / "cifar" / "train").write_bytes(pickle.dumps({b"data": Hostile(), b"fine_labels": []}))
        with pytest.raises(InputError, match=r"train: cannot be read as a pickle of CIFAR .*asks for posix.mkdir"):
            read_training_data(tmp_path / "cifar")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("program", "message"),
        [
            # An array of objects made of bytes, which is then the shape of another: a segmentation fault in NumPy.
            (
                RECONSTRUCT + b"(K\x01(K\x02tcnumpy\ndtype\n(U\x02O8\x89\x88tR(K\x03U\x01|NNNJ\xff\xff\xff\xff"
                b"J\xff\xff\xff\xffK\x00tb\x89U\x10AAAAAAAAAAAAAAAAtbq\x010cnumpy\nndarray\n(h\x01tR.",
                "holds an array of b'O8'",
            ),
            # 4 GiB out of 40 bytes.
            (b"\x80\x02cnumpy\nndarray\n(\x8a\x05\0\0\0\0\x01\x85U\x02u1tR.", "not callable"),
            (
                b"\x80\x02}U\x04data" + RECONSTRUCT[2:] + b"(K\x01(\x8a\x05\0\0\0\0\x01t"
                b"cnumpy\ndtype\n(U\x02u1tR\x89U\x01Atbs.",
                "whose bytes are not those of its shape",
            ),
            # 64 GiB for the 2 ** 32 values that the machine of a pickle may remember.
            (b"\x80\x02Nr\xff\xff\xff\xff.", "asks for room for 4,294,967,295 values"),
            # A shape of no bytes, and yet too large.
            (b"\x80\x02}U\x04data" + RECONSTRUCT[2:] + b"(K\x01(K\x00\x8a\x0a\0\0\0\0\0\0\0\0\0\x01t"
             b"cnumpy\ndtype\n(U\x02u1tR\x89U\x00tbs.", "cannot be read as a pickle of CIFAR"),
            # Lists in lists, filled last: 2 ** 60 words where the name of the kind of array is told.
            (
                b"\x80\x02cnumpy\ndtype\n(" + b"".join(b"]q%c0" % n for n in range(61))
                + b"".join(b"h%c(h%ch%ce0" % (n, n + 1, n + 1) for n in range(60)) + b"h\x00tR.",
                "cannot be read as a pickle of CIFAR",
            ),
            (b"\x80\x02cnumpy\ndtype\n(](K\x01K\x02etR.", "holds an array of list, expected one of u1"),
            (b"\x80\x02cnumpy\ndtype\n(X\0\x10\0\0" + b"a" * 4096 + b"tR.", "of 'a{40}', expected one of u1"),
            # A shape whose product grows with each side.
            (b"\x80\x02}U\x04data" + RECONSTRUCT[2:] + b"(K\x01(" + b"K\x02" * 65 + b"tcnumpy\ndtype\n(U\x02u1tR"
             b"\x89U\x01Atbs.", "whose bytes are not those of its shape"),
            # State that would become the attributes of what the pickle was given.
            (b"\x80\x02c_codecs\nencode\n}U\x01aK\x01sb.", "cannot be read as a pickle"),
        ],
    )  # fmt: skip
    def test_hostile_array_is_refused_before_numpy_sees_it(self, tmp_path, program, message):
        write_pickled_cifar100(tmp_path)
        (tmp_path / "train").write_bytes(program)
        with pytest.raises(InputError, match=message):
            read_training_data(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "cannot be read as a pickle"),
            (b"\x80\x02}q\x00(U\x04dataq", "cannot be read as a pickle"),
            (pickle.dumps([1, 2]), "expected a dict with data and fine_labels, found list"),
            (pickle.dumps({b"data": 1}), "expected a dict with data and fine_labels, found the keys"),
            (pickled(pixels=np.zeros((2, 3071), np.uint8)),
             r"data: expected uint8 of shape \(n, 3072\), found uint8 of shape \(2, 3071\)"),
            (pickled(pixels=np.zeros((2, 3072))), "holds an array of 'f8', expected one of u1"),
            (pickled(pixels=np.asfortranarray(np.zeros((2, 3072), np.uint8))), "not one of u1, row by row"),
            (pickled(labels=[0]), "2 pictures and 1 labels"),
            (pickled(labels=[0, -1]), "expected a list of class indices"),
            (pickled(labels=[0, 0]), "all training pictures are of one class"),
            (pickled(labels=[0, 2]), "1 of 3 classes have no training picture, class 1 among them"),
            (pickled(labels=[0, 1]), "a validation picture is of class 2"),
        ],
    )  # fmt: skip
    def test_damaged_pickle_is_one_clear_error(self, tmp_path, content, message):
        write_pickled_cifar100(tmp_path)
        (tmp_path / "train").write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_training_data(tmp_path)

    def test_torn_binary_file_is_refused(self, tmp_path):
        (tmp_path / "test.bin").write_bytes(bytes(3074))
        (tmp_path / "train.bin").write_bytes(bytes(3074 * 2 - 1))
        with pytest.raises(InputError, match="expected whole records of 3074 bytes, found 6147 bytes"):
            read_training_data(tmp_path)

    def test_missing_file_of_cifar_is_named(self, tmp_path):
        write_pickled_cifar100(tmp_path)
        (tmp_path / "train").unlink()
        with pytest.raises(InputError, match="train: no such file; the other files of CIFAR"):
            read_training_data(tmp_path)

    def test_folder_that_is_neither_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no such folder"):
            read_training_data(tmp_path / "none")
        with pytest.raises(InputError, match="expected the folders train and val, or the files of CIFAR"):
            read_training_data(tmp_path)

    def test_a_side_of_none_is_no_side_left_out(self, tmp_path):
        write_folder(tmp_path, 1, 1)
        for side_px in (0, -4):
            with pytest.raises(InputError, match=f"input_size_px cannot be {side_px}"):
                read_training_data(tmp_path, side_px=side_px)
        assert read_training_data(tmp_path).train.pixels.shape[-1] == 32

    def test_another_side_than_that_of_cifar_is_refused_by_the_name_of_the_option(self, tmp_path):
        write_pickled_cifar100(tmp_path)
        with pytest.raises(InputError, match=r"--side: .*CIFAR's pictures have 32 px, asked for 48"):
            read_training_data(tmp_path, side_px=48)

    def test_folder_of_one_class_is_refused(self, tmp_path):
        for part in ("train", "val"):
            (tmp_path / part / "only").mkdir(parents=True)
            Image.fromarray(pixels_of(0, 0)).save(tmp_path / part / "only" / f"{part}.png")
        with pytest.raises(InputError, match="all training pictures are of one class"):
            read_training_data(tmp_path)

    def test_validation_picture_outside_of_the_classes_is_refused(self, tmp_path):
        write_folder(tmp_path, 2, 2)
        Image.fromarray(pixels_of(0, 0)).save(tmp_path / "val" / "loose.png")
        with pytest.raises(
            InputError, match=r"loose.png: expected it in the folder of a class, one of 3 below train"
        ):
            read_training_data(tmp_path)

    def test_unreadable_training_picture_is_named(self, tmp_path):
        write_folder(tmp_path, 2, 2)
        (tmp_path / "train" / "colour_1" / "train_1_0.png").write_bytes(b"not a picture")
        with pytest.raises(InputError, match=r"train_1_0.png: cannot be trained on \(not_an_image"):
            read_training_data(tmp_path)
