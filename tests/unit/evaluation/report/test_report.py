"""The report of a folder with known numbers, in all its formats."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from matplotlib.figure import Figure

from sempa_lightning.errors import UserError
from sempa_lightning.evaluation.report import write_report
from sempa_lightning.evaluation.report.charts.chart import drawn
from sempa_lightning.evaluation.report.charts.trade import pareto

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Checks nesting; collects tags, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def report(evaluation):
    pictures = evaluation / "pictures" / "geometry"
    pictures.mkdir(parents=True)
    (pictures / "demo.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    write_report([evaluation], evaluation)
    return evaluation


def tables(folder):
    return {table["key"]: table for table in json.loads((folder / "report.json").read_text())["tables"]}


def texts(table, group):
    return {line["row"]: [cell["text"] for cell in line["cells"]] for line in table["lines"] if line["group"] == group}


def test_sts_is_like_table_3(report):
    """Average of 0.5 and 0.6, 0.7 and 0.7; its standard error is √(0.03² + 0.04²) / 2 = 0.025."""
    table = tables(report)["sts"]
    assert table["columns"] == ["STS-B", "SICK-R", "average of 2"]
    assert texts(table, "measured") == {"before": ["50.00", "60.00", "55.00"], "after": ["70.00", "70.00", "70.00"]}
    assert texts(table, "change") == {"after": ["+20.00 ± 3.00", "+10.00 ± 4.00", "+15.00 ± 2.50"]}
    assert [cell.get("best") for cell in table["lines"][1]["cells"]] == [True, True, True]


def test_generation_shows_every_task_and_averages_those_that_can_speak(report):
    table = tables(report)["harness"]
    assert table["columns"] == ["arc easy°", "lambada", "average of 1"]
    assert texts(table, "change") == {"after": ["+10.00 ± 1.00", "−5.00 ± 1.00", "−5.00 ± 1.00"]}
    assert "three standard errors above chance" in " ".join(table["notes"])


def test_the_headline_tells_both_halves(report):
    claims = json.loads((report / "report.json").read_text())["claims"]
    assert [(claim["side"], claim["text"]) for claim in claims] == [
        ("Embeddings", "+15.00 ± 2.50"),
        ("Generation", "−5.00 ± 1.00"),
    ]
    assert claims[0]["verdict"].startswith("better; 95 % interval +10.10 … +19.90")
    assert claims[1]["verdict"].startswith("worse; 95 % interval −6.96 … −3.04")
    assert claims[1]["details"]["perplexity"] == "20.00 → 22.00 (+2.00 ± 0.50)"
    assert claims[1]["what"] == "acc × 100, harness_local/lambada (1 at chance left out)"


def test_held_out_text_speaks_where_all_benchmarks_are_at_chance(evaluation):
    path = evaluation / "results/before/harness_local/lambada.json"
    path.write_text(path.read_text().replace("false", "true"))
    write_report([evaluation], evaluation)
    claim = json.loads((evaluation / "report.json").read_text())["claims"][1]
    assert claim["text"] == "−1.00 ± 2.00"
    assert claim["what"] == "next token accuracy × 100, generation/demo (all 2 benchmarks are at chance)"
    assert claim["verdict"] == (
        "next token accuracy: 95 % interval −4.92 … +2.92 holds 0 (± standard error over items);"
        " perplexity is worse: +2.00, interval +1.02 … +2.98"
    )


def test_no_change_is_claimed_only_where_no_main_metric_changed(evaluation):
    for stage in ("before", "after"):
        (evaluation / f"results/{stage}/harness_local/lambada.json").unlink()
    path = evaluation / "results/after/generation/demo.json"
    path.write_text(path.read_text().replace('"perplexity": 0.5', '"perplexity": 5.0'))
    write_report([evaluation], evaluation)
    claim = json.loads((evaluation / "report.json").read_text())["claims"][1]
    assert claim["verdict"].startswith("95 % interval −4.92 … +2.92 holds 0: no change is shown")


def test_a_clear_change_the_other_way_stands_beside_a_clear_headline(evaluation):
    path = evaluation / "results/after/sts/sick.json"
    path.write_text(path.read_text().replace('"spearman": 0.7', '"spearman": 0.5'))
    write_report([evaluation], evaluation)
    claim = json.loads((evaluation / "report.json").read_text())["claims"][0]
    assert claim["verdict"].startswith("better; 95 % interval +0.10")
    assert claim["verdict"].endswith("SICK-R is worse: −10.00, interval −17.84 … −2.16")
    assert claim["details"]["tasks"] == "STS-B, SICK-R"


def test_lower_is_better_where_it_is(report):
    line = next(line for line in tables(report)["generation"]["lines"] if line["group"] == "demo")
    assert line["row"] == "before"
    assert [cell.get("best") for cell in line["cells"]] == [True, True, True]
    page = (report / "report.html").read_text()
    assert '<td class="worse">+2.00 <small>± 0.50</small></td>' in page


def test_all_formats_have_the_same_tables(report):
    found = tables(report)
    cells = [
        (table["key"], line["group"], line["row"], column, cell["text"])
        for table in found.values()
        for line in table["lines"]
        for column, cell in zip(table["columns"], line["cells"], strict=True)
    ]
    rows = csv.DictReader(io.StringIO((report / "report.csv").read_text()))
    assert [(row["table"], row["group"], row["row"], row["column"], row["text"]) for row in rows] == cells
    markdown, latex, page = ((report / f"report.{ending}").read_text() for ending in ("md", "tex", "html"))
    words = "".join(Page(page).words)
    for table in found.values():
        assert f"## {table['title']}" in markdown.replace("\\", "")
        assert rf"\label{{tab:{table['key'].replace('_', '-')}}}" in latex
        assert table["title"] in words or table["key"] == "headline"
    assert latex.count(r"\begin{tabular}") == latex.count(r"\bottomrule") == len(found)
    for number in ("55.00", "70.00", "20.00"):
        assert number in markdown
        assert number in latex
        assert number in words
    assert "| after | +20.00 ± 3.00 | +10.00 ± 4.00 | +15.00 ± 2.50 |" in markdown
    assert r"after & +20.00 $\pm$ 3.00 & +10.00 $\pm$ 4.00 & +15.00 $\pm$ 2.50 \\" in latex


def test_the_page_loads_nothing_and_runs_nothing(report):
    text = (report / "report.html").read_text()
    page = Page(text)
    assert "script" not in page.tags
    loads = [value for name, value in page.attributes if name in ("src", "href")]
    assert loads
    assert all(value.startswith(("#", "data:image/")) for value in loads)
    assert "@import" not in text
    assert "url(" not in text
    assert "<script>alert(1)</script> a | b_c" in page.words
    assert "geometry / demo" in page.words


def test_texts_of_tasks_are_escaped_everywhere(report):
    assert "&lt;script&gt;alert(1)&lt;/script&gt; a \\| b\\_c" in (report / "report.md").read_text()
    latex = (report / "report.tex").read_text()
    assert r"\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{} a \textbar{} b\_c" in latex
    assert not re.search(r"(?<!\\)[_#]", re.sub(r"(?m)^%.*$", "", latex))


def test_tokens_are_like_table_7(report):
    table = tables(report)["tokens_demo_examples"]
    assert [[cell["text"] for cell in line["cells"]] for line in table["lines"]] == [["[▁a] <b>", "▁b"]]


def test_failures_are_listed_and_lose_nothing_else(report):
    table = tables(report)["failures"]
    assert [line["row"] for line in table["lines"]] == ["pairs/broken"]
    assert [cell["text"] for cell in table["lines"][0]["cells"]] == [
        "failed",
        "before, after",
        "out of memory & <time>",
    ]
    assert "pairs" not in tables(report)


def test_a_folder_in_which_no_task_had_its_data(tmp_path, write):
    folder = write(tmp_path / "empty", {}, manifest={"skipped": {"sts/stsb": "no file x.csv"}})
    write_report([folder], folder)
    Page((folder / "report.html").read_text())
    assert [line["row"] for line in tables(folder)["failures"]["lines"]] == ["sts/stsb"]


def test_standard_errors_come_from_the_summary_too(tmp_path, write):
    results = {
        f"{stage}/sts/demo": {"metrics": {"spearman": value}} for stage, value in (("before", 0.5), ("after", 0.6))
    }
    folder = write(tmp_path / "e", results, summary={"change_se/sts/demo/spearman": 0.01})
    write_report([folder], folder)
    assert texts(tables(folder)["sts"], "change") == {"after": ["+10.00 ± 1.00"]}


def test_two_models_are_compared_by_their_items(tmp_path, write):
    columns = {"one": torch.tensor([0.0, 1.0] * 50), "two": torch.tensor([0.0, 1.0, 1.0, 1.0] * 25)}
    folders = [
        write(
            tmp_path / name,
            {"before/harness/arc": {"metrics": {"acc": float(column.mean())}}},
            config={"model": {"path": f"org/{name}"}},
            items={"before/harness/arc": {"acc": column}},
        )
        for name, column in columns.items()
    ]
    write_report(folders, tmp_path / "out")
    table = tables(tmp_path / "out")["harness"]
    assert texts(table, "measured") == {"one": ["50.00"], "two": ["75.00"]}
    cell = next(line for line in table["lines"] if line["group"] == "change")["cells"][0]
    # A quarter of the items changed by 1: √(0.25 · 0.75 / 100) = 0.0433
    assert cell["value"] == pytest.approx(25.0)
    assert cell["error"] == pytest.approx(4.33, rel=0.1)


def test_paper_ours_and_the_difference(tmp_path, write):
    tasks = ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sick")
    results = {f"before/sts/{task}": {"metrics": {"spearman": 0.6}} for task in tasks}
    folder = write(tmp_path / "llama", results, config={"model": {"path": "meta-llama/Llama-2-7b-hf"}})
    write_report([folder], folder)
    table = tables(folder)["sts"]
    assert texts(table, "SemPA, Table 3, LLaMA2-7B")["SemPA"][-1] == "77.69"
    # 60 - 58.81 and 60 - 70.03
    assert texts(table, "ours − paper")["base − PromptEOL"][0] == "+1.19"
    assert texts(table, "ours − paper")["base − PromptEOL"][-1] == "−10.03"


def test_no_folder_of_an_evaluation_is_an_error(tmp_path):
    with pytest.raises(UserError, match="holds no evaluation"):
        write_report([tmp_path], tmp_path)


def test_a_damaged_result_is_an_error_that_names_it(evaluation):
    (evaluation / "results/before/sts/stsb.json").write_text("{")
    with pytest.raises(UserError, match=r"stsb\.json is no JSON"):
        write_report([evaluation], evaluation)


def test_pictures_say_how_to_read_them(report):
    words = "".join(Page((report / "report.html").read_text()).words)
    assert words.count("Points, with 95 % intervals.") == 2
    assert words.count("Hollow: the base is at chance.") == 1  # on the side of generation
    assert "Right and up is better." in words


def test_a_sweep_has_a_wide_map_numbered_points_and_short_names_of_folders(tmp_path, write):
    """Ten rows, of which no other beats the last two: one is the best at embeddings, one at generation."""
    for job in range(10):
        numbers = {
            "before/sts/stsb": {"spearman": 0.3 if job == 9 else 0.05 * job},
            "before/generation/demo": {"next_token_accuracy": 0.4 if job == 9 else 0.01 * job},
        }
        readout = {"layer": -1 - job // 2, "template": {"text": "{sentence}"}}
        write(
            tmp_path / "sweep" / str(job),
            {place: {"metrics": metrics} for place, metrics in numbers.items()},
            config={"readout": readout},
            manifest={"overrides": [f"readout={'ab'[job % 2]}", f"readout.layer={readout['layer']}"]},
        )
    write_report([tmp_path / "sweep"], tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert page.count('<figure class="wide">') == 1
    assert "on both sides. 1: a · layer −5; 2: b · layer −5." in "".join(Page(page).words)
    folders = tables(tmp_path / "out")["folders"]
    assert [line["row"] for line in folders["lines"]] == [str(job) for job in range(10)]
    assert folders["notes"] == [f"In {tmp_path}/sweep."]


def test_the_same_folder_gives_the_same_page(report):
    first = (report / "report.html").read_text()
    write_report([report], report)
    assert (report / "report.html").read_text() == first


def test_points_that_another_beats_are_not_in_front():
    points = [(1.0, 5.0), (2.0, 4.0), (1.5, 4.0), (3.0, 1.0), (3.0, 0.5)]
    assert pareto(points) == [(1.0, 5.0), (2.0, 4.0), (3.0, 1.0)]


def test_numbers_beside_an_axis_are_whole():
    """Not what is to be added to a number in the corner. Letters are drawn; what they spell stands in comments."""

    def draw():
        figure = Figure()
        figure.add_subplot().plot([0, 1], [8268.52, 8268.54])
        return figure

    svg = drawn("Perplexity", draw).svg
    assert "<!-- 8268.53" in svg
    assert "<!-- +8" not in svg


def test_the_navigation_leads_to_every_section(report):
    page = (report / "report.html").read_text()
    anchors = re.findall(r'<a href="#([^"]+)">', page)
    assert anchors == re.findall(r'<h2 id="([^"]+)">', page)
    assert {"pictures", "configs", "sts", "At-a-glance"} <= set(anchors)


def test_a_collapse_stands_beside_alignment(evaluation):
    for stage, cosine in (("before", 0.99), ("after", 0.5)):
        path = evaluation / f"results/{stage}/geometry/demo.json"
        content = json.loads(path.read_text())
        content["metrics"] |= {"mean_cosine": cosine, "alignment": 0.1}
        path.write_text(json.dumps(content))
    write_report([evaluation], evaluation)
    notes = tables(evaluation)["geometry"]["notes"]
    assert [note.partition(":")[0] for note in notes] == ["before"]
    assert "mean cosine 0.99" in notes[0]
