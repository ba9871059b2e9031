"""What the loopback Hub answers, by path."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import yaml
from loopback_http import Headers, Refused, Reply, Request, json_reply
from loopback_repos import Commit, Repo, blob, git_oid, is_lfs

if TYPE_CHECKING:
    from loopback import LoopbackHub

LICENSES = {
    *("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "other"),
    *("unknown", "openrail", "llama3.1", "llama3.2", "gemma", "odbl", "cc-by-nc-sa-4.0", "odc-by"),
}


def whoami(hub: "LoopbackHub", request: Request) -> Reply:
    user = hub.user(request)
    if user is None:
        raise Refused(401, None, "Invalid username or password.")
    token = {"displayName": "test", "role": "write"}
    return json_reply({"type": "user", "name": user, "orgs": [], "auth": {"accessToken": token}})


def create(hub: "LoopbackHub", request: Request) -> Reply:
    asked = json.loads(request.body)
    user = hub.user(request)
    if user is None:
        raise Refused(401, None, "Invalid username or password.")
    owner = asked.get("organization") or user
    kind, id = asked.get("type") or "model", f"{owner}/{asked['name']}"
    if owner != user:
        raise Refused(403, None, f"You don't have the rights to create a {kind} under {owner}")
    prefix = "" if kind == "model" else f"{kind}s/"
    answer = {"url": f"{hub.url}/{prefix}{id}", "name": id, "id": "1"}
    if (kind, id) in hub.repos:
        return json_reply({**answer, "error": f"You already created this {kind} repo"}, 409)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    hub.repos[kind, id] = Repo(id, kind, private)
    return json_reply(answer)


def info(hub: "LoopbackHub", request: Request, kind: str, id: str, revision: str = "main") -> Reply:
    repo = hub.readable(request, kind, id)
    commit = hub.at(repo, revision)
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit.tree)]
    if "blobs" in request.query:
        for entry in siblings:
            found = commit.tree[entry["rfilename"]]
            entry |= {"size": len(found.data), "blobId": found.oid}
            if found.sha256:
                lfs = {"size": len(found.data), "sha256": found.sha256, "pointerSize": 134}
                entry["lfs"] = lfs
    return json_reply(
        {
            **{"_id": "1", "id": id, "sha": commit.sha, "private": repo.private},
            **{"gated": "manual" if repo.gated else False, "disabled": False},
            **{"tags": [], "downloads": 0, "likes": 0, "siblings": siblings},
            "lastModified": "2026-01-01T00:00:00.000Z",
        }
    )


def tree(
    hub: "LoopbackHub",
    request: Request,
    kind: str,
    id: str,
    revision: str,
    folder: str | None = None,
) -> Reply:
    repo = hub.readable(request, kind, id)
    commit = hub.at(repo, revision)
    under = f"{folder.strip('/')}/" if folder else ""
    recursive = request.query.get("recursive", "").lower() in ("1", "true")
    entries = [
        entry
        for entry in entries_of(commit)
        if entry["path"].startswith(under)
        and (recursive or "/" not in entry["path"].removeprefix(under))
    ]
    if under and not entries:
        raise Refused(404, "EntryNotFound", f"{folder} does not exist on {revision}")
    start = int(request.query.get("cursor", 0))
    headers = {}
    if start + hub.page < len(entries):
        more = f"recursive={recursive}&cursor={start + hub.page}"
        path = f"/api/{kind}s/{id}/tree/{commit.sha}" + (f"/{folder}" if folder else "")
        headers["Link"] = f'<{hub.url}{path}?{more}>; rel="next"'
    return json_reply(entries[start : start + hub.page], headers=headers)


def paths(hub: "LoopbackHub", request: Request, kind: str, id: str, revision: str) -> Reply:
    commit = hub.at(hub.readable(request, kind, id), revision)
    if "json" in request.headers.get("content-type", ""):
        wanted = json.loads(request.body)["paths"]
    else:
        wanted = parse_qs(request.body.decode())["paths"]
    wanted = {path.strip("/") for path in wanted}
    return json_reply([entry for entry in entries_of(commit) if entry["path"] in wanted])


def refs(hub: "LoopbackHub", request: Request, kind: str, id: str) -> Reply:
    repo = hub.readable(request, kind, id)

    def entries(start: str, names: Iterable[str]) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"{start}{name}", "targetCommit": repo.refs[name]}
            for name in sorted(names)
        ]

    pulls = {name for name in repo.refs if name.startswith("refs/pr/")}
    branches = entries("refs/heads/", set(repo.refs) - repo.tags - pulls)
    tags = entries("refs/tags/", repo.tags)
    return json_reply(
        {"branches": branches, "tags": tags, "converts": [], "pullRequests": entries("", pulls)}
    )


def branch(hub: "LoopbackHub", request: Request, kind: str, id: str, name: str) -> Reply:
    repo = hub.writable(request, kind, id)
    if name in repo.refs:
        raise Refused(409, None, "Reference already exists")
    start = json.loads(request.body or b"{}").get("startingPoint") or "main"
    repo.refs[name] = hub.at(repo, start).sha
    return json_reply({"success": True})


def tag(hub: "LoopbackHub", request: Request, kind: str, id: str, revision: str) -> Reply:
    repo = hub.writable(request, kind, id)
    name = json.loads(request.body)["tag"]
    if name in repo.refs:
        raise Refused(409, None, "Reference already exists")
    repo.refs[name] = hub.at(repo, revision).sha
    repo.tags.add(name)
    return json_reply({"success": True})


def validate(hub: "LoopbackHub", request: Request) -> Reply:
    text = json.loads(request.body)["content"]
    found = re.match(r"\s*---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    if not found:
        warning = {"message": "empty or missing yaml metadata in repo card"}
        return json_reply({"errors": [], "warnings": [warning]})
    errors = []
    try:
        facts = yaml.safe_load(found[1]) or {}
        licenses = facts.get("license", [])
        for name in [licenses] if isinstance(licenses, str) else licenses:
            if name not in LICENSES:
                errors.append({"message": f'"license" must be one of the known: {name}'})
    except (yaml.YAMLError, AttributeError) as error:
        errors.append({"message": f"bad YAML: {error}"})
    return json_reply({"errors": errors, "warnings": []}, 400 if errors else 200)


def preupload(hub: "LoopbackHub", request: Request, kind: str, id: str, revision: str) -> Reply:
    commit = _commit_to(hub, request, kind, id, revision)[1]
    modes = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if is_lfs(file["path"], file["size"]) else "regular",
            "shouldIgnore": False,
            "oid": commit.tree[file["path"]].etag if file["path"] in commit.tree else None,
        }
        for file in json.loads(request.body)["files"]
    ]
    return json_reply({"files": modes, "commitOid": commit.sha})


def _commit_to(
    hub: "LoopbackHub", request: Request, kind: str, id: str, revision: str
) -> tuple[Repo, Commit, bool]:
    pull = request.query.get("create_pr") == "1"
    if pull:
        repo = hub.readable(request, kind, id)
        if hub.user(request) is None:
            raise Refused(401, None, "Invalid username or password.")
    else:
        repo = hub.writable(request, kind, id)
    return repo, hub.at(repo, revision), pull


def batch(hub: "LoopbackHub", request: Request, kind: str, id: str) -> Reply:
    repo = hub.readable(request, kind, id)
    if hub.user(request) is None:
        raise Refused(401, None, "Invalid username or password.")
    objects = []
    for asked in json.loads(request.body)["objects"]:
        oid = asked["oid"]
        entry = {"oid": oid, "size": asked["size"]}
        if oid not in hub.objects:
            verify = f"{hub.url}/api/{repo.prefix}{id}/lfs/verify"
            entry["actions"] = {
                "upload": {"href": f"http://localhost:{hub.port}/lfs/{oid}"},
                "verify": {"href": verify},
            }
        objects.append(entry)
    return json_reply({"transfer": "basic", "objects": objects})


def upload(hub: "LoopbackHub", request: Request, oid: str) -> Reply:
    hub.uploads[oid] = request.body
    return Reply(200, headers={"ETag": f'"{oid}"'})


def verify(hub: "LoopbackHub", request: Request) -> Reply:
    asked = json.loads(request.body)
    data = hub.uploads.pop(asked["oid"], b"")
    if hashlib.sha256(data).hexdigest() != asked["oid"] or len(data) != asked["size"]:
        raise Refused(400, None, "The uploaded object is not what its oid says")
    hub.objects[asked["oid"]] = data
    return json_reply({})


def commit(hub: "LoopbackHub", request: Request, kind: str, id: str, revision: str) -> Reply:
    repo, base, pull = _commit_to(hub, request, kind, id, revision)
    if not pull and (revision not in repo.refs or revision in repo.tags):
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    lines = [json.loads(line) for line in request.body.splitlines() if line]
    header = lines[0]["value"]
    if header.get("parentCommit") not in (None, base.sha):
        raise Refused(412, None, "A commit has happened since. Please refresh and try again.")
    tree = dict(base.tree)
    for line in lines[1:]:
        path = line["value"]["path"]
        if any(part in ("", ".", "..", ".git") for part in path.rstrip("/").split("/")):
            raise Refused(400, None, f"Invalid path {path}")
        if line["key"] == "file":
            tree[path] = blob(base64.b64decode(line["value"]["content"]), lfs=False)
        elif line["key"] == "lfsFile":
            if line["value"]["oid"] not in hub.objects:
                raise Refused(400, None, f"LFS pointer of {path} points to nothing")
            tree[path] = blob(hub.objects[line["value"]["oid"]], lfs=True)
        else:
            gone = {
                name for name in tree if name == path or name.startswith(f"{path.rstrip('/')}/")
            }
            if not gone:
                raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
            tree = {name: found for name, found in tree.items() if name not in gone}
    if pull:
        repo.pull_requests += 1
        ref = f"refs/pr/{repo.pull_requests}"
        repo.refs[ref] = base.sha
    else:
        ref = revision
    new = repo.commit(ref, header["summary"], tree)
    home = f"{hub.url}/{repo.prefix}{id}"
    return json_reply(
        {
            **{"success": True, "hookOutput": "", "commitOid": new.sha},
            "commitUrl": f"{home}/commit/{new.sha}",
            **({"pullRequestUrl": f"{home}/discussions/{repo.pull_requests}"} if pull else {}),
        }
    )


def resolve(
    hub: "LoopbackHub", request: Request, kind: str, id: str, revision: str, path: str
) -> Reply:
    repo = hub.readable(request, kind, id)
    commit = hub.at(repo, revision)
    hub.open_files(request, repo)
    headers = {"X-Repo-Commit": commit.sha}
    found = commit.tree.get(path)
    if found is None:
        error = Refused(404, "EntryNotFound", "Entry not found")
        error.reply.headers |= headers
        raise error
    headers["ETag"] = f'"{found.etag}"'
    if found.sha256:
        headers["X-Linked-ETag"] = f'"{found.sha256}"'
        headers["X-Linked-Size"] = str(len(found.data))
        headers["Location"] = f"http://localhost:{hub.port}/cdn/{found.sha256}"
        return Reply(302, b"", headers)
    return ranged(request, found.data, headers)


def cdn(hub: "LoopbackHub", request: Request, oid: str) -> Reply:
    if oid not in hub.objects:
        return Reply(403, b"<Error>AccessDenied</Error>", {"Content-Type": "application/xml"})
    return ranged(request, hub.objects[oid], {"ETag": f'"{git_oid(oid.encode())}"'})


def harnesses(hub: "LoopbackHub", request: Request) -> Reply:
    return json_reply({})


def entries_of(commit: Commit) -> list[dict[str, Any]]:
    folders: set[str] = set()
    entries: list[dict[str, Any]] = []
    for path, found in commit.tree.items():
        size = len(found.data)
        entry: dict[str, Any] = {"type": "file", "oid": found.oid, "size": size, "path": path}
        if found.sha256:
            entry["lfs"] = {"oid": found.sha256, "size": size, "pointerSize": 134}
        entries.append(entry)
        parts = path.split("/")[:-1]
        folders |= {"/".join(parts[: n + 1]) for n in range(len(parts))}
    entries += [
        {"type": "directory", "oid": git_oid(name.encode()), "size": 0, "path": name}
        for name in folders
    ]
    return sorted(entries, key=lambda entry: entry["path"])


def ranged(request: Request, data: bytes, headers: Headers) -> Reply:
    headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if not found:
        return Reply(200, data, headers)
    size = len(data)
    start = int(found[1]) if found[1] else max(size - int(found[2]), 0)
    end = min(int(found[2]), size - 1) if found[1] and found[2] else size - 1
    if start >= size:
        return Reply(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Reply(206, data[start : end + 1], headers)


_API = r"/api/(?P<kind>model|dataset|space)s/(?P<id>[^/]+/[^/]+)"
# a revision may hold slashes only where it is a pull request
_REV = r"(?P<revision>refs/pr/\d+|[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., Reply]]] = [
    ("GET", r"/api/whoami-v2", whoami),
    ("GET", r"/api/agent-harnesses", harnesses),
    ("POST", r"/api/repos/create", create),
    ("POST", r"/api/validate-yaml", validate),
    ("POST", r"/api/.+/lfs/verify", verify),
    ("GET", _API, info),
    ("GET", rf"{_API}/revision/{_REV}", info),
    ("GET", rf"{_API}/tree/{_REV}(/(?P<folder>.+))?", tree),
    ("POST", rf"{_API}/paths-info/{_REV}", paths),
    ("GET", rf"{_API}/refs", refs),
    ("POST", rf"{_API}/branch/(?P<name>.+)", branch),
    ("POST", rf"{_API}/tag/{_REV}", tag),
    ("POST", rf"{_API}/preupload/{_REV}", preupload),
    ("POST", rf"{_API}/commit/{_REV}", commit),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", upload),
    ("GET HEAD", r"/cdn/(?P<oid>[0-9a-f]{64})", cdn),
]


def _by_type(answer: Callable[..., Reply]) -> Callable[..., Reply]:
    """For paths that say `datasets/` before the name of a dataset, and nothing for a model."""

    def make(hub: "LoopbackHub", request: Request, kind: str | None, **parts: str) -> Reply:
        return answer(hub, request, (kind or "models/")[:-2], **parts)

    return make


_REPO = r"/(?P<kind>(?:models|datasets|spaces)/)?(?P<id>[^/]+/[^/]+)"
ROUTES += [
    ("POST", rf"{_REPO}\.git/info/lfs/objects/batch", _by_type(batch)),
    ("GET HEAD", rf"{_REPO}/(?:resolve|raw)/{_REV}/(?P<path>.+)", _by_type(resolve)),
]
