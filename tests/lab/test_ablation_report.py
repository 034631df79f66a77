"""The page of the ablation."""

import json

from detector.lab.ablation_grid import DEFAULT_GRID
from detector.lab.ablation_report import GridInfo, format_page, list_comparisons, summarise, to_json
from tests.lab.fake_runs import result, results

INFO = GridInfo(
    config="retina_demo",
    overrides=("data.batch_size=4",),
    length="400 steps",
    seeds=(0, 1),
    num_runs=18,
    precision="bf16",
    command="python tools/loss_lab.py ablate --steps 400",
)
TRAINED = results(
    ce_pi__5=(None, 0.25),
    **{"ce_pi__01": (0.375, 0.375), "ce_a__25": (0.25, 0.25), "ce_a__75": (0.5, 0.5)},
    ohem_1to3=(0.5, 0.75),
    fl_g2_a__25=(0.5, 0.625),
)


def table(page: str) -> dict[tuple[str, str], list[str]]:
    """Return the cells of the main table by the paper's table and the loss."""
    lines = page.split("## Differences")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {(row[0], row[1]): row[2:] for row in rows[2:]}


def test_the_table_has_the_papers_order_its_numbers_and_ours() -> None:
    rows = table(format_page(TRAINED, INFO, picture="ablation.png"))
    assert list(rows) == [
        ("1a", "CE, π .5"),
        ("1a", "CE, π .01"),
        ("1a", "balanced CE, α .25"),
        ("1a", "balanced CE, α .75"),
        ("1b", "balanced CE, α .75"),
        ("1b", "FL (γ 2, α .25)"),
        ("1d", "OHEM 1:3"),
        ("1d", "FL (γ 2, α .25)"),
    ]
    focal = ["2", ".25", ".01", ".562 (.500–.625)", ".812 (.750–.875)", ".438 (.375–.500)"]
    assert rows["1b", "FL (γ 2, α .25)"] == [*focal, ".340", "1.5 min"]
    assert rows["1d", "FL (γ 2, α .25)"] == [*focal, ".360", "1.5 min"]
    assert rows["1a", "CE, π .5"][2:4] == [".5", "diverged (1 of 2), .250"]
    assert rows["1a", "CE, π .5"][6] == "diverges"
    assert rows["1d", "OHEM 1:3"][:2] == ["-", "-"]
    assert rows["1d", "OHEM 1:3"][6] == ".311"


def test_a_part_of_the_grid_gives_a_part_of_the_table() -> None:
    cells = {cell.name: result(cell.name) for cell in DEFAULT_GRID} | results(ce_pi__01=(0.5,))
    rows = table(format_page(cells, INFO, picture="ablation.png"))
    assert rows["1a", "CE, π .01"][3:] == [".500", ".750", ".375", ".302", "1.5 min"]
    assert rows["1b", "FL (γ 5, α .25)"] == ["5", ".25", ".01", "-", "-", "-", ".322", "-"]
    assert list_comparisons(cells) == []
    assert "against OHEM 1:3: not trained" in format_page(cells, INFO, picture="ablation.png")


def test_the_summary_says_in_words_what_is_ahead_and_what_ties() -> None:
    sentences = summarise(TRAINED)
    assert sentences == [
        "FL (γ 2, α .25) against the best balanced CE (balanced CE, α .75): tie (AP .562 against .500, difference "
        "+.0625, larger seed range .1250).",
        "FL (γ 2, α .25) against CE without the prior (CE, π .5): **ahead** (diverged (1 of 2); AP .562 against .250, "
        "difference +.3125, larger seed range .1250).",
        "FL (γ 2, α .25) against OHEM 1:3: tie (AP .562 against .625, difference -.0625, larger seed range .2500).",
    ]


def test_the_best_balanced_cross_entropy_is_the_one_with_the_highest_mean() -> None:
    cells = results(ce_a__25=(0.625, 0.625), ce_a__75=(0.75, 0.25), ce_a__9=(None, 0.9), fl_g2_a__25=(0.5, 0.5))
    assert "(balanced CE, α .25): **behind** (AP .500 against .625" in summarise(cells)[0]


def test_one_seed_decides_nothing() -> None:
    cells = results(ce_a__75=(0.25,), fl_g2_a__25=(0.5,))
    assert "one seed, so no range to tell the difference from chance (AP .500 against .250" in summarise(cells)[0]


def test_ties_are_listed_as_ties() -> None:
    verdicts = {(c.first.cell.name, c.second.cell.name): c.verdict for c in list_comparisons(TRAINED)}
    assert verdicts == {
        ("fl_g2_a.25", "ce_pi.5"): "ahead",
        ("fl_g2_a.25", "ce_pi.01"): "ahead",
        ("fl_g2_a.25", "ce_a.25"): "ahead",
        ("fl_g2_a.25", "ce_a.75"): "tie",
        ("fl_g2_a.25", "ohem_1to3"): "tie",
        ("ce_pi.01", "ce_pi.5"): "ahead",
        ("ce_a.25", "ce_pi.01"): "behind",
        ("ce_a.75", "ce_pi.01"): "ahead",
    }
    page = format_page(TRAINED, INFO, picture="ablation.png")
    assert "| FL (γ 2, α .25) | balanced CE, α .75 | +.0625 | .1250 | tie |" in page
    assert "| balanced CE, α .25 | CE, π .01 | -.1250 | .0000 | behind |" in page


def test_the_page_says_how_it_was_made() -> None:
    page = format_page(TRAINED, INFO, picture="ablation.png")
    assert "![AP of every loss, the mean as a bar and each seed as a dot](ablation.png)" in page
    assert "12 of 18 runs: recipe `retina_demo`, 400 steps a run, seeds 0, 1, bf16; 18 min of training" in page
    assert "a CPU, 2 threads; Python 3.12.1, torch 2.15.0, torchvision 0.30.0; detector 1.2, commit 0123456789" in page
    assert "`data.batch_size=4`" in page
    assert "`python tools/loss_lab.py ablate --steps 400`" in page


def test_the_json_file_has_every_run() -> None:
    content = json.loads(json.dumps(to_json(TRAINED, INFO), allow_nan=False))
    cells = {cell["name"]: cell for cell in content["cells"]}
    assert [run["metrics"].get("AP") for run in cells["ce_pi.5"]["runs"]] == [None, 0.25]
    assert [run["diverged"] for run in cells["ce_pi.5"]["runs"]] == [True, False]
    assert len(content["environments"]) == 1
    assert {comparison["verdict"] for comparison in content["comparisons"]} == {"ahead", "behind", "tie"}
