"""Promises of the files of ADM's layout: read and written alike, streamed, and nothing that could run code is loaded."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest

from bigr_features.evaluate.reference import Reference, SampleFile, read_reference, write_reference, write_samples

RNG = np.random.default_rng(0)
STATISTICS = {"mu": RNG.normal(size=5), "sigma": np.eye(5), "mu_s": RNG.normal(size=3), "sigma_s": np.eye(3)}
IMAGES = RNG.integers(0, 256, (7, 4, 6, 3), dtype=np.uint8)


class Trap:
    """Loading its pickle fails the test."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_a_reference_comes_back_as_it_was(tmp_path):
    made = Reference(*STATISTICS.values(), IMAGES, 7, {"name": "net", "sha256": "ab"}, {"source": "data", "sha256": "cd"})
    write_reference(tmp_path / "new" / "ref.npz", made)
    found = read_reference(tmp_path / "new" / "ref.npz")
    for ours, theirs in zip(vars(found).values(), vars(made).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with np.load(tmp_path / "new" / "ref.npz", allow_pickle=False) as arrays:  # as other programs read it
        assert {"mu", "sigma", "mu_s", "sigma_s", "arr_0"} <= set(arrays.files)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", [("mu", "sigma"), ("mu", "sigma", "mu_s", "sigma_s"), ("mu", "sigma", "arr_0")])
def test_a_reference_of_adm_is_read(tmp_path, save, names):
    arrays = {**STATISTICS, "arr_0": IMAGES}
    save(tmp_path / "adm.npz", **{name: arrays[name] for name in names}, labels=np.array([Trap()]))
    found = read_reference(tmp_path / "adm.npz")
    np.testing.assert_array_equal(found.mean, STATISTICS["mu"])
    assert (found.network, found.source, found.count) == (None, None, None)
    assert (found.spatial_mean is not None) == ("mu_s" in names)
    assert (found.images is not None) == ("arr_0" in names)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.array([Trap()]), "sigma": np.eye(1)}, "pickled objects.*nothing of it was loaded"),
        ({**STATISTICS, "arr_0": np.array([Trap()])}, "pickled objects"),
        ({"arr_0": IMAGES}, "has no statistics: expected mu and sigma, found arr_0"),
        ({"mu": np.zeros(3)}, "has no statistics"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, r"mu of shape \(3,\) with a covariance of \(4, 4\)"),
        ({"mu": np.zeros((3, 1)), "sigma": np.eye(3)}, "mu of shape"),
        ({"mu": np.full(3, np.nan), "sigma": np.eye(3)}, "NaN"),
        ({"mu": np.zeros(3), "sigma": np.eye(3), "mu_s": np.zeros(2)}, "only one of mu_s and sigma_s"),
        ({"mu": np.zeros(3), "sigma": np.eye(3), "arr_0": IMAGES / 255}, "dtype float64; expected uint8 images"),
        ({"mu": np.zeros(3), "sigma": np.eye(3), "bigr_features": np.array("{")}, "damaged entry"),
    ],
)
def test_a_wrong_reference_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "ref.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_reference(tmp_path / "ref.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"plain text", pickle.dumps(1), "npy", "half"])
@pytest.mark.parametrize("read", [read_reference, SampleFile])
def test_what_is_no_archive_is_named(tmp_path, content, read):
    path = tmp_path / "ref.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "half":
        np.savez(path, **STATISTICS, arr_0=IMAGES)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"ref.npz (is damaged|is no set of samples)"):
        read(path)


def test_missing_files_and_other_names_are_named(tmp_path):
    for read in (read_reference, SampleFile):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            read(tmp_path / "ref.npz")
        with pytest.raises(ValueError, match=r"does not end in \.npz"):
            read(tmp_path / "ref.npy")


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_samples_are_written_and_read_batch_by_batch(tmp_path, size):
    path = tmp_path / "samples.npz"
    write_samples(path, (IMAGES[start : start + size] for start in range(0, 7, size)), 7, np.arange(7))
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["arr_0"], IMAGES)
        np.testing.assert_array_equal(arrays["arr_1"], np.arange(7))
    file = SampleFile(path)
    assert (len(file), file.shape) == (7, IMAGES.shape)
    np.testing.assert_array_equal(np.concatenate(list(file.batches(size))), IMAGES)
    assert {len(batch) for batch in file.batches(3)} == {3, 1}


def test_gray_samples_become_three_channels(tmp_path):
    write_samples(tmp_path / "gray.npz", [IMAGES[..., :1]], 7)
    np.testing.assert_array_equal(np.concatenate(list(SampleFile(tmp_path / "gray.npz").batches(4))), IMAGES[..., :1].repeat(3, 3))


def test_compressed_samples_of_others_are_read(tmp_path):
    np.savez_compressed(tmp_path / "s.npz", IMAGES)
    np.testing.assert_array_equal(next(SampleFile(tmp_path / "s.npz").batches(7)), IMAGES)


@pytest.mark.parametrize(
    ("batches", "count", "message"),
    [
        ([IMAGES, IMAGES[:, :3]], 14, r"images of \(3, 6, 3\) follow images of \(4, 6, 3\)"),
        ([IMAGES], 8, "7 images were given for a file of 8"),
        ([IMAGES / 255.0], 7, "expected uint8 images"),
    ],
)
def test_wrong_samples_are_refused_and_leave_no_file(tmp_path, batches, count, message):
    with pytest.raises(ValueError, match=message):
        write_samples(tmp_path / "s.npz", batches, count)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([Trap()]), "pickled objects"),
        (IMAGES.astype(np.float32), "expected uint8 images"),
        (IMAGES[0], "expected uint8 images"),
        (np.asfortranarray(IMAGES), "column by column"),
    ],
)
def test_wrong_sample_files_are_named(tmp_path, array, message):
    np.savez(tmp_path / "s.npz", array)
    with pytest.raises(ValueError, match=message):
        SampleFile(tmp_path / "s.npz")


def test_a_sample_file_without_images_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("other.npy", b"")
    with pytest.raises(ValueError, match="is no set of samples"):
        SampleFile(tmp_path / "s.npz")
