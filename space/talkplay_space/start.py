"""Starting: where the model comes from, where the page listens, and what stops it."""

import atexit
import json
import os
import shutil
import sys
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr

    from talkplay_space.offers import Served

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read by gradio when it is imported

# nothing of talkplay_hf is imported here: in a Space it comes with the page, as a wheel

SPACE = Path(__file__).resolve().parents[1]
DATASETS = "datasets/"
HOST, PORT = "127.0.0.1", 7860
# gradio keeps about 150 kB for each visitor, gone or not: those who came last are kept; a page that
# was forgotten tells its conversation anew
SESSIONS = 150
# conversations whose cache of the model is kept between their turns
REMEMBERED = 16


def from_environment(folder: Path = SPACE) -> None:
    """Start as a Space does, or `python app.py`: what to serve is told by the environment variables
    `TALKPLAY_MODEL`, `TALKPLAY_CATALOG` and `TALKPLAY_AUDIO`, each with one name or several between
    spaces, else by the `manifest.json` of the Space, else it is the folder `model` beside the page.

    Args:
        folder (`Path`): The folder of the Space.
    """
    unpack_wheel(folder)
    from talkplay_hf import TalkPlayError

    told = read_manifest(folder)

    def named(variable: str, key: str) -> list[Any]:
        names = os.environ.get(variable, "").split() or told.get(key) or []
        return [str(folder / one) if one and (folder / one).is_dir() else one for one in names]

    models = named("TALKPLAY_MODEL", "models") or [str(folder / "model")]
    if models == [str(folder / "model")] and not (folder / "model").is_dir():
        sys.exit(
            f"{folder / 'model'}: there is no model; put a model folder there, or name a folder or "
            "a Hub id in the variable TALKPLAY_MODEL"
        )
    try:
        launch(
            models,
            catalogs=named("TALKPLAY_CATALOG", "catalogs"),
            audio=named("TALKPLAY_AUDIO", "audio"),
            host="0.0.0.0" if "SPACE_ID" in os.environ else HOST,
            port=int(os.environ.get("GRADIO_SERVER_PORT") or PORT),
            mcp=find_spec("mcp") is not None,
            title=str(told.get("title") or "TalkPlay"),
        )
    except TalkPlayError as error:
        sys.exit(str(error))


def launch(models: Sequence[str], *, host: str = HOST, port: int = PORT, **options: Any) -> None:
    """Load models, print the page's address and serve until interrupted.

    Takes and raises what `serve` does.
    """
    app = serve(models, host=host, port=port, **options)
    print(f"TalkPlay is ready: http://{host}:{port}", flush=True)
    app.block_thread()


def serve(
    models: Sequence[str],
    *,
    catalogs: Sequence[str] = (),
    audio: Sequence[str | None] = (),
    host: str = HOST,
    port: int = PORT,
    open_browser: bool = False,
    mcp: bool = False,
    title: str = "TalkPlay",
) -> "gr.Blocks":
    """Load models and serve the page, without waiting.

    Args:
        models (`Sequence[str]`): Folders or Hub repositories of models, the default first; each
            with its own catalogue.
        catalogs (`Sequence[str]`): Other catalogues: tokenizer or model folders, or Hub ids of
            such. Each is offered with the models that have its codebooks.
        audio (`Sequence[str]`): Where the clips are, for each model and then each catalogue: a
            catalog folder, or `datasets/owner/name`, a repository with audio. For what is left out
            it is the folder `catalog` beside it, else the folder itself.
        host (`str`): Address to listen on.
        port (`int`): Port to listen on.
        open_browser (`bool`): Open the page in a browser.
        mcp (`bool`): Serve the endpoint as a tool for MCP clients too.
        title (`str`): The heading of the page.

    Returns:
        `gr.Blocks`: The page that listens; `close()` ends it.

    Raises:
        TalkPlayError: If a model cannot be loaded, a catalogue goes with none of them, clips are
            missing, the port is taken, or the package of MCP is absent.
    """
    from talkplay_hf import TalkPlayError
    from talkplay_space.zero_gpu import patch_torch

    if mcp and find_spec("mcp") is None:
        raise TalkPlayError("an MCP endpoint needs an extra: pip install 'talkplay-hf[mcp]'")
    patch_torch()
    from talkplay_space.api import answer_in_json
    from talkplay_space.layout import build_page, launch_options
    from talkplay_space.offers import Offers

    offers = Offers(load_all(models, catalogs, audio))
    app = build_page(offers, title=title)
    try:
        app.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            mcp_server=mcp,
            prevent_thread_lock=True,
            state_session_capacity=SESSIONS,
            **launch_options(offers, title=title),
        )
    except OSError as error:
        raise TalkPlayError(
            f"cannot listen on {host}:{port}: the port is taken or may not be used; "
            "choose another one with --port"
        ) from error
    answer_in_json(app)
    threading.Thread(target=offers.warm, daemon=True).start()
    return app


def load_all(
    models: Sequence[str], catalogs: Sequence[str] = (), audio: Sequence[str | None] = ()
) -> list["Served"]:
    """Each model with its own catalogue and with the others that have its codebooks; its weights
    are in memory once.

    Takes and raises what `serve` does.
    """
    from talkplay_hf import TalkPlayError
    from talkplay_space.offers import Served, distinct_names
    from talkplay_space.zero_gpu import on_zero_gpu

    places = [*models, *catalogs]
    if len(audio) > len(places):
        raise TalkPlayError(
            f"{audio[len(places)]}: there are more places of clips than models and catalogues"
        )
    # before the weights, which take long to load
    told = [*audio, *[None] * (len(places) - len(audio))]
    roots = [clips_folder(one, place) for one, place in zip(told, places, strict=True)]
    names = distinct_names(places)
    loaded = [load(model) for model in models]
    offered = [[Served(names[m], names[m], one, roots[m])] for m, one in enumerate(loaded)]
    for number, catalog in enumerate(catalogs, start=len(models)):
        reasons = []
        for m, recommender in enumerate(loaded):
            try:
                other = recommender.with_catalog(catalog)
            except TalkPlayError as error:
                reasons.append(str(error))
            else:
                offered[m].append(Served(names[m], names[number], other, roots[number]))
        if len(reasons) == len(loaded):
            raise TalkPlayError(f"the catalogue {catalog} goes with no model here: {reasons[0]}")
    return [
        replace(one, recommender=on_zero_gpu(one.recommender)) for some in offered for one in some
    ]


def load(model: str) -> Any:
    """The recommender of a model folder or Hub repository.

    Raises:
        TalkPlayError: If it cannot be loaded.
    """
    from talkplay_hf import Recommender, TalkPlayError
    from talkplay_hf.errors import first_line

    try:
        # as many conversations at once stay quick to go on with
        return Recommender.from_pretrained(model, remember=REMEMBERED)
    except TalkPlayError:
        raise
    except (OSError, ValueError) as error:
        raise TalkPlayError(f"cannot load the model {model!r}: {first_line(error)}") from error


def clips_folder(audio: str | None, place: str) -> Path | None:
    """The folder that the tracks' audio paths start from; `None` where there is none.

    A catalog repository is fetched with its audio into a folder that lasts as long as the process.

    Args:
        audio (`str`, *optional*): What was said of it, see `serve`.
        place (`str`): The model or the catalogue.

    Raises:
        TalkPlayError: If the folder is missing, or the repository cannot be had.
    """
    from talkplay_hf import TalkPlayError, pull

    if audio is None:
        beside = Path(place).parent / "catalog"
        if (beside / "manifest.json").is_file():
            return beside
        return Path(place) if Path(place).is_dir() else None
    if Path(audio).is_dir():
        return Path(audio)
    if not audio.startswith(DATASETS):
        raise TalkPlayError(f"{audio}: there is no such folder of clips")
    aside = _aside("talkplay-clips-")
    return Path(pull(audio, aside / "catalog", audio=True))


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the `manifest.json` of a Space says; empty where there is none."""
    try:
        told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) and told.get("kind") == "space" else {}


def unpack_wheel(folder: Path) -> None:
    """Make `talkplay_hf` importable from the wheel in the folder, where it is not installed.

    The build of a Space installs what requirements.txt names before the files of the Space are
    there, so a wheel among them cannot be named in it.
    """
    found = find_spec("talkplay_hf")
    if found is not None and found.origin is not None:
        return
    wheels = sorted(folder.glob("talkplay_hf-*.whl"))
    if not wheels:
        sys.exit("talkplay_hf is not installed: pip install talkplay-hf")
    packages = _aside("talkplay-packages-")
    with zipfile.ZipFile(wheels[-1]) as wheel:
        wheel.extractall(packages)
    sys.path.insert(0, str(packages))


def _aside(prefix: str) -> Path:
    """A folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
