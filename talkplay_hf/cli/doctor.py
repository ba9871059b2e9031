"""`talkplay doctor`: what is installed, what works on this machine, and what to do where not."""

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from talkplay_hf import __version__
from talkplay_hf.cli.show import emit
from talkplay_hf.errors import TalkPlayError, first_line

# what each extra brings, and what that is for
EXTRAS = {
    "eval": (("bm25s",), "BM25 as a baseline of `talkplay evaluate`"),
    "features": (
        ("gensim", "sentence-transformers"),
        "item2vec and sentence embeddings in `talkplay embed`",
    ),
    "audio": (
        ("librosa", "soundfile", "soxr", "tinytag"),
        "audio files of any format, their tags, tempo and key",
    ),
    "plots": (("matplotlib",), "pictures of codebooks and of loss curves"),
    "lora": (("peft",), "training with adapters (use_peft)"),
    "tracking": (("trackio", "tensorboard"), "figures of a training on trackio or TensorBoard"),
    "speed": (("numba",), "`WeightedLookup(..., compiled=True)`"),
    "synthesis": (
        ("datasketch", "gguf"),
        "near-duplicates in `talkplay report`, GGUF files as writers",
    ),
    "mcp": (("mcp",), "`talkplay serve --mcp`"),
}
# less is soon full: a small model and its world take about half of it
ROOM = 10**9
Packages = dict[str, str | None]
Extras = dict[str, Packages]
PATIENCE = 5.0
SIGNS = {"ok": "ok", "note": "note", "problem": "PROBLEM"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name (`str`): What was looked at.
        status (`str`): `"ok"`, `"note"` (works, and there is something to know) or `"problem"`.
        found (`str`): What was found.
        do (`str`, *optional*): What to do about it.
    """

    name: str
    status: str
    found: str
    do: str = ""

    def __str__(self) -> str:
        line = f"{SIGNS[self.status]:8}{self.name}: {self.found}"
        return f"{line}\n{'':8}-> {self.do}" if self.do else line


def run_doctor(args: argparse.Namespace) -> None:
    """Say what is installed and what is wrong.

    Raises:
        TalkPlayError: If something is wrong, after everything was said.
    """
    packages, extras = installed_packages()
    checks = [check for look in LOOKS for check in look(packages, extras)]
    problems = sum(check.status == "problem" for check in checks)
    facts = {
        "talkplay_hf": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": packages,
        "extras": extras,
        "checks": [asdict(check) for check in checks],
        "problems": problems,
    }
    head = f"talkplay_hf {__version__}, Python {facts['python']}, {facts['platform']}"
    emit(facts, "\n".join([head, *map(str, checks)]), args.json)
    if problems:
        raise TalkPlayError(
            f"{problems} problem{'s' if problems > 1 else ''} found; what to do stands beside each"
        )


def installed_packages() -> tuple[Packages, Extras]:
    """The versions of what the package needs, and of what each extra brings; `None` is absent."""
    from packaging.requirements import Requirement

    from talkplay_hf.hub.wheel import core_requirements

    core = {Requirement(line).name: None for line in core_requirements()}
    extras = {extra: _versions(names) for extra, (names, _) in EXTRAS.items()}
    return _versions(core), extras


def _versions(names: Iterable[str]) -> Packages:
    from importlib.metadata import PackageNotFoundError, version

    found: Packages = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _core(packages: Packages, extras: Extras) -> Iterator[Check]:
    from packaging.requirements import Requirement

    from talkplay_hf.hub.wheel import core_requirements

    good = []
    for line in core_requirements():
        need = Requirement(line)
        version = packages[need.name]
        wanted = f"{need.name}{need.specifier}"
        if version is None:
            yield Check(need.name, "problem", "is not installed", f"pip install '{wanted}'")
        elif not need.specifier.contains(version, prereleases=True):
            found = f"{version} is installed, {need.specifier} is needed"
            yield Check(need.name, "problem", found, f"pip install '{wanted}'")
        else:
            good.append(f"{need.name} {version}")
    if good:
        yield Check("packages", "ok", ", ".join(good))


def _extras(packages: Packages, extras: Extras) -> Iterator[Check]:
    for extra, found in extras.items():
        what = EXTRAS[extra][1]
        absent = [name for name, version in found.items() if version is None]
        if absent:
            told = f"no {', '.join(absent)}, which this takes: {what}"
            advice = f"only if you want it: pip install 'talkplay-hf[{extra}]'"
            yield Check(f"extra {extra}", "note", told, advice)
        else:
            told = ", ".join(f"{name} {version}" for name, version in found.items())
            yield Check(f"extra {extra}", "ok", f"{told}: {what}")


def _device(packages: Packages, extras: Extras) -> Iterator[Check]:
    if packages.get("torch") is None:
        return
    try:
        import torch
    except (ImportError, OSError) as error:
        advice = "install it again, in a new environment: pip install torch -c constraints.txt"
        yield Check("torch", "problem", f"does not load: {first_line(error)}", advice)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            bf16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16: --bf16 false"
            told = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, {bf16}"
            yield Check(f"GPU {number}", "ok", told)
    elif torch.backends.mps.is_available():
        yield Check("GPU", "ok", "Apple (mps)")
    elif shutil.which("nvidia-smi"):
        why = (
            "a build for the CPU"
            if torch.version.cuda is None
            else f"for CUDA {torch.version.cuda}"
        )
        yield Check(
            "GPU",
            "problem",
            f"there is one that torch does not see; torch {torch.__version__} is {why}",
            "install a build of torch that fits the driver (see nvidia-smi), or go on on the CPU "
            "with CUDA_VISIBLE_DEVICES= and accept the time",
        )
    else:
        yield Check("GPU", "ok", "none; models run on the CPU, which is enough for the quickstart")
    threads = torch.get_num_threads()
    told = f"{threads} of torch on {cores} usable cores"
    if cores and threads > cores:
        yield Check("threads", "note", told, f"more threads wait: export OMP_NUM_THREADS={cores}")
    else:
        yield Check("threads", "ok", told)


def _hub(packages: Packages, extras: Extras) -> Iterator[Check]:
    if packages.get("huggingface-hub") is None:
        return
    from huggingface_hub import HfApi, constants, get_session, get_token
    from huggingface_hub.errors import HfHubHTTPError

    token = get_token()
    if constants.HF_HUB_OFFLINE:
        yield Check(
            "Hub",
            "note",
            "offline by HF_HUB_OFFLINE: only what is in the cache can be loaded",
            "unset HF_HUB_OFFLINE to fetch or push",
        )
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # of the client of the day, which has changed before
        yield Check(
            "Hub",
            "note",
            f"{constants.ENDPOINT} cannot be reached ({first_line(error)}); "
            "what is on this machine works",
            "check the network and HTTPS_PROXY, or set HF_HUB_OFFLINE=1 so that nothing waits",
        )
        return
    yield Check("Hub", "ok", f"{constants.ENDPOINT} answers; git and git-lfs are not needed")
    if token is None:
        yield Check(
            "Hub token",
            "note",
            "none; public repos can be pulled",
            "to push, or for gated models: hf auth login, or set HF_TOKEN",
        )
        return
    try:
        name = HfApi().whoami(token=token)["name"]
    except HfHubHTTPError as error:
        yield Check(
            "Hub token",
            "problem",
            f"there is one, and the Hub refuses it ({error.response.status_code})",
            "make a new one in the settings of your account, then hf auth login",
        )
    except Exception as error:
        yield Check("Hub token", "note", f"there is one; not checked: {first_line(error)}")
    else:
        yield Check("Hub token", "ok", f"there is one, of {name}")


def _places(packages: Packages, extras: Extras) -> Iterator[Check]:
    from tempfile import gettempdir

    places = {"working folder": Path.cwd(), "temporary files": Path(gettempdir())}
    if packages.get("huggingface-hub") is not None:
        from huggingface_hub import constants

        places["Hub cache (HF_HOME)"] = Path(constants.HF_HUB_CACHE)
    for name, place in places.items():
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        told = f"{place}, {free / 10**9:,.1f} GB free"
        if not os.access(there, os.W_OK | os.X_OK):
            advice = "give yourself the right to write there, or name another folder"
            yield Check(name, "problem", f"{told}; cannot be written to", advice)
        elif free < ROOM:
            yield Check(name, "problem", f"{told} is too little", "make room, or name another disk")
        else:
            yield Check(name, "ok", told)


def _terminal(packages: Packages, extras: Extras) -> Iterator[Check]:
    encoding = sys.stdout.encoding or "none"
    if encoding.lower().replace("-", "") != "utf8":
        told = f"output is in {encoding}: titles in other scripts are shown as \\u…"
        yield Check("terminal", "note", told, "export PYTHONUTF8=1")


LOOKS: tuple[Callable[[Packages, Extras], Iterator[Check]], ...] = (
    _core, _extras, _device, _hub, _places, _terminal,
)  # fmt: skip
