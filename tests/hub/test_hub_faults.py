"""What goes wrong with the Hub is told in one line, and nothing half-done is seen.

Each case is one or more faults of the loopback Hub, and what the message must say. A pull finds an
older folder in its place, a push finds older files and files of others in the repo: both must be as
before.
"""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from loopback import LoopbackHub, Reply
from small_folders import EDITED, SONGS, contents_of, make_folder

from talkplay_hf.errors import HubError
from talkplay_hf.hub.faults import Target, explain
from talkplay_hf.hub.needed import NEEDED
from talkplay_hf.hub.pull import fetch, pull_folder
from talkplay_hf.hub.push import push_folder

REPO = "me/songs"
INFO, TREE, PREUPLOAD, COMMIT = r"/songs(/revision/[^/]+)?$", "/tree/", "/preupload/", "/commit/"
BATCH, UPLOAD, VERIFY, YAML = "/objects/batch", "^/lfs/", "/lfs/verify", "/validate-yaml"
RESOLVE, CDN, CREATE, WHOAMI = "/resolve/", "^/cdn/", "/repos/create", "/whoami"
NOT_JSON = {"status": 200, "body": b"<html>Welcome to the hotel</html>"}


def json_body(value: Any) -> dict[str, Any]:
    return {"status": 200, "body": json.dumps(value).encode()}


def without(*names: str) -> Callable[[Reply], Reply]:
    """Take headers from a reply."""
    low = {name.lower() for name in names}

    def edit(reply: Reply) -> Reply:
        kept = {name: value for name, value in reply.headers.items() if name.lower() not in low}
        return Reply(reply.status, reply.body, kept)

    return edit


def with_headers(**headers: str) -> Callable[[Reply], Reply]:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda reply: Reply(reply.status, reply.body, reply.headers | more)


def other_body(reply: Reply) -> Reply:
    return Reply(reply.status, bytes(reversed(reply.body)), reply.headers)


def shorter(reply: Reply) -> Reply:
    return Reply(reply.status, reply.body[:-7], reply.headers)


def longer(reply: Reply) -> Reply:
    return Reply(reply.status, reply.body + b"surplus", reply.headers)


@dataclass
class Case:
    """A fault of the requests of a method to a path, and what the message must match."""

    name: str
    method: str
    path: str
    fault: dict[str, Any]
    says: str = ""

    def order(self, hub: LoopbackHub, **more: Any) -> None:
        hub.fault(self.method, self.path, **self.fault, **more)


def cases(*found: Case) -> Any:
    return pytest.mark.parametrize("case", found, ids=[case.name for case in found])


def statuses(method: str, path: str, what: str, says: dict[int, str], **fault: Any) -> list[Case]:
    return [
        Case(f"{what}-{status}", method, path, {"status": status, **fault}, text)
        for status, text in says.items()
    ]


DOWN = dict.fromkeys((500, 502, 503, 504), r"out of order \(status 50.\); try again later")


PASSING = {429: "", 503: ""}


# pull


@pytest.fixture
def songs(hub: LoopbackHub, tmp_path: Path) -> Path:
    folder = make_folder(tmp_path / "songs")
    hub.put(REPO, contents_of(folder), "dataset")
    return folder


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder that lies where the pull goes."""
    return make_folder(tmp_path / "out", {"tracks.parquet": b"older"})


PULLS = [
    *statuses("GET", INFO, "info", {**DOWN, 429: "fewer requests; wait some seconds"}),
    *statuses("GET", TREE, "tree", {**DOWN, 403: "may not read there"}),
    *statuses("HEAD", RESOLVE, "head", {**DOWN, 403: "may not read there"}),
    *statuses(
        "GET", CDN, "cdn", {**DOWN, 403: "may not read there", 404: "status 404", 416: "416"}
    ),
    Case("token-401", "GET", INFO, {"status": 401}, r"does not accept the token.*hf auth login"),
    Case(
        "repo-404",
        *("GET", INFO, {"status": 404, "code": "RepoNotFound"}),
        r"is not on http://.*/datasets/, or it is private.*log in with `hf auth login`",
    ),
    Case(
        "repo-401",
        *("GET", INFO, {"status": 401, "code": "RepoNotFound"}),
        "or it is private.*set HF_TOKEN",
    ),
    Case(
        "gated-403",
        *("HEAD", RESOLVE, {"status": 403, "code": "GatedRepo"}),
        r"is gated\. Open http://.*/datasets/me/songs, ask for access",
    ),
    Case(
        "disabled-403",
        *("GET", INFO, {"status": 403, "message": "Access to this resource is disabled."}),
        "was disabled by the Hub",
    ),
    Case(
        "revision-404",
        *("GET", INFO, {"status": 404, "code": "RevisionNotFound"}),
        "has no revision main; see the branches",
    ),
    Case(
        "file-404",
        *("HEAD", "tracks.parquet", {"status": 404, "code": "EntryNotFound"}),
        r"lacks the file tracks\.parquet",
    ),
    Case("payment-402", "GET", INFO, {"status": 402}, "asks for payment"),
    Case(
        "limit-429-wait",
        *("GET", INFO, {"status": 429, "headers": {"Retry-After": "3600"}}),
        "fewer requests; wait 3600 seconds",
    ),
    Case(
        "limit-429-window",
        *("GET", INFO, {"status": 429, "headers": {"RateLimit": '"api";r=0;t=271'}}),
        "wait 271 seconds",
    ),
    Case("teapot-418", "GET", INFO, {"status": 418, "message": "tea"}, r"status 418 \(tea\)"),
    Case("info-no-json", "GET", INFO, NOT_JSON, "something no Hub says.*check HF_ENDPOINT"),
    Case("info-list", "GET", INFO, json_body([1]), "something no Hub says"),
    Case("info-no-sha", "GET", INFO, json_body({"id": REPO}), "something no Hub says"),
    Case("tree-no-json", "GET", TREE, NOT_JSON, "something no Hub says"),
    Case("tree-object", "GET", TREE, json_body({"a": 1}), "something no Hub says"),
    Case("tree-no-path", "GET", TREE, json_body([{"type": "file"}]), "something no Hub says"),
    Case("reset-info", "GET", INFO, {"reset": True}, "connection to http.* broke off.*try again"),
    Case("reset-tree", "GET", TREE, {"reset": True}, "broke off"),
    Case("reset-head", "HEAD", RESOLVE, {"reset": True}, "broke off"),
    Case("reset-cdn", "GET", CDN, {"reset": True}, "broke off"),
    Case("cut-always", "GET", CDN, {"cut": 10}, "broke off"),
    Case("cut-info", "GET", INFO, {"cut": 10}, "broke off"),
    Case("silent-info", "GET", INFO, {"delay": 0.4}, "does not answer in time; check your"),
    Case("silent-cdn", "GET", CDN, {"delay": 0.4}, "does not answer in time"),
    Case("shorter", "GET", CDN, {"edit": shorter}, "another length than it has on the Hub"),
    Case("longer", "GET", CDN, {"edit": longer}, "another length than it has on the Hub"),
    Case("other-content", "GET", CDN, {"edit": other_body}, "is not what its hash on the Hub"),
    Case(
        "other-etag",
        *("HEAD", RESOLVE, {"edit": with_headers(X_Linked_ETag=f'"{"a" * 64}"')}),
        r"is not what its hash on the Hub tells.*owner",
    ),
    Case(
        "no-etag",
        *("HEAD", RESOLVE, {"edit": without("ETag", "X-Linked-ETag")}),
        "does not answer as a Hub does; check HF_ENDPOINT",
    ),
    Case(
        "no-commit",
        *("HEAD", RESOLVE, {"edit": without("X-Repo-Commit")}),
        "does not answer as a Hub does",
    ),
    Case(
        "circle",
        *("HEAD", RESOLVE, {"status": 302, "headers": {"Location": "/me/songs/resolve/x/y"}}),
        "sends us in circles",
    ),
    Case(
        "circle-info",
        *("GET", INFO, {"status": 307, "headers": {"Location": "/api/datasets/me/songs"}}),
        "sends us in circles",
    ),
]


@cases(*PULLS)
def test_a_failed_pull_says_why_and_leaves_what_was_there(hub, songs, older, tmp_path, case):
    before = contents_of(tmp_path)
    case.order(hub)
    with pytest.MonkeyPatch.context() as patch:
        if "delay" in case.fault:
            patch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.2)
            patch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
        with pytest.raises(HubError, match=case.says) as error:
            pull_folder(REPO, older, kind="catalog")
    check_message(error.value)
    assert contents_of(tmp_path) == before
    assert not list(Path(hub.home).rglob("*.incomplete"))
    # the next one, when all is well again, is not led astray by what is in the cache
    hub.faults.clear()
    pull_folder(REPO, older, kind="catalog")
    assert contents_of(older) == contents_of(songs)


def check_message(error: HubError) -> None:
    text = str(error)
    assert text.startswith("dataset repo me/songs: ")
    assert "\n" not in text
    assert "Request ID" not in text
    assert "Traceback" not in text
    assert len(text) < 500


@cases(
    *statuses("GET", INFO, "info", PASSING),
    *statuses("GET", TREE, "tree", PASSING),
    *statuses("HEAD", RESOLVE, "head", PASSING),
    *statuses("GET", CDN, "cdn", PASSING),
    Case("limit", "GET", INFO, {"status": 429, "headers": {"Retry-After": "2"}}),
    Case("reset-info", "GET", INFO, {"reset": True}),
    Case("reset-tree", "GET", TREE, {"reset": True}),
    Case("reset-head", "HEAD", RESOLVE, {"reset": True}),
    Case("reset-cdn", "GET", CDN, {"reset": True}),
    Case("cut-info", "GET", INFO, {"cut": 10}),
    Case("cut", "GET", CDN, {"cut": 10}),
    Case("shorter", "GET", CDN, {"edit": shorter}),
    Case("other-content", "GET", CDN, {"edit": other_body}),
    Case("no-range", "GET", CDN, {"cut": 4000}),
)
def test_what_passes_by_itself_stops_no_pull(hub, songs, tmp_path, case):
    case.order(hub, times=1)
    out = pull_folder(REPO, tmp_path / "out", kind="catalog")
    assert contents_of(out) == contents_of(songs)
    assert sum(hub.waits) <= 10


def test_the_seconds_that_the_hub_asks_for_are_waited(hub, songs, tmp_path):
    hub.fault("GET", INFO, status=429, headers={"Retry-After": "17"}, times=1)
    pull_folder(REPO, tmp_path / "out", kind="catalog")
    assert 17 in hub.waits


def test_nobody_waits_for_an_hour(hub, songs):
    hub.fault("GET", INFO, status=429, headers={"Retry-After": "3600"})
    with pytest.raises(HubError, match="wait 3600 seconds"):
        fetch(REPO, repo_type="dataset", allow=NEEDED["catalog"])
    assert hub.waits == []


def test_a_refusal_is_not_covered_by_the_cache(hub, songs, tmp_path):
    fetch(REPO, repo_type="dataset", allow=NEEDED["catalog"])
    hub.fault("GET", INFO, status=403)
    with pytest.raises(HubError, match="may not read there"):
        pull_folder(REPO, tmp_path / "out", kind="catalog")


def test_a_private_repo_takes_a_token(hub, songs, tmp_path):
    hub.repo(REPO, "dataset").private = True
    for token in (False, "hf_other"):
        with pytest.raises(HubError, match=r"or it is private.*hf auth login"):
            pull_folder(REPO, tmp_path / "out", kind="catalog", token=token)
    assert pull_folder(REPO, tmp_path / "out", kind="catalog", token="hf_me")


def test_a_gated_repo_takes_access(hub, songs, tmp_path):
    hub.repo(REPO, "dataset").gated = True
    for token in (False, "hf_other"):
        with pytest.raises(HubError, match="is gated"):
            pull_folder(REPO, tmp_path / "out", kind="catalog", token=token)
    hub.allowed.add(("other", REPO))
    assert pull_folder(REPO, tmp_path / "out", kind="catalog", token="hf_other")


def test_the_wrong_type_of_repo_is_told(hub, songs):
    with pytest.raises(HubError, match=r"model repo me/songs: .*Check its name and type"):
        fetch(REPO, repo_type="model", allow=("config.json",))


# push


@pytest.fixture
def changed(hub: LoopbackHub, tmp_path: Path) -> Path:
    """A folder that differs from what is on the Hub, where others have files too."""
    folder = make_folder(tmp_path / "songs", {**SONGS, "old.parquet": b"old"})
    hub.put(REPO, {**contents_of(folder), "theirs.txt": b"x"}, "dataset")
    (folder / "old.parquet").unlink()
    return make_folder(folder, {**SONGS, "tracks.parquet": b"new", "playlists.parquet": b"new too"})


def push(folder: Path, **options: Any) -> Any:
    return push_folder(folder, REPO, repo_type="dataset", **options)


AFTER_DOWN = {500: "out of order", 502: "out of order", 503: "out of order", 504: "out of order"}
PUSHES = [
    *statuses("GET", INFO, "info", {**DOWN, 403: "may not write there"}),
    *statuses("GET", TREE, "tree", {500: "out of order"}),
    *statuses(
        "POST",
        PREUPLOAD,
        "preupload",
        {500: "out of order", 403: "may not write", 404: "status 404"},
    ),
    *statuses(
        "POST",
        BATCH,
        "batch",
        {503: "out of order", 403: "may not write there", 422: "cannot work"},
    ),
    *statuses(
        "PUT",
        UPLOAD,
        "upload",
        {503: "out of order", 400: "status 400", 403: "may not write there"},
    ),
    *statuses("POST", VERIFY, "verify", {500: "out of order", 400: "status 400"}),
    *statuses("POST", COMMIT, "commit", AFTER_DOWN),
    Case("token-401", "GET", INFO, {"status": 401}, "does not accept the token.*hf auth login"),
    Case("payment-402", "POST", COMMIT, {"status": 402}, "asks for payment"),
    Case(
        "commit-403",
        *("POST", COMMIT, {"status": 403, "message": "no rights"}),
        r"your token may not write there \(no rights\)\. Use a token with the write right",
    ),
    Case("conflict-409", "POST", COMMIT, {"status": 409}, "somebody else changes it.*try again"),
    Case("conflict-412", "POST", COMMIT, {"status": 412}, "somebody committed.*try again"),
    Case("large-413", "POST", COMMIT, {"status": 413}, "no request of this size.*shards"),
    Case("refused-422", "POST", COMMIT, {"status": 422, "message": "odd"}, r"cannot work.*\(odd\)"),
    Case(
        "limit-429",
        *("POST", COMMIT, {"status": 429, "headers": {"Retry-After": "1800"}}),
        "fewer requests; wait 1800 seconds",
    ),
    Case("bad-400", "POST", COMMIT, {"status": 400, "message": "no"}, r"status 400 \(no\)"),
    Case("commit-reset", "POST", COMMIT, {"reset": True}, "broke off"),
    Case("preupload-no-json", "POST", PREUPLOAD, NOT_JSON, "something no Hub says"),
    Case("preupload-empty", "POST", PREUPLOAD, json_body({"files": []}), "something no Hub says"),
    Case("batch-no-json", "POST", BATCH, NOT_JSON, "something no Hub says"),
    Case("batch-no-objects", "POST", BATCH, json_body({}), "something no Hub says"),
    Case(
        "batch-refused",
        *("POST", BATCH),
        json_body(
            {"objects": [{"oid": "a", "size": 1, "error": {"code": 422, "message": "full"}}]}
        ),
        r"refuses a large file \(file with OID a: full\); check your storage",
    ),
    Case("upload-reset", "PUT", UPLOAD, {"reset": True}, "broke off"),
    Case(
        "yaml-400",
        *("POST", YAML),
        {"status": 400, "body": b'{"errors": [{"message": "bad license"}], "warnings": []}'},
        r"refuses the header of README\.md \(bad license\)",
    ),
    Case("card-unread", "HEAD", "/README.md", {"status": 503}, "out of order"),
]


@cases(*PUSHES)
def test_a_failed_push_says_why_and_changes_nothing(hub, changed, case):
    if case.path == YAML:
        (changed / "README.md").write_text("---\nlicense: none such\n---\n")
    if case.path == "/README.md":
        (changed / "README.md").write_text("---\nlicense: mit\n---\nOther words\n")
    before, refs = hub.files(REPO, "dataset"), dict(hub.repo(REPO, "dataset").refs)
    case.order(hub)
    with pytest.raises(HubError, match=case.says) as error:
        push(changed)
    check_message(error.value)
    assert hub.files(REPO, "dataset") == before
    assert hub.repo(REPO, "dataset").refs == refs
    # the same call does it, when all is well again
    hub.faults.clear()
    if case.path != YAML:
        push(changed)
        assert hub.files(REPO, "dataset") == {**contents_of(changed), "theirs.txt": b"x"}
        assert len(hub.repo(REPO, "dataset").log()) == 3


@cases(
    *statuses("GET", INFO, "info", PASSING),
    *statuses("GET", TREE, "tree", PASSING),
    *statuses("POST", PREUPLOAD, "preupload", PASSING),
    *statuses("POST", BATCH, "batch", PASSING),
    *statuses("PUT", UPLOAD, "upload", {502: "", 504: ""}),
    *statuses("POST", VERIFY, "verify", dict.fromkeys((500, 503), "")),
    *statuses("POST", COMMIT, "commit", {502: "", 504: ""}),
    Case("commit-reset", "POST", COMMIT, {"reset": True}),
    Case("upload-reset", "PUT", UPLOAD, {"reset": True}),
    Case("info-reset", "GET", INFO, {"reset": True}),
    Case("commit-lost", "POST", COMMIT, {"edit": lambda reply: Reply(504)}),
    Case("commit-cut", "POST", COMMIT, {"cut": 5}),
)
def test_what_passes_by_itself_stops_no_push_and_makes_one_commit(hub, changed, case):
    case.order(hub, times=1)
    pushed = push(changed)
    assert hub.files(REPO, "dataset") == {**contents_of(changed), "theirs.txt": b"x"}
    log = hub.repo(REPO, "dataset").log()
    assert len(log) == 3
    assert pushed.commit == log[0].sha


def test_a_commit_whose_answer_was_lost_is_not_taken_for_somebody_elses(hub, changed):
    theirs = {"theirs.txt": b"newer"}
    hub.fault("POST", COMMIT, status=503, times=1, before=lambda: hub.put(REPO, theirs, "dataset"))
    with pytest.raises(HubError, match=r"the branch has moved on.*push again"):
        push_folder(changed, REPO, repo_type="dataset")
    assert hub.files(REPO, "dataset")["theirs.txt"] == b"newer"
    assert hub.files(REPO, "dataset")["tracks.parquet"] == SONGS["tracks.parquet"]


def test_a_pull_request_is_not_opened_twice(hub, changed):
    hub.fault("POST", COMMIT, edit=lambda reply: Reply(504))
    with pytest.raises(HubError, match="out of order"):
        push(changed, create_pr=True)
    assert hub.repo(REPO, "dataset").pull_requests == 1


@cases(
    Case("create-403", "POST", CREATE, {"status": 403, "message": "no"}, r"may not write.*\(no\)"),
    Case("create-402", "POST", CREATE, {"status": 402}, "asks for payment"),
    Case("create-500", "POST", CREATE, {"status": 500}, "out of order"),
    Case("create-no-json", "POST", CREATE, NOT_JSON, "something no Hub says"),
    Case("upload-503", "PUT", UPLOAD, {"status": 503}, "out of order"),
    Case("commit-403", "POST", COMMIT, {"status": 403}, "may not write there"),
)
def test_a_new_repo_holds_all_or_nothing(hub, tmp_path, case):
    folder = make_folder(tmp_path / "songs")
    case.order(hub)
    with pytest.raises(HubError, match=case.says) as error:
        push(folder)
    check_message(error.value)
    assert all(hub.files(id, kind) == {} for kind, id in hub.repos)
    hub.faults.clear()
    push(folder)
    assert hub.files(REPO, "dataset") == contents_of(folder)


def test_a_branch_that_cannot_be_made_stops_the_push(hub, changed):
    hub.fault("POST", "/branch/", status=403, message="no")
    with pytest.raises(HubError, match="may not write there"):
        push(changed, revision="dev")
    assert set(hub.repo(REPO, "dataset").refs) == {"main"}


def test_a_name_without_an_owner_takes_a_token_that_works(hub, tmp_path):
    hub.fault("GET", WHOAMI, status=401)
    with pytest.raises(HubError, match=r"repo songs: .*hf auth login"):
        push_folder(make_folder(tmp_path / "songs"), "songs", repo_type="dataset")
    assert not hub.repos


def test_an_edited_card_stays_even_if_the_rest_cannot_be_pushed(hub, changed):
    hub.put(REPO, {"README.md": EDITED}, "dataset")
    hub.fault("POST", COMMIT, status=500)
    with pytest.raises(HubError):
        push(changed)
    hub.faults.clear()
    assert push(changed).kept_card
    assert hub.files(REPO, "dataset")["README.md"] == EDITED.encode()


def test_where_the_hub_is_down_a_push_says_so_at_once(hub, changed):
    with hub.down(), pytest.raises(HubError, match=r"cannot reach .*check your connection"):
        push(changed)
    assert hub.waits == []


@pytest.mark.parametrize("moment", [PREUPLOAD, TREE])
def test_a_file_that_vanishes_while_it_is_pushed_is_told(hub, changed, moment):
    (changed / "tracks.parquet").write_bytes(b"of another length")
    make_folder(changed, {})
    hub.fault("*", moment, before=(changed / "tracks.parquet").unlink)
    with pytest.raises(HubError, match=r"No such file.*tracks"):
        push(changed)
    assert hub.files(REPO, "dataset")["tracks.parquet"] == SONGS["tracks.parquet"]


# messages alone


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(errno.EACCES, os.strerror(errno.EACCES), "/cache"),
            r"denied \(/cache\); check that it can",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache"), r"full \(/cache\); make room"),
        (httpx2.ProxyError("no entry"), r"the proxy refuses \(no entry\); check HTTPS_PROXY"),
        (httpx2.ReadTimeout(""), "does not answer in time"),
        (httpx2.ConnectError("[Errno -2] Name unknown"), r"cannot reach .*Name unknown"),
        (ValueError("Provided path: 'a' is not a file"), "changed while it was pushed"),
        (KeyError("url"), "something no Hub says"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_other_failures_have_a_line_too(error, says):
    text = explain(error, Target(REPO, "dataset"))
    check_message(HubError(text))
    with pytest.raises(HubError, match=says):
        raise HubError(text)
