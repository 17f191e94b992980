from __future__ import annotations

import json
import random
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import record_factory as factory
from report_page import page_of

from vnbench.analysis.findings import Findings
from vnbench.analysis.planning.capacity import PlannedRun, recommend
from vnbench.cli.app import run
from vnbench.commands.plan.asked import plan_values
from vnbench.commands.plan.plan import plan_records
from vnbench.commands.report.planner_tables import EXAMPLES, MAX_INTERRUPTIONS
from vnbench.errors import PlanError
from vnbench.output.answer_sentence import answer_sentence
from vnbench.records.store import load_all

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SHIPPED = Path(__file__).parents[2] / "results/cpu-amd-epyc/wallclock.jsonl"

NUM_SETTINGS = 50


@pytest.fixture(name="found", scope="module")
def _found() -> Findings:
    return Findings(load_all([SHIPPED]).records)


@pytest.fixture(name="shipped", scope="module")
def _shipped(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(SHIPPED, tmp_path_factory.mktemp("shipped"), "--examples", "2000", "--epochs", "20")


@pytest.fixture(name="gpu", scope="module")
def _gpu(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(factory.gpu_campaign(), tmp_path_factory.mktemp("gpu"), "--examples", "2000", "--epochs", "20")


def open_at(page: Page, address: str, state: dict[str, str]) -> None:
    """Open the page anew with a state in its address."""
    page.goto("about:blank")
    page.goto(f"{address}#{urlencode(state)}")


def answer(page: Page) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(page.locator("#planner-answer").get_attribute("data-plan") or "")
    return found


def drawn_settings(tables: dict[str, Any], choice: random.Random) -> dict[str, str]:
    """Return a state of all controls, most of the levers left to the planner."""
    levers = {
        name: sorted({one["levers"][name] for one in tables["configurations"]}, key=str)
        for name in tables["lever_names"]
    }
    workers = sorted({supply[0] for one in tables["configurations"] for supply in one["supplies"]})
    state = {
        "examples": str(choice.choice(EXAMPLES)),
        "epochs": str(choice.randint(1, 200)),
        "window": str(choice.choice([0.5, 2, 8, 12, 100])),
        "interruptions": str(choice.randint(0, MAX_INTERRUPTIONS)),
        "snapshot-interval": choice.choice(["best", "epoch", "none", "60", "900"]),
        "memory": str(choice.randrange(len(tables["memory"]))),
        "num-workers": choice.choice(["any", *map(str, workers)]),
    }
    for name, values in levers.items():
        if len(values) > 1 and choice.random() < 0.25:
            state[name.replace("_", "-")] = str(choice.choice(values))
    return state


def planned(found: Findings, tables: dict[str, Any], state: dict[str, str]) -> PlannedRun | None:
    """Return what ``vnbench plan`` recommends among the configurations that the page was held to."""
    flags: dict[str, str | None] = {name: state[name] for name in ("examples", "epochs", "interruptions")}
    flags["window"] = f"{float(state['window']) * 3600:g}s"
    rule = state["snapshot-interval"]
    flags["snapshot-interval"] = f"{rule}s" if rule.isdigit() else rule
    flags["batch-size"] = state.get("batch-size")
    flags["num-workers"] = None if state["num-workers"] == "any" else state["num-workers"]
    name, size = tables["memory"][int(state["memory"])]
    flags["memory"] = None if size is None else name.replace(" ", "")
    try:
        report = plan_records(found, plan_values(flags), sources=(SHIPPED,))
    except PlanError:
        return None
    held = {name: state[name.replace("_", "-")] for name in tables["lever_names"] if name.replace("_", "-") in state}
    able = [one for one in report.runs if all(str(one.levers[name]) == value for name, value in held.items())]
    best = recommend(able)
    return None if best is not None and best.verdict == "unknown" and size is not None else best


def test_the_page_agrees_with_the_command_at_random_settings(page: Page, shipped: str, found: Findings) -> None:
    page.goto(shipped)
    agree(page, found, num_settings=NUM_SETTINGS)


@pytest.mark.parametrize("card", [("--card", "h200"), ()], ids=["chosen", "first"])
def test_the_page_agrees_with_the_command_on_forecasts_and_hatches_them(
    page: Page, tmp_path: Path, card: tuple[str, ...]
) -> None:
    records = [
        factory.forecast_record(factory.forecast_spec(micro_batch_size=size, precision=precision, card=card))
        for size in (1, 4)
        for precision in ("fp32", "bf16")
        for card in ("H200", "L4")
    ]
    page.goto(page_of(records, tmp_path, "--examples", "2000", "--epochs", "20", *card))
    agree(page, Findings([record for record in records if record.spec.card == "H200"]), num_settings=NUM_SETTINGS // 2)
    open_at(page, page.url.partition("#")[0], {"batch-size": "4", "epochs": "50"})
    told = page.locator("#planner-answer").text_content() or ""
    assert "Worst-case memory 5.08 GiB to 5.99 GiB: fits. Evidence: forecast." in told
    planned = answer(page)
    assert planned is not None
    assert planned["p10"] < 0.95 * planned["p50"] < planned["p50"] < 0.8 * planned["p90"]
    boxes = page.locator("#planner-batches .hatch").count()
    assert boxes == page.locator("#planner-batches .drawing .mark").count() > 2
    assert page.locator("#planner-interruptions .hatch").count() == 2
    assert page.locator("#planner-bar .hatch").count() == 1
    assert "--card h200" in (page.locator("#planner-command").text_content() or "").casefold()


def test_a_setting_of_the_allocator_is_held_by_the_command_shown(
    page: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "max_split_size_mb:128,roundup_power2_divisions:[1:2,>:4]"
    records = [factory.forecast_record(factory.forecast_spec(allocator=one)) for one in ("native", text)]
    open_at(page, page_of(records, tmp_path), {"allocator": text})
    planned = answer(page)
    assert planned is not None
    assert planned["levers"]["allocator"] == text
    command = shlex.split(page.locator("#planner-command").text_content() or "")
    capsys.readouterr()
    assert run([*command[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recommended"]["spec"]["allocator"] == text


def agree(page: Page, found: Findings, *, num_settings: int) -> None:
    """Hold an open page to what ``vnbench plan`` says of the same records, at so many random settings."""
    tables = json.loads(page.locator("#planner-tables").text_content() or "")
    choice = random.Random(7)
    answered = 0
    while answered < num_settings:
        state = drawn_settings(tables, choice)
        page.evaluate("address => { history.replaceState(null, '', address); fromAddress(); }", f"#{urlencode(state)}")
        ours, expected = answer(page), planned(found, tables, state)
        assert (ours is None) == (expected is None), state
        if ours is None or expected is None:
            continue
        answered += 1
        assert ours["levers"] == dict(expected.levers), state
        for name in ("p10", "p50", "p90", "mean"):
            assert ours[name] == pytest.approx(getattr(expected.finish, name), rel=1e-3), (name, state)
        assert expected.finish.probability is not None
        assert ours["probability"] == pytest.approx(expected.finish.probability, abs=1e-3)
        assert ours["interval_s"] == (
            None if expected.interval_s is None else pytest.approx(expected.interval_s, rel=1e-3)
        )
        assert ours["need_bytes"] == pytest.approx(expected.need_bytes, rel=1e-6)
        assert (ours["verdict"], ours["evidence"]) == (expected.verdict, expected.evidence)


def test_the_page_opens_with_the_answer_of_the_sweep_and_that_of_the_planner_is_in_sight(
    page: Page, shipped: str, found: Findings
) -> None:
    page.goto(shipped)
    answered = page.locator(".answer p").first
    assert answered.text_content() == answer_sentence(found)
    planned = page.locator("#planner-answer p").first
    for one in (answered, planned):
        box = one.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 900
    assert (planned.text_content() or "").removesuffix(".") in (page.locator("#plan p").first.text_content() or "")


def test_a_control_is_moved_by_key_and_the_address_keeps_it(page: Page, shipped: str) -> None:
    page.goto(shipped)
    before = answer(page)
    page.get_by_role("slider", name="Interruptions").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.hash === '#interruptions=2'")
    after = answer(page)
    assert before is not None
    assert after is not None
    assert after["p50"] > before["p50"] + 2 * 300
    page.reload()
    assert answer(page) == after
    page.get_by_role("button", name="As in this report").click()
    assert answer(page) == before
    assert "#" not in page.url


def test_the_published_runs_are_a_press_away(page: Page, gpu: str) -> None:
    page.goto(gpu)
    for name, batch in (("Binary run", 1), ("Multiclass run", 16)):
        page.get_by_role("button", name=name).click()
        found = answer(page)
        assert found is not None
        assert found["levers"]["batch_size"] == batch
    assert "--examples 15000 --epochs 50 --batch-size 16" in (page.locator("#planner-command").text_content() or "")


def test_the_command_shown_gives_the_answer_of_the_page(
    page: Page, shipped: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(SHIPPED.parents[2])
    state = {"sampler": "random", "precision": "bf16", "interruptions": "2", "window": "1.3", "batch-size": "2"}
    open_at(page, shipped, state)
    command = shlex.split(page.locator("#planner-command").text_content() or "")
    assert command[command.index("--window") + 1] == "78m"
    assert run([*command[1:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["recommended"]
    ours = answer(page)
    assert ours is not None
    assert ours["levers"] == told["spec"]
    assert ours["p50"] == pytest.approx(told["wall_clock_s"]["p50"], rel=1e-3)
    assert ours["probability"] == pytest.approx(told["probability_finish"], abs=1e-3)


def test_a_window_of_whole_hours_is_written_in_hours(page: Page, shipped: str) -> None:
    page.goto(shipped)
    assert " --window 12h" in (page.locator("#planner-command").text_content() or "")


@pytest.mark.parametrize("window", ["", "0", "-5"])
def test_without_a_window_no_probability_is_told(page: Page, shipped: str, window: str) -> None:
    page.goto(shipped)
    page.get_by_label("Window, hours").fill(window)
    page.wait_for_function("document.getElementById('planner-answer').textContent.includes('Give a window')")
    assert "probability" not in (page.locator("#planner-answer").text_content() or "")
    assert "--window" not in (page.locator("#planner-command").text_content() or "")


def test_the_planner_offers_the_interruptions_of_its_report(page: Page, tmp_path: Path) -> None:
    address = page_of(SHIPPED, tmp_path, "--examples", "2000", "--epochs", "20", "--interruptions", "20")
    page.goto(address)
    told = page.locator("#plan p").first.text_content() or ""
    assert (page.locator("#planner-answer p").first.text_content() or "").removesuffix(".") in told


def test_an_address_that_makes_no_sense_is_left_at_the_defaults(page: Page, shipped: str) -> None:
    page.goto(shipped)
    expected = answer(page)
    state = {"examples": "<script>", "epochs": "-3", "precision": "fp7", "memory": "99", "window": "x", "foo": "1"}
    open_at(page, shipped, state)
    assert answer(page) == expected


def test_what_does_not_fit_is_told_with_the_smallest_that_does(page: Page, gpu: str) -> None:
    page.goto(gpu)
    page.get_by_label("Memory of the card").select_option(index=1)
    page.wait_for_function("location.hash.includes('memory=1')")
    assert answer(page) is None
    assert "Nothing fits into" in (page.locator("#planner-answer").text_content() or "")
    assert page.locator("#planner-interruptions").is_hidden()


def test_every_control_has_a_name_and_every_chart_its_numbers(page: Page, shipped: str) -> None:
    page.goto(shipped)
    for control in page.locator("#planner-controls input, #planner-controls select").all():
        assert (control.evaluate("control => control.labels[0].textContent") or "").strip()
    for name in ("batches", "interruptions"):
        figure = page.locator(f"#planner-{name}")
        assert figure.locator("svg[role=img]").first.get_attribute("aria-label")
        figure.locator("summary").click()
        rows = figure.locator("table tr").all()
        assert len(rows) > 5
        assert "80 %" in (rows[1].text_content() or "")


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_over_the_edge(browser: Browser, shipped: str, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{shipped}#interruptions=3")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ink, paper = page.evaluate("(style => [style.color, style.backgroundColor])(getComputedStyle(document.body))")
    light, dark = sorted((sum(json.loads(f"[{colour[4:-1]}]")) for colour in (ink, paper)), reverse=True)
    assert light - dark > 500
    context.close()


def test_on_a_telephone_a_figure_fills_the_page_and_is_not_cut(page: Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 400, "height": 900})
    page.goto(page_of(SHIPPED, tmp_path, "--examples", "2000", "--epochs", "20", drawn=("effects", "padding")))
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    for picture in page.locator("figure img").all():
        box = picture.bounding_box()
        assert box is not None
        assert box["width"] > 0.9 * 400
        assert box["x"] + box["width"] <= 400
    assert page.locator("figure img").count() == 2


def test_the_table_of_trials_sorts_by_number_and_back(page: Page, shipped: str) -> None:
    page.goto(shipped)
    heading = page.locator("#trials th", has_text="trial, s")
    for direction in ("ascending", "descending"):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == direction
        times = [float(cell.text_content() or "") for cell in page.locator("#trials tbody td:nth-child(9)").all()]
        assert times == sorted(times, reverse=direction == "descending")


def test_the_page_asks_for_nothing_and_lets_nothing_foreign_run(browser: Browser, shipped: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(shipped)
    page.evaluate(
        """() => { const script = document.createElement("script"); script.textContent = "globalThis.ran = 1";
        document.body.append(script); }"""
    )
    assert page.evaluate("globalThis.ran") is None
    assert page.evaluate("fetch('https://example.org').then(() => 'asked', () => 'refused')") == "refused"
    assert asked == [shipped]
    context.close()


def test_markup_in_a_record_is_shown_and_not_run(page: Page, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror='globalThis.ran=1'>"
    records = factory.gpu_campaign(device_name=hostile)
    page.goto(page_of(records, tmp_path))
    assert hostile in (page.locator("h1").text_content() or "")
    assert page.evaluate("globalThis.ran") is None
    assert answer(page) is not None
