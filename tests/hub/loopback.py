"""A Hub on the loopback interface, for the real clients: repos, commits, LFS, and faults to order.

In a test, by the fixture `hub`:

    hub.put("me/songs", {"README.md": b"..."}, repo_type="dataset")
    hub.fault("GET", "/resolve/", status=503, times=1)
    ...  # any client: huggingface_hub, transformers, datasets
    hub.files("me/songs", "dataset"), hub.requests, hub.waits

It answers as the Hub does where clients look: `X-Error-Code`, commit and linked headers, LFS files
on another host than the rest, ranges, pages with `Link`. A token is a user: `me` and `other` may
write to what is theirs; without a token, public repos can be read.
"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from loopback_answers import ROUTES
from loopback_http import Fault, Handler, Refused, Reply, Request, Server, json_reply
from loopback_repos import Blob, Commit, Repo, blob, is_lfs

TOKENS = {"hf_me": "me", "hf_other": "other"}


class LoopbackHub:
    """The server. `page`: how many entries of a tree one answer holds."""

    def __init__(self, port: int = 0) -> None:
        self._server = self._open(port)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.home = ""
        self.reset()

    def reset(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}  # not verified yet
        self.allowed: set[tuple[str, str]] = set()
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.waits: list[float] = []
        self.page = 1000
        self._lock = threading.RLock()

    # what tests use

    def repo(self, repo_id: str, repo_type: str = "model") -> Repo:
        return self.repos[repo_type, repo_id]

    def files(
        self, repo_id: str, repo_type: str = "model", revision: str = "main"
    ) -> dict[str, bytes]:
        """The files of a revision, without the `.gitattributes` that the Hub made."""
        commit = self.repo(repo_id, repo_type).find(revision)
        assert commit is not None, f"{repo_id} has no revision {revision}"
        return {path: found.data for path, found in commit.tree.items() if path != ".gitattributes"}

    def put(
        self,
        repo_id: str,
        files: Mapping[str, bytes | str | None],
        repo_type: str = "model",
        *,
        revision: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Commit files (`None` deletes one) past all checks, in a repo that is made if needed; any
        path goes, also those that the Hub would refuse. Returns the SHA of the commit."""
        with self._lock:
            key = (repo_type, repo_id)
            repo = self.repos.setdefault(key, Repo(repo_id, repo_type, private, gated))
            repo.refs.setdefault(revision, repo.refs["main"])
            tree = dict(repo.commits[repo.refs[revision]].tree)
            for path, data in files.items():
                if data is None:
                    del tree[path]
                    continue
                data = data.encode() if isinstance(data, str) else data
                tree[path] = self._keep(blob(data, is_lfs(path, len(data))))
            return repo.commit(revision, "put", tree).sha

    def fault(self, method: str, path: str, **what: Any) -> Fault:
        """Let requests go wrong: see `Fault`. Of those that match, the latest acts."""
        fault = Fault(method, path, **what)
        self.faults.append(fault)
        return fault

    def env(self, **more: str) -> dict[str, str]:
        """The environment that points a process of Python at this Hub."""
        return {
            **os.environ,
            "HF_ENDPOINT": self.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_me",
            "HF_HOME": self.home,
            **more,
        }

    def asked(self, pattern: str, method: str = "") -> list[Request]:
        """The requests so far whose path holds a match of a pattern."""
        return [r for r in self.requests if method in r.method and re.search(pattern, r.path)]

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Inside, connections are refused."""
        self.stop()
        try:
            yield
        finally:
            self._server = self._open(self.port)
            self.start()

    # the server

    def _open(self, port: int) -> Server:
        handler = type("Handler", (Handler,), {"hub": self})
        return Server(("127.0.0.1", port), handler)

    def _keep(self, new: Blob) -> Blob:
        if new.sha256:
            self.objects[new.sha256] = new.data
        return new

    def fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in reversed(self.faults):
                if fault.method in ("*", request.method) and re.search(fault.path, request.path):
                    if fault.times is not None and fault.hits >= fault.skip + fault.times:
                        continue
                    fault.hits += 1
                    if fault.hits > fault.skip:
                        return fault
            return None

    def reply(self, request: Request) -> Reply:
        for method, pattern, make in ROUTES:
            found = re.fullmatch(pattern, request.path)
            if found and request.method in method:
                try:
                    with self._lock:
                        return make(self, request, **found.groupdict())
                except Refused as error:
                    return error.reply
        return json_reply({"error": "Not Found"}, 404)

    def user(self, request: Request) -> str | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise Refused(401, None, "Invalid credentials in Authorization header")
        return TOKENS.get(token)

    def readable(self, request: Request, kind: str, id: str) -> Repo:
        user = self.user(request)
        repo = self.repos.get((kind, id))
        if repo is None or (repo.private and not self.writes(user, repo)):
            if user is None:
                raise Refused(401, "RepoNotFound", "Invalid username or password.")
            raise Refused(404, "RepoNotFound", "Repository not found")
        return repo

    def writes(self, user: str | None, repo: Repo) -> bool:
        return user is not None and repo.id.startswith(f"{user}/")

    def writable(self, request: Request, kind: str, id: str) -> Repo:
        repo = self.readable(request, kind, id)
        if not self.writes(self.user(request), repo):
            raise Refused(403, None, "You don't have the rights to update this repo")
        return repo

    def at(self, repo: Repo, revision: str) -> Commit:
        commit = repo.find(revision)
        if commit is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def open_files(self, request: Request, repo: Repo) -> None:
        user = self.user(request)
        if repo.gated and not self.writes(user, repo) and (user, repo.id) not in self.allowed:
            message = f"Access to {repo.type} {repo.id} is restricted."
            raise Refused(403 if user else 401, "GatedRepo", message)
