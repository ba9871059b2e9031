"""What the Hub's clients read when they are imported, so that tests never meet the real Hub,
nor the cache and the token of the user."""

import atexit
import shutil
import socket
import tempfile

# bound and not listening: no other process gets the port, and connections to it are refused
_reserved = socket.socket()
_reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
_reserved.bind(("127.0.0.1", 0))
atexit.register(_reserved.close)
HUB_PORT: int = _reserved.getsockname()[1]

_home = tempfile.mkdtemp(prefix="talkplay-hf-home-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)

ENVIRONMENT = {
    "HF_ENDPOINT": f"http://127.0.0.1:{HUB_PORT}",
    "HF_HOME": _home,
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "HF_TOKEN": "hf_me",
}
