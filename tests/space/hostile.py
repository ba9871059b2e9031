"""Drive the page in a real browser with 100 hostile texts as messages, replies, titles, artists,
albums and tags: none becomes a tag, runs, or asks another server.

The model folder may have no `manifest.json`: its catalogue is changed. Needs Playwright and a
Chromium.

    python tests/space/hostile.py write demo/model hostile_model
    talkplay serve hostile_model &
    python tests/space/hostile.py drive http://127.0.0.1:7860 hostile_model shots
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hostile_texts import XSS

if TYPE_CHECKING:
    from drive import Drive

# turns that a conversation may have
MOST = 50
# what the page draws itself; anything else came from a text
LIVE = """() => {
  const own = new Set(['ARTICLE', 'DIV', 'P', 'BUTTON', 'SPAN', 'svg', 'path', 'g', 'rect',
    'circle', 'UL', 'OL', 'LI', 'SMALL', 'H2', 'H3', 'H4', 'CODE', 'BDI', 'SECTION', 'LABEL',
    'SELECT', 'OPTION', 'AUDIO']);
  const all = [...document.querySelectorAll('#tp-feed *, #tp-playlist *, #tp-why *')];
  return all.filter((x) => !own.has(x.tagName)
    || [...x.attributes].some((y) => /^on/i.test(y.name) || /^javascript:/i.test(y.value)))
    .map((x) => x.outerHTML.slice(0, 120));
}"""


def write(model: Path, out: Path) -> None:
    """A copy of a model whose catalogue has the hostile texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.copytree(model, out)
    (out / "manifest.json").unlink(missing_ok=True)
    table = pq.read_table(out / "catalog.parquet")
    texts = [XSS[row % len(XSS)] for row in range(table.num_rows)]
    for name in ("title", "artist", "album", "tags"):
        place = table.column_names.index(name)
        values = [[text] for text in texts] if name == "tags" else texts
        table = table.set_column(place, name, pa.array(values, table.schema.field(name).type))
    pq.write_table(table, out / "catalog.parquet")
    ids = table.column("track_id").to_pylist()
    for start in range(0, len(XSS), MOST):
        turns = [
            {"text": XSS[n], "reply": XSS[n], "tracks": [ids[n]], "reaction": "like"}
            for n in range(start, start + MOST)
        ]
        talk = {"format": "talkplay-conversation", "version": 1, "turns": turns}
        (out / f"hostile-{start}.json").write_text(json.dumps(talk), encoding="utf-8")


def drive(url: str, model: Path, out: Path, chromium: str) -> list[str]:
    """Load the conversations, press what draws the texts again; gives what went wrong."""
    from browser import ARGS, listen
    from drive import Drive
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        bad = listen(page, url)
        page.goto(url)
        visit = Drive(page, out, "hostile", None)
        visit.ready()

        try:
            _press(visit, model, bad)
        except Exception as error:
            bad.append(f"stuck: {str(error)[:300]}")
        browser.close()
    return [*dict.fromkeys(bad), *visit.failures]


def _press(visit: "Drive", model: Path, bad: list[str]) -> None:
    page = visit.page

    def look(what: str) -> None:
        bad.extend(f"{what}: live {one}" for one in page.evaluate(LIVE))
        visit.shot(f"hostile-{what}")

    for number, text in enumerate(XSS[:: len(XSS) // 5], start=1):
        visit.say(text, number)
    look("typed")
    for file in sorted(model.glob("hostile-*.json")):
        # with an empty panel, so that what is awaited below is of this conversation
        visit.press('[data-act="new"]')
        page.wait_for_selector("#tp-why .tp-empty")
        page.locator('[data-act="share"]').click()
        page.set_input_files("#tp-file", file)
        visit.settled(MOST)
        page.wait_for_selector(".tp-code", timeout=60_000)
        visit.check(visit.count(".tp-row") == MOST, "the playlist lacks tracks")
        look(file.stem)
        shown = page.inner_text("#tp-feed")
        visit.check("alert(1)" in shown, "the texts are not shown")
        visit.press(".tp-code >> nth=1")
        visit.press('[data-act="swap"]:visible')
        page.wait_for_selector(".tp-swapped")
        look(f"{file.stem}-swapped")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    acts = parser.add_subparsers(dest="act", required=True)
    writes, drives = acts.add_parser("write"), acts.add_parser("drive")
    writes.add_argument("model", type=Path)
    writes.add_argument("out", type=Path)
    drives.add_argument("url")
    drives.add_argument("model", type=Path)
    drives.add_argument("out", type=Path)
    drives.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    if args.act == "write":
        write(args.model, args.out)
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    bad = drive(args.url, args.model, args.out, args.chromium)
    print("\n".join(bad) or f"{len(XSS)} hostile texts stayed texts")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
