"""What is seen until gradio's script has drawn the page: gradio's own HTML shows nothing."""

from typing import TYPE_CHECKING

from talkplay_space.html import text

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_APP = b"<gradio-app"
_PAINT = """<div id="tp-first"><style>
#tp-first { position: fixed; inset: 0; z-index: 1; display: grid; place-content: center;
  gap: 8px; text-align: center; font: 16px/1.5 system-ui, sans-serif; background: #f6f5fb;
  color: #1a1927; }
#tp-first > * { margin: 0; }
#tp-first h1 { font-size: 28px; }
@media (prefers-color-scheme: dark) { #tp-first { background: #101018; color: #eeedf6; } }
body:has(#tp-input) #tp-first { display: none; }
</style><h1 dir="auto">TITLE</h1><p>Loading …</p>
<noscript>This page needs JavaScript.</noscript></div>
"""


class FirstPaint:
    """ASGI middleware that puts the title of the page into its HTML, until there is the page.

    Args:
        app (`ASGIApp`): What answers.
        title (`str`): The heading of the page.
    """

    def __init__(self, app: "ASGIApp", title: str) -> None:
        self.app = app
        self._paint = _PAINT.replace("TITLE", text(title)).encode()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer as `app` does, with more in the HTML of `/`."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] not in ("", "/"):
            await self.app(scope, receive, send)
            return
        start: Message = {}
        body = b""

        async def held(message: "Message") -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                whole = body.replace(_APP, self._paint + _APP, 1)
                headers = [one for one in start["headers"] if one[0] != b"content-length"]
                headers.append((b"content-length", str(len(whole)).encode()))
                await send({**start, "headers": headers})
                await send({"type": "http.response.body", "body": whole})

        await self.app(scope, receive, held)
