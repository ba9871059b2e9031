"""Reads a page that was written: what is on it, and that nothing is fetched, run or left open."""

import re
from collections.abc import Collection
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "br", "img", "link", "input", "hr"}


class PageReader(HTMLParser):
    """Its elements, its text, what it would fetch, and whether tags are balanced."""

    def __init__(self, unread: Collection[str]) -> None:
        super().__init__()
        self.unread = set(unread)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.classes: list[str] = []
        self.links: list[str] = []
        self.alts: list[str] = []
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.marked: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = {name: value or "" for name, value in attributes}
        self.ids |= {values["id"]} if "id" in values else set()
        self.classes += values.get("class", "").split()
        if tag == "svg":
            self.alts.append(values.get("aria-label", ""))
        for name, value in values.items():
            if name == "href" and value.startswith("#"):
                self.links.append(value[1:])
            elif name in ("src", "srcset", "data", "action", "xlink:href", "href"):
                self.fetched.append(value)
            if name.startswith("on"):
                self.handlers.append(name)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "mark" in self.open:
            self.marked.append(data)
        if not self.unread & set(self.open):
            self.text += data


def read_page(path: Path, unread: Collection[str] = ("style",)) -> PageReader:
    """Read a page, without the text of some elements."""
    page = path.read_text(encoding="utf-8")
    reader = PageReader(unread)
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert reader.fetched == []
    assert reader.handlers == []
    assert not {"script", "img", "iframe", "link", "object", "image", "use"} & reader.tags
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|https?://", page.partition("<body>")[0])
    return reader
