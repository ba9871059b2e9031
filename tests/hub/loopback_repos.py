"""The repos of the loopback Hub: commits, branches, tags and pull requests, in memory."""

import fnmatch
import hashlib
import uuid
from dataclasses import dataclass, field

# what the Hub keeps outside of git
LFS_PATTERNS = (
    *("*.safetensors", "*.parquet", "*.arrow", "*.npy", "*.npz", "*.bin", "*.pt", "*.pkl"),
    *("*.onnx", "*.gguf", "*.png", "*.jpg", "*.wav", "*.mp3", "*.flac", "*.ogg", "*.zip", "*.gz"),
)
LFS_SIZE = 10_000_000
ATTRIBUTES = "".join(f"{p} filter=lfs diff=lfs merge=lfs -text\n" for p in LFS_PATTERNS).encode()


def is_lfs(path: str, size: int) -> bool:
    name = path.rpartition("/")[2]
    return size > LFS_SIZE or any(fnmatch.fnmatch(name, pattern) for pattern in LFS_PATTERNS)


@dataclass(frozen=True)
class Blob:
    """One file: `oid` as git names it, `sha256` only where it lies in LFS."""

    data: bytes
    oid: str
    sha256: str | None = None

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def blob(data: bytes, lfs: bool) -> Blob:
    if not lfs:
        return Blob(data, git_oid(data))
    sha256 = hashlib.sha256(data).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n"
    return Blob(data, git_oid(pointer.encode()), sha256)


@dataclass(frozen=True)
class Commit:
    sha: str
    parent: str | None
    message: str
    tree: dict[str, Blob]


@dataclass
class Repo:
    """A repo: `refs` from `main`, other branches, tags and `refs/pr/N` to the SHA of a commit."""

    id: str
    type: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)
    pull_requests: int = 0
    # clients remember commits, so no two repos may share one
    salt: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.commit("main", "initial commit", {".gitattributes": blob(ATTRIBUTES, lfs=False)})

    @property
    def prefix(self) -> str:
        return "" if self.type == "model" else f"{self.type}s/"

    def find(self, revision: str) -> Commit | None:
        return self.commits.get(self.refs.get(revision, revision))

    def commit(self, ref: str, message: str, tree: dict[str, Blob]) -> Commit:
        parent = self.refs.get(ref)
        text = repr((self.salt, parent, message, len(self.commits)))
        text += "".join(f"{path} {tree[path].oid}\n" for path in sorted(tree))
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[sha] = Commit(sha, parent, message, tree)
        self.refs[ref] = sha
        return self.commits[sha]

    def log(self, ref: str = "main") -> list[Commit]:
        """The commits of a branch, newest first."""
        commits = []
        sha: str | None = self.refs[ref]
        while sha is not None:
            commits.append(self.commits[sha])
            sha = commits[-1].parent
        return commits
