"""The neuron browser as a person uses it: opened from disk in Chromium, without a network."""

import csv
import io
import os
import re
import shutil

import browser_world as world
import numpy as np
import pytest

from mmneurons.browser.site import write_site
from mmneurons.figures.pan_pictures import mask_threshold
from mmneurons.figures.pictures import heatmap
from mmneurons.figures.style import uniform_colormap

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium; without one the tests are skipped, but not where changes are checked."""
    if not CHROMIUM:
        missing = "no Chromium: the browser's pages are not tested (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    parts, tokens = world.parts(folder)
    notes = [f"A note with {world.IMAGE}."]
    write_site(folder / "the site", f"run {world.SCRIPT}", parts, tokens, notes=notes)
    return folder / "the site" / "index.html"


class Visit:
    """A page opened from disk; whatever goes wrong in it is kept."""

    def __init__(self, browser, site, scheme="light"):
        self.context = browser.new_context(
            offline=True, color_scheme=scheme, viewport={"width": 1280, "height": 900}
        )
        self.page = self.context.new_page()
        self.site, self.wrong, self.asked = site, [], []
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))

    def _listen(self, message):
        # The tests read layers back, which Chromium remarks on.
        if "willReadFrequently" not in message.text:
            self.wrong.append(message.text)

    def open(self, hash_="#/"):
        self.page.goto("about:blank")
        self.page.goto(self.site.as_uri() + hash_)
        self.page.wait_for_selector("main[data-ready]")
        return self.page

    def follow(self, act):
        """Do something that leads to another page, and wait for it."""
        before = self.page.get_attribute("main", "data-ready")
        act()
        self.page.wait_for_function(
            "before => document.getElementById('main').dataset.ready !== before", arg=before
        )

    def text(self):
        return self.page.inner_text("main")

    def leave(self):
        assert self.wrong == []
        assert self.asked and all(
            url.startswith(("file://", "blob:", "data:")) for url in self.asked
        )
        assert self.page.evaluate("window.broken") is None
        self.context.close()


@pytest.fixture
def visit(chromium, site):
    visit = Visit(chromium, site)
    yield visit
    visit.leave()


PAGES = ["#/", "#/table", "#/model/one", "#/model/two?method=dape%2Freleased-1", "#/pictures"]
PAGES += ["#/picture/0", "#/picture/9", "#/picture/15", "#/picture/16", "#/compare", "#/left-out"]
PAGES += ["#/neuron/two/vision/L1.U3", "#/neuron/two/language/L0.U5", "#/neuron/one/language/L0.U0"]


@pytest.mark.parametrize("hash_", PAGES)
def test_every_page_shows_texts_as_texts(visit, hash_):
    page = visit.open(hash_)
    page.wait_for_timeout(150)
    assert page.inner_text("#run") == f"run {world.SCRIPT}"
    shown = visit.text()
    assert "Not here" not in shown and "[object" not in shown and "undefined" not in shown
    assert not re.search(r"\bNaN\b|\bnull\b", shown)
    # Markup of the data would have made elements that the pages do not make.
    assert (
        page.eval_on_selector_all(
            "main script, main iframe, main b, main i, main s", "e => e.length"
        )
        == 0
    )
    sources = page.eval_on_selector_all("img", "all => all.map(e => e.getAttribute('src'))")
    assert all(re.fullmatch(r"pictures/\w+\.webp", source) for source in sources)
    assert all(page.eval_on_selector_all("img", "all => all.map(e => e.alt)"))
    seen = page.eval_on_selector_all(
        "img", "all => all.filter(e => e.complete).map(e => e.naturalWidth)"
    )
    assert all(width > 0 for width in seen)


def test_hostile_texts_can_be_read(visit):
    page = visit.open("#/neuron/one/language/L0.U0")
    assert world.SCRIPT in page.inner_text(".tokenbars")
    page = visit.open("#/picture/9")
    assert world.SCRIPT in page.inner_text(".caption") and "<i>grass</i>" in visit.text()
    page = visit.open("#/")
    assert world.IMAGE in page.inner_text(".note") and "Two <b>of a world</b>" in visit.text()
    page = visit.open("#/left-out")
    page.click("summary >> nth=0")
    assert world.SCRIPT in visit.text()


def cells(page, column):
    return page.eval_on_selector_all(
        f".neurons tbody tr:not(.gap) .c-{column}",
        "all => all.map(e => e.innerText.split('\\n')[0])",
    )


def test_filters_narrow_and_the_address_follows(visit):
    page = visit.open("#/table")
    everything = int(page.get_attribute(".count", "data-found"))
    page.get_by_label("Method", exact=True).select_option("two_stage/auto")
    assert set(cells(page, "method")) == {"two-stage, automatic thresholds"}
    page.get_by_label("Concept, object or domain").fill("bed")
    assert set(cells(page, "group")) == {"bed"}
    page.get_by_label("Layer", exact=True).select_option("1")
    assert all(name.startswith("language/L1.") for name in cells(page, "neuron"))
    fewer = int(page.get_attribute(".count", "data-found"))
    assert 0 < fewer < everything
    page.fill("#token", "</SCRIPT>")
    assert int(page.get_attribute(".count", "data-found")) <= fewer
    address = page.url
    assert "method=two_stage" in address and "layer=1" in address and "group=bed" in address
    rows = cells(page, "neuron")
    # A deep link shows the same.
    visit.open(address[address.index("#") :])
    assert cells(page, "neuron") == rows
    assert page.input_value("#token") == "</SCRIPT>"
    page.fill("#token", "no such token")
    assert page.inner_text(".count").startswith("0 of ")


def test_sorting_by_every_column_both_ways(visit):
    page = visit.open("#/table")

    def numbers(column):
        return [
            float(text.replace(",", "")) for text in cells(page, column) if text[0] in "0123456789-"
        ]

    for column in ("rank", "samples", "score"):
        button = page.locator(f".c-{column} button")
        ways = []
        for _ in range(2):
            button.click()
            ways.append(page.get_attribute(f"th.c-{column}", "aria-sort"))
            found = numbers(column)
            assert found == sorted(found, reverse=ways[-1] == "descending")
        # By rank it is sorted upwards when it opens, so the first click turns it.
        assert set(ways) == {"ascending", "descending"}
    page.click(".c-group button")
    groups = cells(page, "group")
    assert groups == sorted(groups, key=str.lower)
    page.click(".c-group button")
    assert cells(page, "group")[0] >= groups[-1]
    # What was drawn has no rank and comes last either way.
    for _ in range(2):
        page.click(".c-rank button")
        assert "drawn" not in cells(page, "rank")


def test_the_csv_has_the_rows_of_the_view(visit):
    page = visit.open("#/table?method=contribution%2Fplain&group=dog")
    with page.expect_download() as saved:
        page.click("#csv")
    rows = list(csv.DictReader(io.StringIO(open(saved.value.path(), newline="").read())))
    assert len(rows) == int(page.get_attribute(".count", "data-found")) > 10
    assert {row["group"] for row in rows} == {"dog"}
    assert [row["neuron"] for row in rows][:5] == cells(page, "neuron")[:5]
    assert any("</script>" in row["tokens"] for row in rows)
    assert saved.value.suggested_filename.endswith("-table.csv")


@pytest.mark.parametrize(
    "hash_", ["#/", "#/model/one", "#/neuron/one/language/L0.U0", "#/picture/0"]
)
def test_other_pages_have_a_csv_too(visit, hash_):
    page = visit.open(hash_)
    with page.expect_download() as saved:
        page.click("#csv")
    rows = list(csv.reader(io.StringIO(open(saved.value.path(), newline="").read())))
    assert len(rows) > 1 and len({len(row) for row in rows}) == 1


def test_links_lead_from_model_to_neuron_to_picture_and_back(visit):
    page = visit.open("#/")
    visit.follow(lambda: page.click("text=Map of layers and units >> nth=0"))
    assert "#/model/one" in page.url
    visit.follow(lambda: page.click("table a >> nth=0"))
    assert "#/table?" in page.url and "layer=" in page.url
    visit.follow(lambda: page.click(".c-neuron a >> nth=0"))
    name = page.inner_text("h1")
    assert re.fullmatch(r"language/L\d+\.U\d+", name)
    visit.follow(lambda: page.click(".tile >> nth=0"))
    assert page.inner_text("h1").startswith("Picture")
    page.click(".word >> nth=0")
    visit.follow(lambda: page.click(".lists .neuronlist a >> nth=0"))
    assert "#/neuron/one/" in page.url
    visit.follow(page.go_back)
    visit.follow(page.go_back)
    assert page.inner_text("h1") == name


def test_an_unknown_address_is_said(visit):
    for hash_ in ("#/nowhere", "#/neuron/one/language/L9.U9", "#/picture/99", "#/model/<b>"):
        visit.open(hash_)
        assert "Not here" in visit.text()


def test_keyboard(visit):
    page = visit.open("#/")
    page.keyboard.press("g")
    visit.follow(lambda: page.keyboard.press("n"))
    assert "#/table" in page.url
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "token"
    page.keyboard.type("dog")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    second = cells(page, "neuron")[1]
    assert page.inner_text(".marked .c-neuron a") == second
    assert second in page.inner_text("#said")
    visit.follow(lambda: page.keyboard.press("Enter"))
    assert page.inner_text("h1") == second
    # Next and previous follow the rows of the table.
    counted = page.inner_text(".pager")
    visit.follow(lambda: page.keyboard.press("j"))
    assert page.inner_text("h1") != second and page.inner_text(".pager") != counted
    visit.follow(lambda: page.keyboard.press("k"))
    assert page.inner_text("h1") == second
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("d")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    # Every control can be reached by the tabulator, and shows where the focus is.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('a, button, input, select')")


def test_next_neuron_stays_within_the_view(visit):
    page = visit.open("#/table?method=two_stage%2Fauto&group=bear")
    names = list(dict.fromkeys(cells(page, "neuron")))
    visit.follow(lambda: page.click(".c-neuron a >> nth=0"))
    for name in names[1:4]:
        visit.follow(lambda: page.click("text=next →"))
        assert page.inner_text("h1") == name
    assert "in the table" in page.inner_text(".pager")


def layer_of(page):
    """Red, green, blue and opacity of the layer over the first picture that has a map."""
    page.wait_for_function(
        "document.querySelector('.frame[data-mode] canvas') && "
        "document.querySelector('.frame img').complete"
    )
    found = page.evaluate(
        "() => { const c = document.querySelector('.frame canvas');"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        " return [c.width, c.height, Array.from(d.data)]; }"
    )
    return np.array(found[2]).reshape(found[1], found[0], 4)


def test_heatmap_and_mask_are_those_of_the_figures(visit, site):
    """The layers over a picture agree with the figures' functions, on the same map."""
    page = visit.open("#/picture/0")
    drawn = layer_of(page)
    stored = page.evaluate(
        "() => new Promise(done => { const old = window.mmneurons;"
        " window.mmneurons = (name, data) => { window.mmneurons = old; done(data); };"
        " const s = document.createElement('script'); s.src = 'data/pictures0.js';"
        " document.head.append(s); })"
    )
    view = stored[0][0]
    raw = page.evaluate(
        "text => Array.from(atob(text), c => c.charCodeAt(0))", view["samples"][0]["maps"][0][1]
    )
    values = heatmap(np.array(raw, float).reshape(view["grid"]), drawn.shape[:2])
    colours = uniform_colormap("viridis")(np.rint(values).astype(int))[..., :3] * 255
    # Where a value is half way between two colours, either may be taken; a browser keeps colours
    # multiplied by their opacity, which costs another step.
    assert np.abs(drawn[..., :3] - colours).max() <= 6
    assert set(np.unique(drawn[..., 3])) == {158}
    page.keyboard.press("m")
    mask = layer_of(page)[..., 3] > 0
    assert (mask == (values <= mask_threshold(values))).mean() > 0.999
    assert 0.94 < mask.mean() < 0.96
    page.keyboard.press("p")
    assert not layer_of(page).any()


def test_a_neurons_pictures_switch_together(visit):
    page = visit.open("#/picture/0")
    visit.follow(lambda: page.click(".lists .neuronlist a >> nth=0"))
    assert page.locator(".tile .frame").count() >= 3
    for key, name in (("m", "mask"), ("p", "picture"), ("h", "heatmap")):
        page.keyboard.press(key)
        modes = page.eval_on_selector_all(".tile .frame", "all => all.map(e => e.dataset.mode)")
        assert set(modes) <= {name, "picture"} and name in modes
        assert page.is_checked(f"input[value={name}]")
    page.click("text=Mask")
    assert page.is_checked("input[value=mask]")


def test_a_patch_shows_its_neurons(visit):
    page = visit.open("#/picture/9")
    page.wait_for_selector(".frame[data-mode]")
    box = page.locator(".big .frame").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.1)
    assert "row 1, column 6" in page.inner_text(".patchlist")
    links = page.eval_on_selector_all(".patchlist a", "all => all.map(e => e.innerText)")
    assert len(links) == 5
    page.locator(".big .frame").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert "row 2, column 5" in page.inner_text(".patchlist")
    visit.follow(lambda: page.click(".patchlist a >> nth=0"))
    assert "#/neuron/two/language/" in page.url


def test_words_of_the_caption_choose_the_neurons(visit):
    page = visit.open("#/picture/9")
    assert page.inner_text(".lists h2") == "Neurons for “dog”"
    page.click(".word >> nth=1")
    assert page.inner_text(".lists h2") == "Neurons for “<i>grass</i>”"
    assert "concept=1" in page.url
    visit.open(page.url[page.url.index("#") :])
    assert page.inner_text(".lists h2") == "Neurons for “<i>grass</i>”"


def test_the_map_of_units_opens_a_neuron(visit):
    page = visit.open("#/model/one")
    page.locator("canvas.units").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".readout a")
    name = page.inner_text(".readout a")
    visit.follow(lambda: page.keyboard.press("Enter"))
    assert page.inner_text("h1") == name


def luminance(colour):
    red, green, blue = (float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3])
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
    ]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(chromium, site, scheme):
    visit = Visit(chromium, site, scheme)
    page = visit.open("#/table")
    ground = page.evaluate("getComputedStyle(document.querySelector('.rows')).backgroundColor")
    assert (luminance(ground) < 0.1) == (scheme == "dark")
    for selector in (".c-group", ".c-neuron a", ".of", ".count", ".lead", ".token", "nav a"):
        ink = page.evaluate("s => getComputedStyle(document.querySelector(s)).color", selector)
        high, low = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector
    visit.leave()


def test_many_rows_are_filtered_fast_and_the_first_page_is_there_soon(chromium, tmp_path):
    """With room for a slow machine; benchmarks/browser.py measures the numbers aimed at."""
    sizes = {"layers": 8, "units": 400, "pictures": 240, "top": 60}
    parts, tokens = world.parts(tmp_path, **sizes)
    write_site(tmp_path / "site", "run", parts, tokens, neurons=1000)
    visit = Visit(chromium, tmp_path / "site" / "index.html")
    page = visit.open("#/")
    took = page.evaluate("performance.now()")
    assert took < 5000
    page = visit.open("#/table")
    assert int(page.get_attribute(".count", "data-found")) > 9000
    page.fill("#token", "dog")
    page.get_by_label("Concept, object or domain").fill("ball")
    times = float(page.get_attribute(".count", "data-ms"))
    assert 0 < int(page.get_attribute(".count", "data-found")) < 9000
    assert times < 500
    # Only the rows that can be seen are in the page, and the last one can be reached.
    page.fill("#token", "")
    page.get_by_label("Concept, object or domain").fill("")
    assert page.locator(".neurons tbody tr").count() < 80
    page.evaluate("document.querySelector('.rows').scrollTop = 1e9")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.neurons tbody tr:not(.gap)')].at(-1).ariaRowIndex"
        " === document.querySelector('.neurons').ariaRowCount"
    )
    visit.leave()
