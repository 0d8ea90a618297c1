"""Pages as people see them: in Chromium, offline, on a laptop and on a phone. Skipped where there is no Chromium."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from made_up_study import HOSTILE, made_up_study

from nas.data.pairs import DataConfig
from nas.report import comparison
from nas.report.page import comparison_page, study_page
from nas.report.study_report import study_report
from nas.search import study as studies
from nas.search.optuna_database import to_bytes
from nas.search.study import StudyRecord

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

REFERENCE = Path(__file__).parents[2] / "results/reference/demo-5m"
SIZES = {"laptop": (1280, 900), "phone": (390, 844)}
SOFTWARE_GL = ["--no-sandbox", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE_GL)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages by name: of the reference study, of one with hostile names, and of a comparison with that."""
    folder = tmp_path_factory.mktemp("pages")
    name = HOSTILE.replace("/", "").replace("\u2028", "")[:180]
    hostile = made_up_study(folder / name, 60, data=DataConfig(HOSTILE), name=HOSTILE, reason=HOSTILE)
    compared = [
        comparison.Compared(HOSTILE, hostile, None),
        comparison.Compared("reference", studies.load(REFERENCE), None),
    ]
    texts = {
        "reference": study_page(study_report(studies.load(REFERENCE))),
        "hostile": study_page(study_report(hostile)),
        "compared": comparison_page(comparison.compare(compared, photos=0)),
    }
    for each, text in texts.items():
        (folder / f"{each}.html").write_text(text, "utf-8", errors="backslashreplace")
    return {each: folder / f"{each}.html" for each in texts}


class Opened:
    """A page in a tab of its own, offline, with what it complained of and asked for."""

    def __init__(self, browser: Any, path: Path, size: str) -> None:
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
        self.path, self.page = path, context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page, complain = self.page, self.complaints.append
        page.on("console", lambda message: complain(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("dialog", lambda dialog: complain(dialog.message))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_function("document.body.dataset.drawn === 'yes'")
        page.evaluate(
            "document.getElementById('chart-genes')?.scrollIntoView({ behavior: 'instant' })"
        )  # then it is drawn
        page.wait_for_timeout(600)

    def assert_quiet(self) -> None:
        """Fail where it complained, asked for anything, or opened a dialog by itself."""
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith(("data:", "blob:"))] == [self.path.as_uri()]


@pytest.fixture(scope="module")
def tabs(browser: Any) -> dict[tuple[Path, str], Opened]:
    """Pages that are open, by file and size: to draw one takes seconds."""
    return {}


@pytest.fixture
def opened(
    browser: Any, pages: dict[str, Path], tabs: dict[tuple[Path, str], Opened]
) -> Iterator[Callable[[str, str], Any]]:
    """Show a page by its name and size, and see at the end that it has been quiet."""
    shown: list[Opened] = []

    def show(name: str, size: str = "laptop") -> Any:
        place = (pages[name], size)
        if place not in tabs:
            tabs[place] = Opened(browser, *place)
        shown.append(tabs[place])
        return shown[-1].page

    yield show
    for each in shown:
        each.assert_quiet()


@pytest.mark.parametrize(("name", "size"), [("reference", "laptop"), ("hostile", "phone"), ("compared", "phone")])
def test_a_page_draws_everything_in_its_width_and_no_label_covers_another(
    opened: Callable[..., Any], name: str, size: str
) -> None:
    empty = "[...document.querySelectorAll('.chart')].filter(c => !c.querySelector('svg')).map(c => c.id)"
    page = opened(name, size)
    assert page.evaluate(empty) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    for steps in page.evaluate("[...document.querySelectorAll('#steps option')].map(o => o.value)") or [None]:
        if steps is not None:
            page.select_option("#steps", steps)
            page.wait_for_timeout(300)
        assert_apart(page.evaluate(BOXES))


BOXES = """[...document.querySelectorAll('#chart-front .annotation-text-g')]
.map(label => label.getBoundingClientRect().toJSON())"""


def assert_apart(boxes: list[dict[str, float]]) -> None:
    assert boxes, "no label at all"
    for one, other in combinations(boxes, 2):
        beside = one["right"] <= other["left"] or other["right"] <= one["left"]
        assert beside or one["bottom"] <= other["top"] or other["bottom"] <= one["top"], (one, other)


def points_of(page: Any, trace: str) -> list[list[float]]:
    """Return where the points of a trace of the front lie on the screen."""
    return list(page.evaluate(PLACES, trace))


PLACES = """name => {
  const chart = document.getElementById("chart-front"), { xaxis, yaxis } = chart._fullLayout;
  const at = chart.getBoundingClientRect(), trace = chart._fullData.find(each => each.name.endsWith(name));
  const place = (x, y) => [at.left + xaxis._offset + xaxis.d2p(x), at.top + yaxis._offset + yaxis.d2p(y)];
  return trace.x.map((x, i) => place(x, trace.y[i]));
}"""


@pytest.mark.parametrize("name", ["hostile"])
def test_hovering_tells_and_a_click_opens_the_candidate(opened: Callable[..., Any], name: str) -> None:
    page = opened(name)
    data = json.loads(page.locator("#data").text_content())
    page.locator("#chart-front").scroll_into_view_if_needed()
    x, y = points_of(page, "Pareto front")[-1]
    page.mouse.move(x - 3, y - 3)
    page.mouse.move(x, y)
    page.wait_for_selector("#chart-front .hovertext")
    text = page.locator("#chart-front .hovertext").first.text_content()
    steps = str(data["front"]["chosen"])
    trial = max(
        (c for c in data["candidates"] if c["at"].get(steps, {}).get("on_front")), key=lambda c: c["runtime_ms"]
    )
    assert f"trial {trial['trial']}" in text
    assert f"{trial['at'][steps]['psnr_db']:.2f}" in text
    assert "\\u000a" not in text
    assert all(f"{gene}={value}" in text for gene, value in trial["genes"].items()), "no gene is broken in two"
    page.mouse.click(x, y)
    page.wait_for_selector("#candidate[open]")
    shown = page.locator("#candidate .content").inner_text()
    assert f"trial {trial['trial']}" in shown
    assert trial["hash"] in shown
    for gene, value in trial["genes"].items():
        assert gene in shown
        assert str(value) in shown
    page.keyboard.press("Escape")  # closes what was opened, for whoever looks at the page next
    page.wait_for_selector("#candidate", state="hidden")


def test_nothing_on_a_chart_offers_to_send_it_away(opened: Callable[..., Any]) -> None:
    offered = opened("reference").evaluate("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert "Reset axes" in offered
    assert not [title for title in offered if "hare" in title or "loud" in title]


def test_on_paper_charts_are_light_whole_and_as_wide_as_the_page(opened: Callable[..., Any]) -> None:
    page = opened("reference")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_timeout(300)
    ink = "[...document.querySelectorAll('.chart text')].map(t => getComputedStyle(t).fill)"
    assert set(page.evaluate(ink)) <= {"rgb(0, 0, 0)", "rgb(68, 68, 68)"}
    wide = "[...document.querySelectorAll('.chart svg.main-svg')].map(s => s.getBoundingClientRect().right)"
    assert max(page.evaluate(wide)) <= page.evaluate("document.body.getBoundingClientRect().right")
    assert page.evaluate("[...document.querySelectorAll('details')].every(d => d.open)")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(500)
    assert not page.evaluate("[...document.querySelectorAll('details')].some(d => d.open)")


def test_the_data_can_be_taken_home(opened: Callable[..., Any], tmp_path: Path) -> None:
    page = opened("hostile")
    with page.expect_download() as started:
        page.click("#download")
    started.value.save_as(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["overview"]["name"] == HOSTILE


def test_the_table_of_the_front_has_the_numbers_of_the_data(opened: Callable[..., Any]) -> None:
    page = opened("reference")
    page.select_option("#steps", "900")
    page.click("summary:has-text('Table of the front')")
    rows = page.locator("#table-front tbody tr").all_inner_texts()
    data = json.loads(page.locator("#data").text_content())
    front = sorted(
        (c for c in data["candidates"] if c["at"].get("900", {}).get("on_front")), key=lambda c: c["runtime_ms"]
    )
    assert len(rows) == len(front)
    for row, candidate in zip(rows, front, strict=True):
        assert row.split("\t")[0] == str(candidate["trial"])
        assert f"{candidate['at']['900']['psnr_db']:.2f}" in row
        assert f"{candidate['at']['900']['score']:.2f}" in row


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def dashboard(study: StudyRecord, path: Path) -> Iterator[str]:
    """Serve a study with optuna-dashboard; yield its address on this machine."""
    optuna_dashboard = pytest.importorskip("optuna_dashboard")
    from optuna.storages import RDBStorage

    path.write_bytes(to_bytes(study))
    storage = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"check_same_thread": False}})
    server = make_server("127.0.0.1", 0, optuna_dashboard.wsgi(storage), handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dashboard/studies/1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        storage.engine.dispose()


@pytest.mark.filterwarnings("ignore")  # of optuna-dashboard
def test_optuna_s_dashboard_names_the_same_best_with_its_score(browser: Any, tmp_path: Path) -> None:
    study = studies.load(REFERENCE)
    with dashboard(study, tmp_path / "study.db") as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector(f"text=Best Trial (number={study.best().trial})", timeout=30_000)
        text = page.inner_text("body")
        page.close()
    assert "score in dB at 8100 steps" in text
    assert f"{study.best().score(study.final_rung):.4f}"[:6] in text
