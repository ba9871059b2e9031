"""Vectors that were made elsewhere."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from talkplay_hf.errors import InputError
from talkplay_hf.features.shards import Failure
from talkplay_hf.features.store import ModalityVectors
from talkplay_hf.features.vectors_file import read_vectors

IDS = [f"t{row}" for row in range(9)]
VECTORS = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)


def write(path: Path, ids: list[str], vectors: np.ndarray, kind: str) -> None:
    if kind == "parquet":
        table = {"track_id": ids, "vector": pa.array(vectors.tolist(), pa.list_(pa.float64()))}
        pq.write_table(pa.table(table), path, row_group_size=2)
    elif kind == "fixed parquet":
        flat = pa.array(vectors.ravel().astype(np.float32))
        column = pa.FixedSizeListArray.from_arrays(flat, 4)
        pq.write_table(pa.table({"track_id": ids, "vector": column}), path)
    elif kind == "npz":
        np.savez(path, vectors=vectors, track_ids=np.array(ids, dtype=np.str_))
    else:
        names = np.frombuffer(json.dumps(ids).encode(), dtype=np.uint8)
        save_file({"vectors": np.ascontiguousarray(vectors), "track_ids": names}, path)


SUFFIX = {"parquet": "parquet", "fixed parquet": "parquet", "npz": "npz",
          "safetensors": "safetensors"}  # fmt: skip


def read(path: Path) -> tuple[ModalityVectors, int, list[Failure]]:
    failures: list[Failure] = []
    made, unknown = read_vectors(
        path, IDS, into=path.with_name("rows.safetensors"), fail=failures.append
    )
    return made, unknown, failures


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(SUFFIX)),
    order=st.permutations(range(9)),
    taken=st.integers(1, 9),
    strangers=st.lists(st.integers(0, 9), max_size=3),
)
def test_rows_in_any_order_land_on_their_tracks(
    kind: str, order: list[int], taken: int, strangers: list[int]
):
    ids = [IDS[row] for row in order[:taken]]
    vectors = VECTORS[order[:taken]]
    for number, at in enumerate(strangers):
        ids.insert(at, f"stranger {number}")
        vectors = np.insert(vectors, min(at, len(vectors)), 7.0, axis=0)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"vectors.{SUFFIX[kind]}"
        write(path, ids, vectors, kind)
        made, unknown, failures = read(path)
        assert set(np.flatnonzero(made.present)) == set(order[:taken])
        assert np.array_equal(made.vectors[made.present], VECTORS[made.present])
        assert not made.vectors[~made.present].any()
        assert unknown == len(strangers)
        assert not failures


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_without_ids_the_rows_are_in_catalog_order(kind: str, tmp_path: Path):
    path = tmp_path / f"vectors.{kind}"
    present = np.arange(9) % 2 == 0
    if kind == "npy":
        np.save(path, VECTORS)
        present = np.ones(9, dtype=bool)
    elif kind == "npz":
        np.savez(path, vectors=VECTORS.astype(np.float64), present=present)
    else:
        save_file({"vectors": VECTORS, "present": present}, path)
    made, unknown, failures = read(path)
    assert made.present.tolist() == present.tolist()
    assert np.array_equal(made.vectors[present], VECTORS[present])
    assert (unknown, failures) == (0, [])


def test_rows_that_cannot_be_used_are_named_and_the_rest_is_read(tmp_path: Path):
    ids = ["t0", "t1", "t0", "t2", "t3", "t4", None, "t5", "t6"]
    good = [1.0, 2.0]
    vectors = [good, [1.0, np.nan], good, [1.0] * 3, None, [np.inf, 1.0], good, [1.0, None], good]
    path = tmp_path / "vectors.parquet"
    table = {"track_id": ids, "vector": pa.array(vectors, pa.list_(pa.float32()))}
    pq.write_table(pa.table(table), path)
    made, unknown, failures = read(path)
    assert np.flatnonzero(made.present).tolist() == [0, 6]
    assert unknown == 0
    said = {(failure.row, failure.reason.removeprefix(f"{path}: ")) for failure in failures}
    assert said == {
        (1, "row 1: a value that is not finite"),
        (0, "row 2: a second vector of this track"),
        (2, "row 3: 3 dimensions, the first vector has 2"),
        (3, "row 4: no vector"),
        (4, "row 5: a value that is not finite"),
        (None, "row 6: no track id"),
        (5, "row 7: a value that is not finite"),
    }


def test_a_file_of_strangers_leaves_the_modality_missing(tmp_path: Path):
    write(tmp_path / "v.parquet", ["x", "y"], VECTORS[:2], "parquet")
    made, unknown, _ = read(tmp_path / "v.parquet")
    assert not made.present.any()
    assert unknown == 2


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("gone.parquet", "cannot be read"),
        ("text.parquet", "cannot be read"),
        ("text.npy", "cannot be read"),
        ("text.npz", "cannot be read"),
        ("text.safetensors", "cannot be read"),
        ("columns.parquet", "no column 'vector'"),
        ("numbers.parquet", "not a list"),
        ("short.npy", "5 rows for 9 tracks"),
        ("flat.npy", r"not \[n, d\]"),
        ("names.npz", "9 vectors, 3 track ids"),
        ("vectors.csv", "come as .parquet"),
        ("empty.npy", "cannot be read"),
        ("empty.npz", "cannot be read"),
        ("cut.npz", "cannot be read"),
        ("flipped.npz", "cannot be read"),
        ("array.npz", "cannot be read"),
        ("archive.npy", "cannot be read"),
        ("nested.npz", "track ids are not a list of texts"),
        ("mapping.safetensors", "track ids are not a list of texts"),
        ("mask.npz", r"`present` is \[\], not \[9\]"),
        ("complex.npy", "vectors are complex64, not numbers"),
        ("whole.safetensors", "vectors are I64; write them as F32"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(name: str, complaint: str, tmp_path: Path):
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("no vectors here", encoding="utf-8")
    elif name == "columns.parquet":
        pq.write_table(pa.table({"track_id": IDS}), path)
    elif name == "numbers.parquet":
        pq.write_table(pa.table({"track_id": IDS, "vector": list(range(9))}), path)
    elif name == "short.npy":
        np.save(path, VECTORS[:5])
    elif name == "flat.npy":
        np.save(path, VECTORS[:, 0])
    elif name == "names.npz":
        np.savez(path, vectors=VECTORS, track_ids=np.array(["a", "b", "c"]))
    elif name.startswith("empty"):
        path.touch()
    elif name in ("cut.npz", "flipped.npz", "archive.npy"):
        whole = tmp_path / "whole.npz"
        np.savez(whole, vectors=VECTORS)
        content = bytearray(whole.read_bytes())
        if name == "flipped.npz":
            content[content.index(VECTORS.tobytes()) + 5] ^= 255
        path.write_bytes(content[: len(content) // 2] if name == "cut.npz" else content)
    elif name == "array.npz":
        with path.open("wb") as handle:
            np.save(handle, VECTORS)
    elif name == "nested.npz":
        np.savez(path, vectors=VECTORS, track_ids=np.array([IDS]).T)
    elif name == "mapping.safetensors":
        names = np.frombuffer(json.dumps(dict.fromkeys(IDS)).encode(), dtype=np.uint8)
        save_file({"vectors": VECTORS, "track_ids": names}, path)
    elif name == "mask.npz":
        np.savez(path, vectors=VECTORS, present=np.array(True))
    elif name == "complex.npy":
        np.save(path, VECTORS.astype(np.complex64))
    elif name == "whole.safetensors":
        save_file({"vectors": VECTORS.astype(np.int64)}, path)
    with pytest.raises(InputError, match=complaint) as caught:
        read(path)
    assert name in str(caught.value)


@pytest.mark.parametrize("shape", ["(" * 90, "(1,) + (", "None", "('a',)"])
def test_a_npy_header_that_cannot_be_read_is_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    (tmp_path / "v.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + header.encode() + bytes(36))
    with pytest.raises(InputError, match="cannot be read"):
        read_vectors(tmp_path / "v.npy", IDS, into=tmp_path / "into", fail=lambda _: None)
