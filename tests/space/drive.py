"""Drive the page in a real browser: a visit with all that can be pressed, screenshots, and axe.

Needs Playwright and a Chromium; not collected by pytest.

    python tests/space/drive.py http://127.0.0.1:7860 shots --axe axe.min.js
"""

import argparse
import json
import sys
from pathlib import Path

from browser import ARGS, CHROMIUM, listen
from playwright.sync_api import Page, sync_playwright

HARD = ["RTL: شغّل شيئًا هادئًا من فضلك", "Emoji 🎧🎶👩🏽‍🎤 <b>bold</b> & ${1+1} {{7*7}}", "x" * 180]


# as many visitors as the server keeps, each with one quick act
FLOOD = """async () => {
  const config = await (await fetch('config')).json();
  const parts = Object.fromEntries(config.components.map((x) => [x.id, x.props]));
  const act = config.dependencies.find((x) => x.targets.some((y) => y[1] === 'act'));
  const data = act.inputs.map((x) => parts[x].value ?? null);
  for (let n = 0; n < 270; n++) {
    const session = Math.random().toString(36).slice(2);
    const body = JSON.stringify({ data, event_data: { act: 'link', n: 1 }, fn_index: act.id,
      trigger_id: act.targets[0][0], session_hash: session });
    await fetch('gradio_api/queue/join', { method: 'POST', body,
      headers: { 'Content-Type': 'application/json' } });
  }
}"""


class Drive:
    """One visit at one width in one scheme."""

    def __init__(self, page: Page, out: Path, name: str, axe: Path | None) -> None:
        self.page, self.out, self.name, self.axe = page, out, name, axe
        self.failures: list[str] = []
        self.findings: dict[str, str] = {}

    def shot(self, what: str, *, full: bool = False) -> None:
        self.page.wait_for_timeout(350)
        self.page.screenshot(path=self.out / f"{self.name}-{what}.png", full_page=full)
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        self.check(wide <= 0, f"{what}: the page is {wide} px too wide")

    def check(self, holds: object, words: str) -> None:
        if not holds:
            self.failures.append(f"{self.name}: {words}")

    def look(self, what: str) -> None:
        """Run axe-core on what is shown."""
        if self.axe is None:
            return
        self.page.evaluate(self.axe.read_text(encoding="utf-8"))
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        for one in found["violations"]:
            for node in one["nodes"]:
                where = " ".join(map(str, node["target"]))
                self.findings[f"{one['impact']} {one['id']} {where}"] = (
                    f"{what}: {node['html'][:160]} | {node['failureSummary'][:220]!r}"
                )

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()

    def settled(self, turns: int) -> None:
        self.page.wait_for_function(
            "n => document.querySelectorAll('.tp-turn:not(.tp-running)').length === n"
            " && !document.body.classList.contains('tp-busy')",
            arg=turns,
            timeout=90_000,
        )
        self.page.wait_for_timeout(700)

    def say(self, text: str, turns: int) -> None:
        self.page.fill("#tp-input", text)
        self.page.press("#tp-input", "Enter")
        self.settled(turns)

    def press(self, selector: str) -> None:
        self.page.locator(selector).first.click()
        self.page.wait_for_timeout(700)

    def ready(self) -> None:
        self.page.wait_for_selector("#tp-input", timeout=60_000)
        self.page.wait_for_timeout(1000)

    def visit(self) -> None:
        page = self.page
        self.ready()
        self.shot("00-first-visit")
        self.look("first visit")
        page.focus("#tp-input")
        page.keyboard.press("Enter")
        self.check("a genre" in page.inner_text("#tp-told"), "nothing helps with an empty message")
        self.press('.tp-welcome [data-act="say"]')
        self.settled(1)
        focused = page.evaluate("document.activeElement.id")
        self.check(focused == "tp-input", f"the focus is on {focused!r} after a quick reply")
        self.check(not page.locator("#tp-told").is_visible(), "the hint outlives the message")
        self.shot("01-example")
        self.check(self.count(".tp-code") == 5, "no five chips after the first answer")
        page.evaluate(
            "() => { const x = document.querySelector('audio');"
            " if (x) { x.loop = true; x.play(); } }"
        )
        self.press('[data-act="react"][data-reaction="like"]')
        self.check(self.count('[data-reaction="like"][aria-pressed="true"]'), "like is not shown")
        self.say("something slower please", 2)
        silent = page.evaluate(
            "[...document.querySelectorAll('audio')].slice(0, 1).some(x => x.paused)"
        )
        self.check(not silent, "the next answer stops the music")
        self.check(self.count(".tp-led") == 1, "the like does not lead the next message")
        self.press('[data-turn="1"][data-reaction="skip"]')
        self.check(self.count(".tp-skipped") == 1, "skip is not shown")
        self.say("Play some jazz from the 1990s", 3)
        self.shot("02-three-turns")
        self.shot("03-three-turns-full", full=True)
        self.look("three turns")
        self.check(self.count(".tp-row") == 2, f"playlist has {self.count('.tp-row')} rows, not 2")

        self.press(".tp-code >> nth=1")
        self.check(self.count(".tp-code-details:visible") == 1, "no details of the chip")
        page.locator("#tp-why").scroll_into_view_if_needed()
        self.shot("04-chip-open")
        self.look("chip open")
        menu = page.locator(".tp-swap-menu:visible")
        menu.select_option(index=(menu.evaluate("x => x.selectedIndex") + 5) % 20)
        self.press('[data-act="swap"]:visible')
        page.wait_for_selector(".tp-swapped")
        self.shot("05-swapped")
        self.look("swapped")
        self.press('[data-act="swap-back"]')
        self.check(self.count(".tp-swapped") == 0, "the swap is still there")

        first = page.locator(".tp-row .tp-name").first.inner_text()
        self.press('.tp-row [data-act="move"][data-by="1"]')
        self.check(page.locator(".tp-row .tp-name").first.inner_text() != first, "not moved")
        focused = page.evaluate("document.activeElement.dataset.act")
        self.check(focused == "move", f"focus is lost after a move: {focused}")
        page.locator(".tp-row").first.drag_to(page.locator(".tp-row").nth(1))
        page.wait_for_timeout(700)
        self.check(page.locator(".tp-row .tp-name").first.inner_text() == first, "not dragged")
        for kind in ("m3u", "csv", "jspf"):
            with page.expect_download() as download:
                page.locator(f'[data-act="export"][data-format="{kind}"]').click()
            saved = Path(download.value.path()).read_text(encoding="utf-8")
            self.check(len(saved) > 30, f"{kind} is empty")
        page.locator("#tp-playlist").scroll_into_view_if_needed()
        self.shot("06-playlist")
        reached = self.tab_order()
        self.check(not [one for one in reached if one.endswith("!")], f"no focus seen: {reached}")
        for act in ("share", "tp-input", "move", "export", "code"):
            self.check(act in reached, f"Tab does not reach {act}: {reached}")
        self.share()

        page.locator("#tp-settings button").first.click()
        page.get_by_label("Sampled").check()
        page.wait_for_timeout(700)
        page.locator("#tp-settings").scroll_into_view_if_needed()
        self.shot("08-settings")
        self.look("settings")
        page.locator("#tp-settings button").first.click()

        self.press('[data-act="retry"]')
        self.settled(3)
        focused = page.evaluate("document.activeElement.dataset.act")
        self.check(focused == "retry", f"the focus is on {focused!r} after a retry")
        self.press('[data-act="edit"]')
        self.check(page.locator(".tp-editing").is_visible(), "nothing says that I edit")
        self.shot("09-editing")
        page.keyboard.press("Escape")
        self.check(not page.locator(".tp-editing").is_visible(), "Escape does not end the edit")
        self.press('[data-act="edit"]')
        self.say("Play some soul", 3)
        self.press('[data-act="edit"]')
        self.press('[data-act="undo"]')
        self.settled(2)
        self.check(not page.locator(".tp-editing").is_visible(), "an undone turn is still edited")
        self.check(page.input_value("#tp-input") == "Play some soul", "undo loses the words")
        page.fill("#tp-input", "")
        for number, text in enumerate(HARD, start=3):
            self.say(text, number)
        self.check(self.count("#tp-feed b, #tp-feed script, #tp-feed img") == 0, "a live tag")
        self.shot("10-hard-texts")
        self.shot("11-hard-texts-full", full=True)
        page.fill("#tp-input", "z" * 2000)
        self.check("2,000" in page.inner_text("#tp-told"), "nothing says that the box is full")
        page.evaluate("document.getElementById('tp-input').maxLength = 9999")
        page.fill("#tp-input", "y" * 2100)
        page.press("#tp-input", "Enter")
        page.wait_for_selector(".tp-problem")
        page.wait_for_timeout(500)
        self.check(len(page.input_value("#tp-input")) == 2100, "the refused text is lost")
        self.shot("12-problem")
        self.look("problem")
        page.fill("#tp-input", "")
        self.press('[data-act="new"]')
        self.check(self.count(".tp-welcome") == 1, "no welcome after New")
        self.check(self.count(".tp-row") == 0, "the playlist is not empty after New")

        if self.count("#tp-model, #tp-catalog"):
            self.choose()
        restored: list[str] = []
        page.on(
            "request",
            lambda asked: restored.extend(
                ["restore"] if '"act":"restore"' in (asked.post_data or "") else []
            ),
        )
        self.say("something calm", 1)
        self.forget()
        self.say("something slower please", 2)
        self.check(self.count(".tp-problem") == 0, "a forgotten visitor is refused")
        self.check(self.count(".tp-row") == 2, "a forgotten visitor has lost the playlist")
        self.forget()
        self.press('[data-turn="0"][data-reaction="like"]')
        page.wait_for_timeout(1500)
        self.check(self.count('[data-reaction="like"][aria-pressed="true"]'), "a like is forgotten")
        self.check(len(restored) == 2, f"forgotten twice, brought back {len(restored)} times")
        self.shot("17-after-being-forgotten")
        self.problem()

    def problem(self) -> None:
        """Send what the page itself never sends."""
        before = self.count(".tp-turn")
        self.page.evaluate(
            "() => { const x = document.createElement('button');"
            " Object.assign(x.dataset, { act: 'move', track: 'made up', by: '1' });"
            " document.body.append(x); x.click(); x.remove(); }"
        )
        self.page.wait_for_selector(".tp-problem")
        self.check("not in the playlist" in self.page.inner_text(".tp-problem"), "no polite line")
        self.check(self.count(".tp-turn") == before, "a made-up move changes the conversation")

    def choose(self) -> None:
        """Another catalogue with and without the tracks of the conversation, another model."""
        page = self.page
        page.locator("#tp-settings button").first.click()
        self.say("something calm", 1)
        own = page.locator("#tp-catalog").input_value()
        kept = lost = 0
        for name in page.locator("#tp-catalog option").evaluate_all("x => x.map(y => y.value)"):
            if name == page.locator("#tp-catalog").input_value():
                continue
            turns = self.count(".tp-turn")
            page.select_option("#tp-catalog", name)
            told = self.told(name)
            self.check(page.locator("#tp-catalog").input_value() == name, f"{name}: not chosen")
            focused = page.evaluate("document.activeElement.id")
            self.check(focused == "tp-catalog", f"the focus is on {focused!r} after a choice")
            if self.count(".tp-turn") == turns:
                kept += 1
            else:
                lost += 1
                self.check("A new conversation begins" in told, "nothing says that it begins anew")
                page.locator("#tp-choice").scroll_into_view_if_needed()
                self.shot("13-another-catalogue")
                page.locator("#tp-settings button").first.click()
                self.check(page.locator("#tp-told").is_visible(), "the line is gone with Settings")
                self.shot("13-another-catalogue-settings-closed")
                page.locator("#tp-settings button").first.click()
                self.look("another catalogue")
                self.say("something calm", 1)
        self.check(kept + lost, "there is no other catalogue")
        self.shot("14-answer-of-another-catalogue")
        page.select_option("#tp-catalog", own)
        self.told(own)
        models = page.locator("#tp-model option").evaluate_all("x => x.map(y => y.value)")
        if len(models) > 1:
            page.select_option("#tp-model", models[1])
            self.told(models[1])
            self.check(page.locator("#tp-model").input_value() == models[1], "model not chosen")
            page.locator("#tp-choice").scroll_into_view_if_needed()
            self.shot("15-another-model")
            page.reload()
            self.ready()
            page.wait_for_timeout(1500)
            if self.count(".tp-turn"):
                page.locator("#tp-settings button").first.click()
                chosen = page.locator("#tp-model").evaluate("x => x.value")
                self.check(chosen == models[1], f"the reload has lost the model: {chosen}")
        else:
            page.locator("#tp-settings button").first.click()
        self.press('[data-act="new"]')
        self.shot("16-new-after-choosing")

    def told(self, name: str) -> str:
        """The line that says what was chosen, once it is there."""
        self.page.wait_for_function(
            "x => document.getElementById('tp-told').textContent.includes(x)",
            arg=f"“{name}”",
            timeout=30_000,
        )
        self.page.wait_for_timeout(700)
        return self.page.inner_text("#tp-told")

    def forget(self) -> None:
        """Let as many other visitors come as make the server forget this one."""
        self.page.evaluate(FLOOD)
        self.page.wait_for_timeout(6000)

    def tab_order(self) -> list[str]:
        """What the Tab key reaches, in order, from the top of the page."""
        self.page.locator(".tp-brand h1").click()
        reached = []
        for _ in range(60):
            self.page.keyboard.press("Tab")
            reached.append(
                self.page.evaluate(
                    "() => { const x = document.activeElement, o = getComputedStyle(x);"
                    " return (x.dataset.act || x.id || x.tagName)"
                    " + (o.outlineStyle === 'none' && o.boxShadow === 'none' && x.id !== 'tp-input'"
                    # the parts of a player have a ring of their own
                    " && x.tagName !== 'AUDIO'"
                    " ? '!' : ''); }"
                )
            )
            if reached[-1].startswith("BODY"):
                return reached[:-1]
        return reached

    def share(self) -> None:
        page = self.page
        self.press('[data-act="share"]')
        page.wait_for_timeout(500)
        self.shot("07-share")
        self.look("share")
        link = page.input_value("#tp-link")
        self.check("?c=" in link, f"no link: {link!r}")
        with page.expect_download() as download:
            page.locator('[data-act="export"][data-format="json"]').click()
        file = self.out / f"{self.name}.json"
        download.value.save_as(file)
        page.keyboard.press("Escape")
        self.check(not page.locator("#tp-share").is_visible(), "Escape does not close the dialog")
        page.reload()
        self.ready()
        self.settled(3)
        self.check(self.count(".tp-row") == 2, "the playlist is lost with a reload")
        fresh = page.context.browser.new_page(color_scheme="light")
        fresh.goto(link)
        fresh.wait_for_function(
            "document.querySelectorAll('.tp-turn').length === 3", timeout=60_000
        )
        self.check(fresh.locator(".tp-skipped").count() == 1, "the link has lost the skip")
        fresh.locator('[data-act="new"]').click()
        fresh.wait_for_selector(".tp-welcome")
        self.check("?c=" not in fresh.url, "the address still names the old conversation")
        fresh.locator('[data-act="share"]').click()
        fresh.set_input_files("#tp-file", file)
        fresh.wait_for_function(
            "document.querySelectorAll('.tp-turn').length === 3", timeout=60_000
        )
        fresh.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, action="append")
    parser.add_argument("--scheme", action="append", choices=("light", "dark"))
    parser.add_argument("--chromium", default=CHROMIUM)
    parser.add_argument("--axe", type=Path, help="axe.min.js of the npm package axe-core")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=ARGS)
        for width in args.width or (1280, 360):
            for scheme in args.scheme or ("light", "dark"):
                failures += one_visit(browser, args, width, scheme)
        browser.close()
    print("\n".join(failures) or "all that was pressed did what it should")
    return bool(failures)


def one_visit(browser, args: argparse.Namespace, width: int, scheme: str) -> list[str]:
    size = {"width": width, "height": 800 if width > 900 else 740}
    page = browser.new_page(viewport=size, color_scheme=scheme, accept_downloads=True)
    noise = listen(page, args.url)
    page.goto(args.url)
    drive = Drive(page, args.out, f"{width}-{scheme}", args.axe)
    try:
        drive.visit()
    except Exception as error:
        drive.shot("99-stuck")
        drive.failures.append(f"{drive.name}: {type(error).__name__} {str(error)[:600]}")
    page.close()
    report = args.out / f"{drive.name}-axe.json"
    report.write_text(json.dumps(drive.findings, indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"{drive.name}: {len(drive.findings)} findings of axe")
    return [*drive.failures, *(f"{drive.name}: {line}" for line in dict.fromkeys(noise))]


if __name__ == "__main__":
    sys.exit(main())
