"""The browser that drives the page, and what it complains of. Needs Playwright and a Chromium."""

from urllib.parse import urlparse

from playwright.sync_api import Page

CHROMIUM = "/usr/bin/chromium"
ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def listen(page: Page, url: str) -> list[str]:
    """A list that grows with errors, scripts of a stranger, and requests to another server."""
    noise: list[str] = []
    own = urlparse(url).hostname
    page.on("pageerror", lambda error: noise.append(f"error: {error}"))
    page.on(
        "console",
        lambda said: noise.append(f"console: {said.text}") if said.type == "error" else None,
    )
    page.on("dialog", lambda dialog: (noise.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on(
        "request",
        lambda asked: (
            noise.append(f"outside: {asked.url}")
            if urlparse(asked.url).scheme in ("http", "https")
            and urlparse(asked.url).hostname != own
            else None
        ),
    )
    return noise
