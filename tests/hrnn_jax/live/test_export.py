"""Exported weights and numpy alone give the scores of the live network."""

import itertools
import pathlib
import shutil
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest

from hrnn_jax.live import export, numpy_scorer
from hrnn_jax.live.recommender import load_recommender
from hrnn_jax.live.states import replay
from hrnn_jax.live.store import state_store
from tests.helpers import live_users, logs, mixtures, runs, weights
from tests.hrnn_jax.live.test_recommender import EXTENSIONS, FORMS


def exported(path, variant="hrnn_init", network=None, excludes=None, **settings):
    config = live_users.config(variant, **network or {})
    about = live_users.about(config, **settings)
    export.write(path, about, weights.drawn(config), exclude_session_items=excludes)
    return numpy_scorer.Scorer(path)


DROPS = (False, True)
# Each form of the paper with and without repeats, and the extensions by turns.
CASES = [(*form, drops) for form in FORMS for drops in DROPS]
CASES += [(*form, drops) for form, drops in zip(EXTENSIONS, itertools.cycle(DROPS), strict=False)]


@pytest.mark.parametrize(("variant", "network", "feed_last_item", "drops"), CASES)
def test_numpy_alone_gives_the_same_lists(tmp_path, variant, network, feed_last_item, drops):
    """Bug: feed an item again that its session has, where repeats were dropped."""
    excludes = not drops  # the opposite of the default
    network = {**network, "feed_last_item": feed_last_item}
    mixture = mixtures.fitted(
        logs.random(3, users=20, sessions=5, n_items=live_users.N_ITEMS),
        live_users.config(variant, **network),
        drops_repeats=drops,
    )
    live = {"mixture": mixture, "drop_repeats": drops}
    scorer = exported(tmp_path / "w.npz", variant, network, excludes, **live)
    keep = {"exclude_session_items": excludes}
    recommender = live_users.recommender(variant=variant, network=network, keep=keep, **live)

    def assert_same(state):
        # Log probabilities are of the size of 10, and sums of the features of up to 256 events.
        live_users.assert_same_lists(
            [scorer.recommend(state, 40)],
            [recommender.recommend(user="u", k=40)],
            atol=1e-4 if mixture else 1e-5,
        )

    state, session, time = scorer.start(), 0, live_users.NOW
    rng = np.random.default_rng(0)
    assert_same(state)
    for n in range(300 if mixture else 25):  # with more events than a history has in order
        opens = n > 0 and rng.random() < 0.4
        session += opens
        time += int(min(rng.lognormal(6, 4), 10**6))
        item = f"i{rng.integers(12)}"  # of few: some come again in a session
        state = scorer.observe(state, item, new_session=opens, time=time)
        recommender.observe(user="u", item=item, time=time, session=session)
        if n < 25 or n % 25 == 0:
            assert_same(state)
    assert session > 3


def test_an_exported_file_leaves_out_what_the_live_lists_do(tmp_path):
    """Bugs: leave nothing out by default, or refuse files of before."""
    for drops, given, expected in (
        *((False, None, 0), (True, None, 2)),
        *((False, True, 2), (True, False, 0)),
    ):
        scorer = exported(tmp_path / "w.npz", excludes=given, drop_repeats=drops)
        state = scorer.observe(scorer.start(), "i9", new_session=False)  # of an earlier session
        for n in range(2):
            state = scorer.observe(state, f"i{n}", new_session=n == 0)
        found = {item for item, _ in scorer.recommend(state, live_users.N_ITEMS)}
        assert len({"i0", "i1", "i9"} - found) == expected
        assert len(scorer.recommend(state, 5)) == 5
    del scorer.weights["exclude_session_items"], scorer.weights["drop_repeats"]
    again = scorer.observe(state, "i0", new_session=False)
    assert again.items == (*state.items, 0)  # as files of before were read
    assert len(scorer.recommend(state, live_users.N_ITEMS)) == live_users.N_ITEMS


@pytest.mark.filterwarnings("error")
def test_nothing_is_left_to_recommend_where_the_session_has_every_item(tmp_path):
    """Bug: nan for every item, from the difference of two infinities."""
    network = {"places": 64}
    mixture = mixtures.fitted(
        logs.random(3, users=20, sessions=5, n_items=live_users.N_ITEMS),
        live_users.config(**network),
        drops_repeats=True,
    )
    scorer = exported(tmp_path / "w.npz", network=network, mixture=mixture, drop_repeats=True)
    state = scorer.start()
    for n in range(live_users.N_ITEMS):
        time = live_users.NOW + n
        state = scorer.observe(state, f"i{n}", new_session=n == 0, time=time)
    assert scorer.recommend(state, 5) == []
    assert (scorer.scores(state) == -np.inf).all()


def test_the_rules_of_the_state_are_worded_alike():
    rules = replay.__doc__[replay.__doc__.index("- An event's item") :]
    assert len(rules.splitlines()) == 5
    assert numpy_scorer.__doc__.endswith(rules)


def test_a_network_that_reads_times_needs_them(tmp_path):
    scorer = exported(tmp_path / "w.npz", network={"idle_gap": True})
    with pytest.raises(ValueError, match="give `time`, in Unix seconds"):
        scorer.observe(scorer.start(), "i1", new_session=True)


def test_an_unknown_item_is_an_error(tmp_path):
    scorer = exported(tmp_path / "w.npz")
    with pytest.raises(KeyError, match="i999"):
        scorer.observe(scorer.start(), "i999", new_session=False)


def test_the_scorer_file_imports_numpy_alone(tmp_path):
    exported(tmp_path / "weights.npz", items=range(live_users.N_ITEMS))
    shutil.copy(numpy_scorer.__file__, tmp_path / "scorer.py")
    script = textwrap.dedent("""
        import sys
        import scorer
        it = scorer.Scorer("weights.npz")
        state = it.observe(it.start(), 3, new_session=False)
        print(len(it.recommend(state)), *{"jax", "hrnn_jax", "scipy"} & sys.modules.keys())
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["10"]


def test_the_command_exports_a_run(tmp_path):
    run = runs.train(tmp_path)
    (tmp_path / "empty").mkdir()

    def command(*flags):
        argv = [sys.executable, "-m", "experiments.export", *flags]
        root = pathlib.Path(__file__).parents[3]
        return subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)

    done = command(f"--run={run}", f"--weights={tmp_path / 'w.npz'}")
    assert done.returncode == 0, done.stderr
    assert "seed 0 after 2 epochs, 20 items" in done.stdout
    with load_recommender(run, states=state_store.IN_MEMORY) as recommender:
        scorer = numpy_scorer.Scorer(tmp_path / "w.npz")
        state = scorer.observe(scorer.start(), "i3", new_session=False)
        recommender.observe(user="u", item="i3", time=live_users.NOW)
        live_users.assert_same_lists([scorer.recommend(state)], [recommender.recommend(user="u")])
    failed = command(f"--run={tmp_path / 'empty'}")
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert "is no run folder" in failed.stderr
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"no arrays", b"PK\x03\x04 half of a file"])
def test_the_scorer_refuses_another_file_in_one_line(content, tmp_path):
    """Bug: pass on np.load's advice to load the file unsafely."""
    path = tmp_path / "w.npz"
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="File is not a zip file"):
        numpy_scorer.Scorer(path)
