"""What goes wrong with the Hub, in one clear line; and which of it passes by itself."""

import contextlib
import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from talkplay_hf.errors import HubError, InputError, TalkPlayError, first_line

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, HfApi, ModelInfo, SpaceInfo
    from huggingface_hub.errors import HfHubHTTPError

T = TypeVar("T")
log = logging.getLogger(__name__)

TRIES = 3
LONGEST_WAIT = 60
_PASSING = (408, 429, 500, 502, 503, 504)
_BAD_HEADER = "Invalid metadata in README.md"
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class Target:
    """What a client was asked for, to name it in messages.

    Args:
        repo_id (`str`): As `owner/name`.
        repo_type (`str`): `"model"`, `"dataset"` or `"space"`.
        revision (`str`, *optional*): Branch, tag, SHA of a commit or `refs/pr/N`.
        push (`bool`): Whether something was to be written.
    """

    repo_id: str
    repo_type: str = "model"
    revision: str | None = None
    push: bool = False

    def __str__(self) -> str:
        return f"{self.repo_type} repo {self.repo_id}"

    @property
    def url(self) -> str:
        """Its page on the Hub."""
        from huggingface_hub import constants

        prefix = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        return f"{constants.ENDPOINT}/{prefix}{self.repo_id}"


def check_repo_id(repo_id: str) -> None:
    """Refuse a name that no repo can have, before any work is done.

    Raises:
        InputError: If it is neither `name` nor `owner/name` in the letters that the Hub allows.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(
            f"{repo_id!r:.120}: not the name of a Hub repo ({first_line(error).rstrip('.')}); give "
            "it as owner/name"
        ) from None


@contextlib.contextmanager
def explained(target: Target) -> Iterator[None]:
    """Turn whatever the clients of the Hub raise inside the block into a `HubError`.

    Only calls of the clients, and reading and removing files, belong in the block.

    Raises:
        HubError: One line that names the repo and says what to do.
    """
    try:
        yield
    except TalkPlayError:
        raise
    except Exception as error:
        raise HubError(explain(error, target)) from error


def explain(error: BaseException, target: Target) -> str:
    """Say in one line what went wrong with a repo, and what to do.

    Args:
        error (`BaseException`): What a client of the Hub raised.
        target (`Target`): What it was asked for.
    """
    from huggingface_hub.errors import HfHubHTTPError

    error = _root(error)
    what = _refusal(error, target) if isinstance(error, HfHubHTTPError) else _failure(error)
    return f"{target}: {what}"


def _root(error: BaseException) -> BaseException:
    """The error that says most: clients wrap it in others that speak of what came after it."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        IncompleteSnapshotError,
        LocalEntryNotFoundError,
    )

    while not isinstance(error, HfHubHTTPError):
        wraps = isinstance(error, (LocalEntryNotFoundError, RuntimeError)) or (
            type(error) is ValueError and _BAD_HEADER not in str(error)
        )
        if isinstance(error, IncompleteSnapshotError) or not wraps or error.__cause__ is None:
            break
        error = error.__cause__
    return error


def _refusal(error: "HfHubHTTPError", target: Target) -> str:
    """For an answer of the Hub with a status of 400 or more."""
    from huggingface_hub import errors

    status = error.response.status_code
    said = _said(error)
    if isinstance(error, errors.GatedRepoError):
        return f"is gated. Open {target.url}, ask for access, and {_LOGIN}"
    if isinstance(error, errors.DisabledRepoError):
        return f"was disabled by the Hub; see {target.url}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no revision {target.revision or 'main'}; see the branches at {target.url}"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        name = re.search(r"/resolve/[^/]+/([^?\s]+)", str(error.response.url))
        return f"lacks the file {name[1] if name else said}; see {target.url}"
    if isinstance(error, errors.RepositoryNotFoundError):
        here = "" if target.push else ", and no folder of this name is here"
        return (
            f"is not on {target.url.removesuffix(target.repo_id)}, or it is private{here}. Check "
            f"its name and type; to see private repos, {_LOGIN}"
        )
    right = "write" if target.push else "read"
    told = {
        401: f"the Hub does not accept the token ({said}); {_LOGIN}",
        402: f"the Hub asks for payment ({said}); see https://huggingface.co/settings/billing",
        403: f"your token may not {right} there ({said}). Use a token with the {right} right"
        + (", or open a pull request" if target.push else ""),
        409: f"somebody else changes it at this moment ({said}); nothing was written, try again",
        412: "somebody committed to it meanwhile; nothing was written. Look at what changed at "
        f"{target.url}/commits/{target.revision or 'main'}, then try again",
        413: f"the Hub takes no request of this size ({said}); write smaller files, in shards",
        422: f"the Hub cannot work with the request ({said}); check file names and README.md",
        429: f"the Hub asks for fewer requests; wait {_wait(error) or 'some'} seconds and try "
        "again (it allows more to those who `hf auth login`)",
    }
    if status in told:
        return told[status]
    if status >= 500:
        return (
            f"the Hub is out of order (status {status}); try again later, and see "
            "https://status.huggingface.co"
        )
    return f"the Hub refuses with status {status} ({said}); check the request and your rights"


def _failure(error: BaseException) -> str:
    """For anything but an answer with a status of 400 or more."""
    import httpx2
    from huggingface_hub import constants, errors

    where = constants.ENDPOINT
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set and the cache does not hold it; unset it to go online"
    if isinstance(error, errors.IncompleteSnapshotError):
        return "the cache holds only a part of it; go online to fetch the rest"
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.RevisionResolutionError)):
        return (
            "no folder of this name is here, and the cache does not hold it; go online (without "
            "local_files_only) to fetch it"
        )
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"needs a token; {_LOGIN}"
    if isinstance(error, httpx2.TimeoutException):
        return f"{where} does not answer in time; check your connection and try again"
    if isinstance(error, httpx2.ProxyError):
        return f"the proxy refuses ({first_line(error)}); check HTTPS_PROXY"
    if isinstance(error, httpx2.TooManyRedirects):
        return f"{where} sends us in circles; check that HF_ENDPOINT names a Hub"
    if isinstance(error, httpx2.ConnectError):
        return (
            f"cannot reach {where} ({first_line(error)}); check your connection, or name a local "
            "folder"
        )
    if isinstance(error, httpx2.HTTPError):
        return f"the connection to {where} broke off ({first_line(error)}); try again"
    if isinstance(error, errors.FileMetadataError):
        return f"{where} does not answer as a Hub does; check HF_ENDPOINT and your proxy"
    text = first_line(error).rstrip(".")
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk is full ({_place(error)}); make room, or set HF_HOME to another disk"
        if error.errno is not None:
            return f"{error.strerror} ({_place(error)}); check that it can be read and written"
        if "Consistency check" in text:
            return "a file came with another length than it has on the Hub; try again"
        return f"{text}; try again"
    if _BAD_HEADER in text:
        lines = str(error).strip().splitlines()[1:]
        said = "; ".join(line.strip("- ") for line in lines if line.strip("- "))
        return f"the Hub refuses the header of README.md ({said}); correct it and push again"
    if text.startswith("Provided path"):
        return f"the folder changed while it was pushed ({text}); push again"
    if "LFS batch API returned errors" in text:
        said = str(error).splitlines()[-1].replace("`", "").removeprefix("Encountered error for ")
        return f"the Hub refuses a large file ({said}); check your storage at {where}/settings"
    if "pointer path" in text or "filename" in text or "path_in_repo" in text:
        return f"holds a file whose name leads out of the folder ({text}); do not use it"
    kind = type(error).__name__
    return f"{where} answers with something no Hub says ({kind}: {text}); check HF_ENDPOINT"


def _said(error: "HfHubHTTPError") -> str:
    said = (error.server_message or "").strip() or f"status {error.response.status_code}"
    return said.splitlines()[0].rstrip(".")[:200]


def _wait(error: "HfHubHTTPError") -> int | None:
    """The seconds that the Hub asks to wait, where it says so."""
    after = error.response.headers.get("Retry-After", "")
    reset = re.search(r"t\s*=\s*(\d+)", error.response.headers.get("RateLimit", ""))
    return int(after) if after.isdigit() else int(reset[1]) if reset else None


def _place(error: OSError) -> str:
    from huggingface_hub import constants

    return str(error.filename or constants.HF_HUB_CACHE)


def look(
    api: "HfApi", target: Target, revision: str | None = None
) -> "ModelInfo | DatasetInfo | SpaceInfo":
    """Ask the Hub for a repo and the commit of a revision, without waiting long for an answer."""
    from huggingface_hub import constants

    timeout = constants.HF_HUB_ETAG_TIMEOUT
    if target.repo_type == "space":
        return retried(lambda: api.space_info(target.repo_id, revision=revision, timeout=timeout))
    ask = api.model_info if target.repo_type == "model" else api.dataset_info
    return retried(lambda: ask(target.repo_id, revision=revision, timeout=timeout))


def passing(error: BaseException) -> bool:
    """Whether an error of a client tells of an outage, so that a later try may do."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    error = _root(error)
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING
    return isinstance(error, httpx2.TransportError) or "Consistency check" in str(error)


def retried(call: Callable[[], T]) -> T:
    """Call a client again where the Hub was busy, out of order, or hung up.

    Where no connection can be made, or the Hub is silent, the answer comes at once: there is a
    cache to look into.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    for tries in range(1, TRIES):
        try:
            return call()
        except Exception as error:
            root = _root(error)
            asked = _wait(root) if isinstance(root, HfHubHTTPError) else None
            wait = tries if asked is None else asked
            silent = isinstance(root, (httpx2.ConnectError, httpx2.TimeoutException))
            if silent or wait > LONGEST_WAIT or not passing(root):
                raise
            log.warning("The Hub: %s; next try in %s s", first_line(root), wait)
            time.sleep(wait)
    return call()
