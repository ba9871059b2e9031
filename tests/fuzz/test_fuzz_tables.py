"""Tables, playlist files and rows of strangers: taken, rejected row by row, or refused."""

import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from calm import EXAMPLES, REFUSED, calm, fuzz
from hypothesis import strategies as st
from odd import DEEP, JSON, JSON_TEXT, NASTY, NUMBERS, PLAIN, TEXT, altered, damaged

from talkplay_hf.catalog.importer import import_table
from talkplay_hf.catalog.join import join_table
from talkplay_hf.catalog.mpd import read_slice
from talkplay_hf.catalog.playlist_files import read_playlist_file
from talkplay_hf.catalog.schema import Catalog
from talkplay_hf.conversations.dataset import from_row
from talkplay_hf.conversations.published.cpcd import cpcd_conversation
from talkplay_hf.conversations.published.rows import RowError, read_rows, talkplay_conversation
from talkplay_hf.features.vectors_file import read_vectors

HEADERS = [
    *("track_id", "title", "artist", "album", "release_date", "tags", "lyrics", "lyrics_bow"),
    *("popularity", "tempo", "key", "mode", "audio", "playlist_id", "playlist_name", "position"),
    *("playlist_created_at", "split", "duration_ms", "", "x"),
]
CELL = (
    PLAIN
    | NUMBERS.map(str)
    | DEEP
    | st.sampled_from(
        [
            *("=HYPERLINK(1)", "03/04/1999", "1999-13-45", "99999999999999", "0001-01-01"),
            *("['a', 'b'", '["a", 1, null, [2]]', "love:999999 you:1", "a" * 140_000),
            *("9999-12-31T23:59:59+23:59", "1e400", "+.5", "--1", "0" * 5_000, "9" * 5_000),
        ]
    )
)
MARK = st.sampled_from([",", ",", ";", "\t", "|", "\0"])
END = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\u2028", "\x85", "\v"])
QUOTE = st.sampled_from(["", "", '"', "'", '"""'])


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A CSV, more or less: ragged rows, other marks and ends, stray quotes, any encoding."""
    mark, end, quote = draw(MARK), draw(END), draw(QUOTE)
    names = draw(st.lists(st.sampled_from(HEADERS) | NASTY, max_size=6))
    width = len(names) + 2
    rows = draw(st.lists(st.lists(CELL, min_size=width - 1, max_size=width + 1), max_size=5))
    rows = [["title", "artist", *names], *rows]
    text = end.join(mark.join(quote + cell + quote for cell in row) for row in rows)
    codec = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"]))
    raw = text.encode(codec, "replace")
    return draw(damaged(raw)) if draw(st.integers(0, 3)) == 0 else raw


def in_folder(call: Callable[[Path], Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return call(Path(folder))


def imported(folder: Path, name: str, raw: bytes, **options: Any) -> None:
    (folder / name).write_bytes(raw)
    report = calm(import_table, folder / name, folder / "out", **options)
    if report is REFUSED:
        assert sorted(path.name for path in folder.iterdir()) == [name]
    else:
        assert len(Catalog.load(folder / "out")) == report.tracks > 0


@EXAMPLES
def test_any_csv_is_imported_or_refused(examples: int) -> None:
    def check(raw: bytes, name: str, encoding: str | None) -> None:
        packed = gzip.compress(raw) if name.endswith(".gz") else raw
        in_folder(lambda folder: imported(folder, name, packed, encoding=encoding))

    fuzz(
        examples,
        check,
        raw=tables(),
        name=st.sampled_from(["s.csv", "s.csv", "s.tsv", "s.csv.gz"]),
        encoding=st.sampled_from([None, None, "utf-16", "latin-1", "utf-7", "idna", "no", "hex"])
        | NASTY,
    )


@EXAMPLES
def test_any_damage_to_a_gzip_is_refused(examples: int) -> None:
    whole = gzip.compress(b"title,artist\nT,A\n" * 30, mtime=0)

    def check(raw: bytes) -> None:
        in_folder(lambda folder: imported(folder, "s.csv.gz", raw))

    fuzz(examples, check, raw=damaged(whole))


PARQUET_VALUES = [
    pa.array([1, None, 3], pa.int64()),
    pa.array([1.5, float("nan"), float("inf")]),
    pa.array([True, None, False]),
    pa.array([b"\xff\x00", b"", None]),
    pa.array(["a", None, "\0<|eot_id|>"]),
    pa.array([["a", None], [], None]),
    pa.array([[[1]], [], None]),
    pa.array([{"a": 1}, {"a": None}, None]),
    pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    pa.array([0, 2**62, None], pa.timestamp("ns")),
    pa.array([-(2**52), 2**52, None], pa.timestamp("s")),
    pa.array([0, -1, None], pa.timestamp("us", "Europe/Berlin")),
    pa.array([0, 2**31 - 1, None], pa.date32()),
    pa.array([0, 86_399, None], pa.time32("s")),
    pa.array([0, 2**52, None], pa.duration("s")),
    pa.array(["a", "b", None]).dictionary_encode(),
    pa.array([1, 2, None], pa.decimal128(38, 2)),
    pa.array([b"0123456789abcdef", None, None], pa.binary(16)),
    pa.array(np.array([1, 2, 3], np.float16)),
    pa.nulls(3),
    pa.array([2**64 - 1, 0, None], pa.uint64()),
    pa.array(["a", "b", None], pa.large_string()),
]


@EXAMPLES
def test_any_type_of_column_is_imported_or_refused(examples: int) -> None:
    def check(chosen: dict[str, int]) -> None:
        columns = {name: PARQUET_VALUES[at] for name, at in chosen.items()}
        handle = io.BytesIO()
        pq.write_table(pa.table({"title": ["T", "U", "V"], "artist": ["A"] * 3} | columns), handle)
        in_folder(lambda folder: imported(folder, "s.parquet", handle.getvalue()))

    names = st.sampled_from([name for name in HEADERS if name] + ["Titel", "énergie"])
    kinds = st.integers(0, len(PARQUET_VALUES) - 1)
    fuzz(examples, check, chosen=st.dictionaries(names, kinds, max_size=4))


def a_parquet() -> bytes:
    handle = io.BytesIO()
    columns = {
        "track_id": [f"t{n}" for n in range(40)],
        "title": ["T"] * 40,
        "artist": [f"A{n % 3}" for n in range(40)],
        "tags": [["a", "b"]] * 40,
        "tempo": [float(n) for n in range(40)],
    }
    pq.write_table(pa.table(columns), handle)
    return handle.getvalue()


@EXAMPLES
def test_any_damage_to_a_parquet_file_is_refused_or_harmless(examples: int) -> None:
    def check(raw: bytes) -> None:
        in_folder(lambda folder: imported(folder, "s.parquet", raw))

    fuzz(examples, check, raw=damaged(a_parquet()))


@EXAMPLES
def test_any_second_table_is_taken_or_refused(examples: int) -> None:
    first = b"track_id,title,artist\nt1,T,A\nt2,U,B\n"

    def check(rows: list[list[str]], names: list[str]) -> None:
        text = "\n".join(",".join(row) for row in [["playlist_id", *names], *rows])

        def run(folder: Path) -> None:
            (folder / "p.csv").write_text(text, encoding="utf-8")
            (folder / "s.csv").write_bytes(first)
            calm(import_table, folder / "s.csv", folder / "out", playlists=folder / "p.csv")

        in_folder(run)

    names = st.sampled_from(["track_ids", "track_id", "position", "name", "split", "created_at"])
    cells = CELL | st.sampled_from(["t1", "t1;t2", "t1 t2", "p", "test", "2001"])
    rows = st.lists(st.lists(cells, min_size=1, max_size=4), max_size=5)
    fuzz(examples, check, rows=rows, names=st.lists(names, max_size=3, unique=True))


@EXAMPLES
def test_any_table_is_joined_or_refused(world: Catalog, examples: int) -> None:
    ids = world.track_ids[:2]

    def check(names: list[str], rows: list[list[str]]) -> None:
        text = "\n".join(",".join(row) for row in [["track_id", *names], *rows])
        text = text.encode("utf-8", "replace").decode()

        def run(folder: Path) -> None:
            (folder / "j.csv").write_text(text, encoding="utf-8")
            calm(join_table, world, folder / "j.csv")

        in_folder(run)

    cells = CELL | st.sampled_from(ids)
    rows = st.lists(st.tuples(st.sampled_from(ids), cells, cells).map(list), max_size=4)
    fuzz(examples, check, names=st.lists(st.sampled_from(HEADERS) | NASTY, max_size=3), rows=rows)


ENTRY = {
    "pos": 0,
    "track_uri": "spotify:track:1",
    "track_name": "T",
    "artist_name": "A",
    "artist_uri": "spotify:artist:1",
    "album_uri": "spotify:album:1",
    "album_name": "L",
    "duration_ms": 1,
}
LIST = {"name": "n", "pid": 1, "modified_at": 1_500_000_000, "collaborative": "false"}
LIST |= {"num_followers": 1, "num_edits": 2, "description": "d", "tracks": [ENTRY]}
ENTRIES = st.lists(altered(ENTRY) | JSON, max_size=3) | JSON
LISTS = st.builds(lambda one, tracks: {**one, "tracks": tracks}, altered(LIST), ENTRIES) | altered(
    LIST
)
SLICES = st.lists(LISTS | JSON, max_size=3).map(lambda lists: {"info": {}, "playlists": lists})


@EXAMPLES
def test_any_slice_of_playlists_is_read_or_refused(examples: int) -> None:
    def check(text: str, name: str, harm: bytes | None) -> None:
        raw = text.encode("utf-8", "surrogatepass") if harm is None else harm

        def run(folder: Path) -> None:
            (folder / name).write_bytes(raw)
            found = calm(read_slice, folder / name)
            assert found is not REFUSED  # what cannot be read is counted, not raised
            assert len(found.playlists) == 0 or found.tracks is not None

        in_folder(run)

    whole = json.dumps({"info": {}, "playlists": [LIST, {**LIST, "pid": 2}]}).encode()
    texts = (
        st.builds(json.dumps, SLICES | JSON)
        | JSON_TEXT
        | DEEP.map(lambda deep: '{"playlists": [' + deep + "]}")
        | DEEP.map(lambda deep: '{"playlists": [{"pid": 1, "tracks": [' + deep + "]}]}")
    )
    names = st.sampled_from(["mpd.slice.0-999.json", "challenge_set.json"])
    fuzz(examples, check, text=texts, name=names, harm=st.none() | damaged(whole))


XSPF = (
    '<?xml version="1.0"?><playlist xmlns="http://xspf.org/ns/0/"><title>%s</title>'
    "<trackList><track><location>%s</location></track></trackList></playlist>"
)


@EXAMPLES
def test_any_playlist_file_is_read_or_refused(examples: int) -> None:
    def check(name: str, raw: bytes) -> None:
        def run(folder: Path) -> None:
            (folder / name).write_bytes(raw)
            found = calm(read_playlist_file, folder, name)
            if found is not REFUSED:
                assert all(isinstance(one, str) for one in found.entries)

        in_folder(run)

    lines = st.sampled_from(["#EXTM3U", "#PLAYLIST:x", "file1=a.mp3", "File99999999999999=b"])
    more = st.sampled_from(["file:///etc/passwd", "file://[::1", "http://[", "C:\\x", "../../x"])
    digits = st.integers(1, 6_000).map(lambda n: "File" + "9" * n + "=x.mp3")
    texts = st.lists(lines | more | digits | TEXT, max_size=6).map("\n".join)
    deep = st.integers(1, 20_000).map(lambda n: "<a>" * n + "</a>" * n)
    xml = st.builds(lambda a, b: XSPF % (a, b), NASTY | more | deep, NASTY | more | deep)
    raws = (texts | xml | deep).map(lambda text: text.encode("utf-8", "surrogatepass"))
    names = st.sampled_from(["a.m3u", "a.m3u8", "a.pls", "a.xspf"])
    fuzz(examples, check, name=names, raw=raws | st.binary(max_size=60) | damaged(XSPF.encode()))


TALK = {
    "cid": "c",
    "pid": "p",
    "split": "train",
    "conversations": [
        {"role": "user", "content": "hi"},
        {"role": "music", "content": "t1"},
        {"role": "assistant", "content": "ok"},
    ],
}
MESSAGES = st.lists(altered({"role": "user", "content": "hi", "track_id": "t"}) | JSON, max_size=4)


@EXAMPLES
def test_any_row_of_a_published_set_is_read_or_counted(examples: int) -> None:
    def check(row: Any, messages: Any) -> None:
        row = {**row, "conversations": messages} if messages is not None else row
        for read in (talkplay_conversation, cpcd_conversation):
            calm(read, row, None, errors=RowError)

    messages = MESSAGES | MESSAGES.map(json.dumps) | JSON_TEXT | st.none()
    fuzz(examples, check, row=altered(TALK) | altered({"turns": [], "id": 1}), messages=messages)


@EXAMPLES
def test_any_file_of_rows_is_read_or_refused(examples: int) -> None:
    def check(name: str, text: str) -> None:
        def run(folder: Path) -> None:
            (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
            calm(lambda: list(read_rows(folder / name)))

        in_folder(run)

    lines = st.lists(JSON_TEXT, max_size=4).map("\n".join)
    fuzz(examples, check, name=st.sampled_from(["a.json", "a.jsonl", "a.parquet"]), text=lines)


ROW: dict[str, Any] = {
    "conversation_id": "c",
    "playlist_id": None,
    "split": "train",
    "messages": [],
    "language": None,
    "provenance": None,
    "license": None,
}


@EXAMPLES
def test_any_row_of_our_conversations_is_read_or_refused(examples: int) -> None:
    """The columns have the types of the schema: only what they hold is anybody's."""

    def check(said: list[dict[str, Any] | None], split: str | None) -> None:
        calm(from_row, {**ROW, "split": split, "messages": said}, "train.parquet")

    texts = st.none() | TEXT | JSON_TEXT
    demand = st.fixed_dictionaries(
        {"field": texts, "op": texts | st.sampled_from(["is", "ge"]), "value": texts}
    )
    lists = st.none() | st.lists(texts, max_size=2)
    fields = {
        "role": st.sampled_from(["user", "music", "assistant"]) | texts,
        "content": texts,
        "track_id": texts,
        "source": texts,
        "constraints": st.none() | st.lists(st.none() | demand, max_size=2),
        "intents": lists,
        "liked": lists,
    }
    said = st.lists(st.none() | st.fixed_dictionaries(fields), max_size=4)
    fuzz(examples, check, said=said, split=st.none() | st.sampled_from(["train", "x"]) | TEXT)


@EXAMPLES
def test_any_file_of_vectors_is_read_or_refused(examples: int) -> None:
    ids = ["t0", "t1", "t2"]
    handle = io.BytesIO()
    np.savez(handle, vectors=np.eye(3, dtype=np.float32), track_ids=np.array(ids))
    archive = handle.getvalue()
    handle = io.BytesIO()
    np.save(handle, np.eye(3, dtype=np.float32))
    array = handle.getvalue()
    handle = io.BytesIO()
    pq.write_table(pa.table({"track_id": ids, "vector": [[1.0], [2.0], [3.0]]}), handle)
    table = handle.getvalue()
    header = b'{"vectors":{"dtype":"F32","shape":[3,1],"data_offsets":[0,12]}}'
    tensors = len(header).to_bytes(8, "little") + header + bytes(12)

    def check(case: tuple[str, bytes]) -> None:
        name, raw = case

        def run(folder: Path) -> None:
            (folder / name).write_bytes(raw)
            calm(read_vectors, folder / name, ids, into=folder / "into", fail=lambda _: None)

        in_folder(run)

    kinds = {"v.npz": archive, "v.npy": array, "v.parquet": table, "v.safetensors": tensors}
    cases = [st.tuples(st.just(name), damaged(raw)) for name, raw in kinds.items()]
    headers = st.builds(
        lambda kind, order, shape: (
            b"\x93NUMPY\x01\x00v\x00"
            + f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}".ljust(
                117
            ).encode("utf-8", "replace")[:117]
            + b"\n"
            + b"\0" * 36
        ),
        st.sampled_from(["<f4", "|O", "<U4", "<M8[s]", "|V4", "<c8", "x"]),
        st.sampled_from(["False", "True", "None"]),
        st.sampled_from(["(3, 3)", "(3,)", "(10**9, 10**9)", "(-1, 3)", "()", "(3, 0)", "(" * 90]),
    )
    fuzz(examples, check, case=st.one_of(*cases, headers.map(lambda raw: ("v.npy", raw))))
