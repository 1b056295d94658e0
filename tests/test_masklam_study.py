import json
import re
from pathlib import Path

import moving_square
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from masklam import plots, results, study
from masklam.settings import Settings

TOML = """
name = "tiny"
[data]
directory = "data"
envs = ["walker"]
difficulties = ["easy"]
[grid]
method = ["lapo", "masklam", "bc"]
latent_dim = [4, 8]
mask_corruption = ["", "dilate:1"]
[train]
steps = 20
policy_steps = 20
decoder_steps = 20
batch = 8
res_blocks = 0
policy_scale = 1
probe_every = 20
eval_episodes = 0
labelled_trajectories = [1]
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)  # small tensors; more threads only wait for each other
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("DMASK_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.toml"
    path.write_text(TOML)
    return path


def test_options_that_a_method_does_not_have_make_no_run(file):
    names = [run.folder.rpartition("/")[2] for run in study.read(file).runs()]
    assert sorted(names) == sorted(
        [
            "lapo-d4-seed0",
            "lapo-d8-seed0",
            "masklam-d4-seed0",
            "masklam-d4-dilate1-seed0",
            "masklam-d8-seed0",
            "masklam-d8-dilate1-seed0",
            "bc-seed0",
        ]
    )


def test_every_option_of_the_grid_makes_runs_of_their_own(file):
    extra = '[[extra]]\nmethod = "lapo"\nquantize = "fsq"\n'
    file.write_text(
        TOML.replace("latent_dim = [4, 8]", "").replace("[train]", "lr = [1e-3, 1e-4]\nseed = [0, 1]\n[train]")
        + extra
    )
    names = [run.folder.rpartition("/")[2] for run in study.read(file).runs()]
    methods = ["lapo-d64", "masklam-d64", "masklam-d64-dilate1", "bc"]
    rates = [f"{name}{rate}" for name in methods for rate in ("", "-lr0.0001")]
    assert sorted(names) == sorted(f"{name}-seed{seed}" for name in [*rates, "lapo-d64-fsq"] for seed in (0, 1))


def test_a_method_with_labels_has_a_run_for_each_number_of_labelled_trajectories(file):
    budgets = "labelled_trajectories = [1, 4]"
    extra = '[[extra]]\nmethod = "bc"\nlabelled_trajectories = "all"\n[[extra]]\nname = "upper"\nmethod = "idm"\n'
    methods = '["lapo", "laom-labels", "bc"]'
    file.write_text(
        TOML.replace('["lapo", "masklam", "bc"]', methods).replace("labelled_trajectories = [1]", budgets)
        .replace('["", "dilate:1"]', '[""]').replace("[4, 8]", "[4]").replace("mask_corruption", "quantize") + extra
    )  # fmt: skip
    runs = {run.label: run.settings.labelled_trajectories for run in study.read(file).runs()}
    assert runs == {
        "lapo-d4": (1, 4),
        "laom-labels-d4-labels-1": (1,),
        "laom-labels-d4-labels-4": (4,),
        "bc-labels-1": (1,),
        "bc-labels-4": (4,),
        "bc-labels-all": (0,),
        "upper-labels-1": (1,),
        "upper-labels-4": (4,),
    }


def test_what_a_method_ignores_is_left_out_only_where_it_is_shared(file):
    runs = {run.label: run.settings for run in study.read(file).runs()}
    assert runs["bc"].steps == Settings.steps  # [train] gives it to those that have such a stage
    file.write_text(TOML + '[[extra]]\nmethod = "bc"\nsteps = 30\n')
    with pytest.raises(DmaskError, match="--steps does nothing for bc"):
        study.read(file).runs()
    file.write_text(TOML.replace("mask_corruption", "ema").replace('["", "dilate:1"]', "[0.1, 0.2]"))
    with pytest.raises(DmaskError, match=r"none of the methods of \[grid\] takes ema"):
        study.read(file)


@pytest.mark.parametrize("name", ["cpu", "paper"])
def test_the_studies_that_come_with_the_package_can_be_planned(name):
    plan = study.read(Path(__file__).parents[1] / "scripts" / "studies" / f"{name}.toml")
    runs = plan.runs()
    assert len({run.folder for run in runs}) == len(runs) > 5


def test_a_run_beside_the_grid_is_told_from_the_usual_options_not_from_the_defaults(file):
    extra = '[[extra]]\nmethod = "masklam"\nbatch = 64\nlatent_dim = 4\n'
    file.write_text(TOML + extra)
    runs = {run.folder.rpartition("/")[2]: run.settings.batch for run in study.read(file).runs()}
    assert (runs["masklam-d4-seed0"], runs["masklam-d4-batch64-seed0"]) == (8, 64)


def test_a_run_that_fails_leaves_the_others(file, monkeypatch):
    file.write_text(TOML.replace('["lapo", "masklam", "bc"]', '["masklam"]').replace('["", "dilate:1"]', '[""]'))
    moving_square.write(file.parent / "data" / "easy", episodes=4, steps=12)
    monkeypatch.setattr(study, "make_datasets", lambda plan: None)
    blocked = file.parent / study.read(file).runs()[0].folder
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where the run's folder should be")
    with pytest.raises(DmaskError, match=r"1 of 2 runs failed; the first: .*masklam-d4-seed0"):
        study.study(file)
    rows = pq.read_table(file.parent / "results" / "tiny.parquet").to_pylist()
    assert {row["label"] for row in rows} == {"masklam-d8"}


def test_a_study_trains_resumes_and_writes_its_results(file, monkeypatch):
    file.write_text(TOML.replace('["lapo", "masklam", "bc"]', '["masklam"]').replace('["", "dilate:1"]', '[""]'))
    moving_square.write(file.parent / "data" / "easy", episodes=4, steps=12)
    monkeypatch.setattr(study, "make_datasets", lambda plan: None)
    text = study.study(file)
    assert len(text.splitlines()) == 4
    rows = pq.read_table(file.parent / "results" / "tiny.parquet").to_pylist()
    assert {row["label"] for row in rows} == {"masklam-d4", "masklam-d8"}
    pictures = {path.name for path in (file.parent / "results").glob("*.png")}
    assert pictures == {"tiny-curves.png", "tiny-nmse.png", "tiny-latent-dim.png"}
    monkeypatch.setattr(study, "_train", None)  # nothing is left to train
    assert study.study(file) == text


def test_bad_studies_are_named(file):
    file.write_text(TOML.replace("latent_dim", "latent_dmi"))
    with pytest.raises(DmaskError, match="did you mean 'latent_dim'"):
        study.read(file)
    with pytest.raises(DmaskError, match="can't be read"):
        study.read(file.with_name("other.toml"))


@pytest.mark.parametrize("name", ["../x", "/abs", "a/b", "..", ".hidden", "", "a\\nb", "a b"])
def test_the_name_of_a_study_does_not_lead_out_of_its_folder(file, name):
    file.write_text(TOML.replace('"tiny"', f'"{name}"'))
    with pytest.raises(DmaskError, match="is no plain word"):
        study.read(file)


def test_neither_do_the_names_of_its_runs(file):
    runs = '[[extra]]\nmethod = "lapo"\nname = "../../x"\n[[extra]]\nmethod = "lapo"\nimage_column = "a.../b"\n'
    file.write_text(TOML.replace("walker", "../walker") + runs)
    for run in study.read(file).runs():
        assert len(Path(run.folder).parts) == 6
        assert ".." not in Path(run.folder).parts


VARIED = """
name = "varied"
[data]
directory = "data"
envs = ["walker", "cheetah"]
difficulties = ["clean", "easy"]
[grid]
method = ["lapo", "masklam"]
latent_dim = [4, 8]
seed = [0, 1, 2]
[train]
batch = 8
[[extra]]
method = "lapo"
latent_dim = 8
quantize = "fsq"
[[extra]]
method = "lapo"
image_column = "observation.image_clean"
[[extra]]
method = "masklam"
mask_corruption = "dilate:1"
[[extra]]
method = "lapo"
steps = 4000
[[extra]]
method = "laom-labels"
labelled_trajectories = [2, 8]
"""


def measured(plan, value):
    """Rows of a study whose runs have results: `value(run, place or split and budget)` for each number."""
    for run in plan.runs():
        places = {
            place: {"nmse": value(run, place), "per_dimension": [], "shuffled": value(run, place, "shuffled")}
            for place in ("in", "out")
        }
        budgets = run.settings.labelled_trajectories or (2, 8)
        returns = {
            split: {
                str(n): {"returns": [value(run, split, n)], "normalised": value(run, split, n, "normalised")}
                for n in budgets
            }
            for split in ("train", "test")
        }
        storage.write_json(Path(run.folder) / "results.json", {"linear_probe": places, "returns": returns})
        log = {"stage": "lam", "step": 10, "probe_nmse": value(run, "curve")}
        (Path(run.folder) / "metrics.jsonl").write_text(json.dumps(log) + "\n")
    return [row for run in plan.runs() for row in results.collect(plan.name, run)]


def test_nothing_but_seeds_is_averaged(file):
    """Every condition has a number of its own, and no mean of two of them is one: only those may be seen."""
    file.write_text(VARIED)
    plan, numbers = study.read(file), {}

    def value(run, *what):
        condition = (run.env, run.difficulty, run.label, *what)  # all but the seed
        return float(1 + numbers.setdefault(condition, len(numbers)) ** 2)

    rows = measured(plan, value)
    expected = {float(1 + k**2) for k in range(len(numbers))}
    for plot in (plots.curves, plots.bars, plots.returns, plots.by_latent_dim):
        drawn = plots.figure(plot, rows)
        panels = [axes for axes in drawn.axes if axes.has_data()]
        assert len(panels) == 4
        lines = [list(curve.get_ydata()) for axes in panels for curve in axes.get_lines()]
        heights = [patch.get_height() for axes in panels for patch in axes.patches]
        shown = heights if plot is plots.bars else [y for ys in lines for y in ys]
        assert shown
        assert {round(float(y), 6) for y in shown} <= expected
    lines = {
        line.get_label(): len(line.get_xdata()) for line in plots.figure(plots.returns, rows).axes[0].get_lines()
    }
    assert lines["laom-labels-d64, train split"] == 2  # the budgets of two runs on one line
    cells = [cell for row in results.summary(rows).splitlines() for cell in row.split(" | ") if "[" in cell]
    assert len(cells) > 100
    for cell in cells:
        middle, low, high = (float(number) for number in re.findall(r"[\d.]+", cell))
        assert middle == low == high
        assert middle in expected


def test_rows_of_two_conditions_have_no_mean():
    rows = [{"seed": seed, "value": 1.0} for seed in (0, 1, 1)]
    with pytest.raises(ValueError, match="several conditions"):
        results.seeds(rows)


def test_returns_are_divided_by_those_of_behaviour_cloning_on_all_actions():
    common = {"kind": "return", "env": "walker-run", "samples": 1, "image_column": "i", "training_episodes": 54}
    rows = [
        {**common, "measure": "return, n", "control": None, **dict(zip(KEYS, values, strict=True))}
        for values in [
            ("easy", "bc-all", "bc", 54, "train", 0, 6.0),
            ("easy", "bc-all", "bc", 54, "train", 1, 10.0),
            ("easy", "bc", "bc", 2, "train", 0, 100.0),  # not all actions
            ("clean", "bc-all", "bc", 54, "train", 0, 100.0),  # another difficulty
            ("easy", "bc-all", "bc", 54, "test", 0, 100.0),  # other videos
            ("easy", "lapo", "lapo", 2, "train", 0, 2.0),
            ("hard", "lapo", "lapo", 2, "train", 0, 2.0),  # nothing to divide by
        ]
    ]
    found = {(row["difficulty"], row["label"], row["split"], row["seed"]): row for row in results.over_cloning(rows)}
    assert found["easy", "lapo", "train", 0]["value"] == 2.0 / 8.0
    assert found["easy", "bc-all", "train", 1]["value"] == 10.0 / 8.0
    assert found["easy", "bc-all", "test", 0]["value"] == 1.0
    assert ("hard", "lapo", "train", 0) not in found
    assert found["easy", "lapo", "train", 0]["kind"] == "bc_normalised_return"


KEYS = ("difficulty", "label", "method", "budget", "split", "seed", "value")


def test_intervals_contain_their_mean_and_shrink_with_more_seeds():
    rng = np.random.default_rng(0)
    few, many = (results.interval(rng.normal(size=(seeds, 2))) for seeds in (4, 100))
    for middle, low, high in (few, many):
        assert low <= middle <= high
    assert many[2] - many[1] < few[2] - few[1]
