"""What the neuron browser weighs and how fast it is, in headless Chromium.

Made-up neurons and pictures as grainy as photographs, so that the site has the size of a real one:
1,000 neurons with a page, each with 8 pictures of its own and maps of 24 x 24 patches.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY / "scripts"), str(REPOSITORY / "tests")]

import browser_world as world  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from mmneurons.browser.site import write_site  # noqa: E402

NEURONS, PICTURES, ROWS = 1000, 8, 10_000
CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def main() -> None:
    """Write a site, weigh it, and time its pages."""
    with tempfile.TemporaryDirectory() as folder:
        site, (own, tokens) = Path(folder) / "site", world.photographed(NEURONS, PICTURES, ROWS)
        start = time.perf_counter()
        write_site(site, "benchmark", [own], tokens)
        print(f"writing: {time.perf_counter() - start:.1f} s")
        files = [path for path in site.rglob("*") if path.is_file()]
        pictures = sum(path.stat().st_size for path in files if path.suffix == ".webp")
        total = sum(path.stat().st_size for path in files)
        print(f"size: {total / 1e6:.1f} MB, {pictures / 1e6:.1f} MB pictures, {len(files)} files")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            first = [visited(browser, site, "#/") for _ in range(5)]
            print(f"first page: {statistics.median(first):.0f} ms, at most {max(first):.0f}")
            for name, times in filtered(browser, site).items():
                print(f"{name}: {statistics.median(times):.1f} ms, at most {max(times):.1f}")
            pages = [visited(browser, site, f"#/picture/{number}") for number in (0, 4000, 7999)]
            print(f"a picture's page: {max(pages):.0f} ms")
            browser.close()


def visited(browser, site: Path, place: str) -> float:
    """Milliseconds from opening a page in a new window to all of it being there."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.add_init_script(
        "new MutationObserver(() => { const m = document.getElementById('main');"
        " if (m && m.dataset.ready && !window.took)"
        " requestAnimationFrame(() => requestAnimationFrame(() => {"
        " window.took = window.took || performance.now(); })); })"
        ".observe(document, { subtree: true, childList: true, attributes: true });"
    )
    page.goto((site / "index.html").as_uri() + place)
    page.wait_for_function("window.took")
    took = page.evaluate("window.took")
    context.close()
    return took


def filtered(browser, site: Path) -> dict[str, list[float]]:
    """Milliseconds of filtering and sorting all rows, up to the rows standing in the page."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((site / "index.html").as_uri() + "#/table")
    page.wait_for_selector("main[data-ready]")
    assert int(page.get_attribute(".count", "data-found")) == ROWS
    steps = {
        "filter of 10,000 rows by token": ("#token", ["d", "do", "dog", "", "amp", ""]),
        "filter of 10,000 rows by concept": ("[list=list-group]", ["c", "concept 1", "7", "9", ""]),
    }
    took = {}
    for name, (selector, texts) in steps.items():
        took[name] = []
        for text in texts:
            # From the key to the next frame, laid out and painted.
            took[name].append(
                page.evaluate(
                    "([selector, text]) => new Promise(done => {"
                    " const box = document.querySelector(selector), start = performance.now();"
                    " box.value = text; box.dispatchEvent(new Event('input'));"
                    " const end = () => done(performance.now() - start);"
                    " requestAnimationFrame(() => setTimeout(end));"
                    "})",
                    [selector, text],
                )
            )
    took["first sort of 10,000 rows"] = []
    for column in ("score", "group", "tokens", "samples"):
        page.click(f".c-{column} button")
        took["first sort of 10,000 rows"].append(float(page.get_attribute(".count", "data-ms")))
    context.close()
    return took


if __name__ == "__main__":
    main()
