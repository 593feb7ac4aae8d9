"""Look at drawn pages in a browser: light, dark and as wide as a phone.

python tests/look.py _docs SCREENSHOTS index.html 0_start/figures.html
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which

import plotly
from conftest import BROWSERS

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
LOOKS = {
    "light": (1200, "light"),
    "dark": (1200, "dark"),
    "phone": (390, "light"),
    "night": (390, "dark"),
}
# Brightness from 0 to 1 of what lies behind an element, of its text, and what sticks out.
MEASURE = """() => {
  const value = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    const bend = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const linear = [r, g, b].map((c) => bend(c / 255));
    return {a, y: 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]};
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const found = value(getComputedStyle(e).backgroundColor);
      if (found.a > 0.5) return found.y;
    }
    return 1;
  };
  const wide = document.documentElement;
  const figures = [...document.querySelectorAll(".plotly-graph-div")];
  const texts = [...document.querySelectorAll("main p, main td, main li")].slice(0, 300);
  return {
    title: (document.querySelector("h1") || {}).textContent || "",
    overflow: wide.scrollWidth - wide.clientWidth,
    figures: figures.map((f) => ({drawn: !!f.querySelector(".main-svg"), behind: behind(f)})),
    page: behind(document.querySelector("main") || document.body),
    texts: texts.map((t) => ({behind: behind(t), text: value(getComputedStyle(t).color).y})),
    links: document.querySelectorAll("#quarto-sidebar a").length,
  };
}"""

DRAWN = """[...document.querySelectorAll(".plotly-graph-div")]
  .every((figure) => figure.querySelector(".main-svg"))"""


@contextmanager
def served(
    docs: Path,  # folder of the site
) -> Iterator[str]:
    "The address of a server that shows the site to this machine."

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(docs)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def answer(route) -> None:
    "Plotly comes from its package, nothing else from outside."
    if "plotly" in route.request.url and route.request.url.endswith(".js"):
        route.fulfill(path=PLOTLY, content_type="text/javascript")
    else:
        route.abort()


def contrast(
    one: float,  # brightness, 0 to 1
    other: float,  # likewise
) -> float:
    "How far apart two shades are, from 1 to 21 (WCAG 2)."
    dark, light = sorted((one, other))
    return (light + 0.05) / (dark + 0.05)


def faults(
    seen: dict,  # what MEASURE found
    scheme: str,  # light or dark
) -> Iterator[str]:
    "What is wrong with one look at one page."
    if not seen["title"].strip():
        yield "the page has no heading"
    if not seen["links"]:
        yield "the page has no sidebar"
    if seen["overflow"] > 1:
        yield f"the page is {seen['overflow']} pixels wider than the window; give it a scroller"
    if not all(figure["drawn"] for figure in seen["figures"]):
        yield "a figure is not drawn"
    if any(figure["behind"] < 0.7 for figure in seen["figures"]):
        yield "a figure, dark on white, lies on a dark ground"
    if (seen["page"] < 0.3) != (scheme == "dark"):
        yield f"the page has a brightness of {seen['page']:.2f}, which is not {scheme}"
    poor = [text for text in seen["texts"] if contrast(text["behind"], text["text"]) < 4.5]
    if poor:
        yield f"{len(poor)} texts are hard to read: their contrast is below 4.5"


def look_complaints(
    docs: Path,  # folder of the site
    pages: list[str],  # addresses in it
    pictures: Path | None = None,  # where screenshots go; None: nowhere
) -> list[str]:
    "What a reader of these pages would complain of, by page and look."
    from playwright.sync_api import TimeoutError, sync_playwright

    program = next(filter(None, map(which, BROWSERS)))
    complaints = []
    with served(docs) as site, sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        for look, (width, scheme) in LOOKS.items():
            size = {"width": width, "height": 900}
            context = browser.new_context(viewport=size, color_scheme=scheme)
            context.route(lambda url: not url.startswith(site), answer)
            for name in pages:
                page = context.new_page()
                page.goto(f"{site}/{name}", timeout=60_000)
                with suppress(TimeoutError):  # then a complaint says so
                    page.wait_for_function(DRAWN, timeout=30_000)
                said = faults(page.evaluate(MEASURE), scheme)
                complaints += [f"{name}, {look}: {text}" for text in said]
                if pictures:
                    file = f"{Path(name).stem}-{look}.png"
                    page.screenshot(path=pictures / file, full_page=True)
                page.close()
            context.close()
        browser.close()
    return complaints


if __name__ == "__main__":
    folder, shots, *names = sys.argv[1:]
    Path(shots).mkdir(exist_ok=True)
    said = look_complaints(Path(folder), names, Path(shots))
    print("\n".join(said) or f"{len(names)} pages look well")
    sys.exit(bool(said))
