"""Small audio files with tags, written by hand."""

import struct
from pathlib import Path

_INFO = {"title": "INAM", "artist": "IART", "album": "IPRD", "genre": "IGNR", "date": "ICRD"}
_ID3 = {
    "title": "TIT2",
    "artist": "TPE1",
    "album": "TALB",
    "genre": "TCON",
    "date": "TYER",
    "number": "TRCK",
    "bpm": "TBPM",
    "key": "TKEY",
}


def write_wav(path: Path, *, sound: int = 0, seconds: float = 0.1, **tags: str) -> Path:
    """A WAV of a constant level, with tags as RIFF INFO."""
    data = struct.pack("<h", sound) * int(8000 * seconds)
    form = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    info = b"INFO" + b"".join(_chunk(_INFO[name], text.encode()) for name, text in tags.items())
    chunks = _chunk("fmt ", form) + _chunk("data", data) + _chunk("LIST", info)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_chunk("RIFF", b"WAVE" + chunks))
    return path


def _chunk(name: str, data: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)


def write_mp3(path: Path, *, lyrics: str = "", **tags: str) -> Path:
    """An MP3 of ten silent frames, with an ID3v2.3 tag."""
    frames = b"".join(
        _frame(_ID3[name], b"\x01" + text.encode("utf-16")) for name, text in tags.items()
    )
    if lyrics:
        frames += _frame("USLT", b"\x00eng\x00" + lyrics.encode("latin-1"))
    size = bytes((len(frames) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    silence = (b"\xff\xfb\x90\x00" + b"\x00" * 413) * 10  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"ID3\x03\x00\x00" + size + frames + silence)
    return path


def _frame(name: str, data: bytes) -> bytes:
    return name.encode() + struct.pack(">I", len(data)) + b"\x00\x00" + data
