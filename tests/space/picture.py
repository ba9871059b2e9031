"""Take the picture of the page that the README shows. Needs Playwright and a Chromium.

talkplay serve demo/model --audio demo/catalog &
python tests/space/picture.py http://127.0.0.1:7860 recipes/figures/page.png
"""

import argparse
from pathlib import Path

from browser import ARGS, CHROMIUM
from drive import Drive
from playwright.sync_api import sync_playwright

REQUESTS = ("Play some jazz from the 1990s", "something slower please")
# what a README may weigh
MOST = 300_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("out", type=Path)
    parser.add_argument("--chromium", default=CHROMIUM)
    parser.add_argument("--scheme", default="light", choices=("light", "dark"))
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=ARGS)
        page = browser.new_page(viewport={"width": 1180, "height": 800}, color_scheme=args.scheme)
        page.goto(args.url)
        drive = Drive(page, args.out.parent, args.out.stem, None)
        drive.ready()
        for turn, request in enumerate(REQUESTS, start=1):
            drive.say(request, turn)
            drive.press(f'[data-turn="{turn - 1}"][data-act="react"][data-reaction="like"]')
        page.evaluate("document.activeElement.blur()")
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        page.screenshot(path=args.out)
        browser.close()
    size = args.out.stat().st_size
    if size > MOST:
        raise SystemExit(f"{args.out}: {size:,} bytes, more than {MOST:,}")
    print(f"{args.out}: {size:,} bytes")


if __name__ == "__main__":
    main()
