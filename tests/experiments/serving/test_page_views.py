"""What the page says of a person: was it right, and why; who is interesting; commands."""

import itertools
import json
import pathlib
import re
import shlex

import httpx
import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from experiments.serving.item_catalogue import ItemCatalogue
from tests.helpers.page import NEEDS_CHROMIUM, SECONDS

pytestmark = NEEDS_CHROMIUM
HTML = "<img src=x onerror='window.ran = 1'> & <b>bold</b>"
FAST = "const slow = setInterval; window.setInterval = (work) => slow(work, 50);"


def items_of(recommended):
    return [item for item, _ in recommended]


def test_the_first_sentence_says_what_the_page_is_for_and_the_visits_come_first(page):
    page.resize(390, 844)
    page.open("#user=u1")
    assert page.text("header p").startswith("See what this service recommends to a person")
    tops = [page.find(place).rect["y"] for place in ("#visits", "#now", "#popular")]
    assert tops == sorted(tops)
    wide = page.browser.execute_script("return document.documentElement.scrollWidth")
    assert wide == 390


def test_the_people_with_the_most_visits_come_first(page, recommender):
    for user, n in (("zz often", 12), ("aa once", 1)):
        for day in range(n):
            recommender.observe(user=user, item="i1", time=1e9 + 86_400 * day)
    page.open()
    shown = [link.text.split("\n") for link in page.all("#users a")]
    assert shown[0] == ["zz often", "12 visits, 12 events"]
    assert len(shown) == 24
    assert "aa once" not in [user for user, _ in shown]
    for user in ("zz often", "aa once"):
        recommender.forget(user)


def test_what_was_had_is_left_out_of_all_lists_until_the_switch_is_pressed_again(page, recommender):
    page.open("#user=u12")
    page.find("#exclude-had").send_keys(Keys.SPACE)
    steps = recommender.history("u12", exclude_seen=True)
    for _ in ("pressed", "reloaded"):
        now = items_of(recommender.recommend("u12", exclude_seen=True))
        page.wait(lambda now=now: page.items("#now") == now)
        page.settle()
        assert page.find("#exclude-had").get_attribute("aria-pressed") == "true"
        assert page.items("#before") == items_of(steps[-2].recommended)
        visit = [step for step in steps if step.session == steps[-1].session]
        assert not {step.item for step in visit} & {*page.items("#newcomer")}
        assert "with what was had left out" in page.text("#right-text")
        page.browser.refresh()
        page.settle()
    page.find("#exclude-had").send_keys(Keys.SPACE)
    page.wait(lambda: page.items("#now") == items_of(recommender.recommend("u12")))


@pytest.mark.parametrize("at", ["", "&at=2.3"])
def test_the_parts_of_a_score_add_up_to_the_listed_one(page, at):
    page.open(f"#user=u13{at}")
    [_, item, score, _] = page.rows("#now")[1]
    page.all("#now .score")[1].send_keys(Keys.ENTER)
    page.wait(lambda: page.all("#now .why .sum"))
    cells = [row.text.replace("−", "-").split() for row in page.all("#now .why table tr")]
    *parts, total = [float(words[-1]) for words in cells]
    assert len(parts) == 2
    assert total == pytest.approx(float(score.replace("−", "-")), abs=2e-3)
    assert sum(parts) == pytest.approx(total, abs=2e-3)
    assert item in page.text("#now .why p")
    page.all("#now .score")[1].send_keys(Keys.ENTER)
    assert not page.all("#now .why")


def test_it_says_how_often_the_next_click_was_in_the_list_and_which(page, recommender):
    page.open("#user=u14")
    steps = recommender.history("u14")
    popular = page.items("#popular")
    places, is_popular = {}, []
    for n, (before, step) in enumerate(itertools.pairwise(steps), 1):
        if before.session == step.session:
            listed = items_of(before.recommended)
            places[n] = listed.index(step.item) + 1 if step.item in listed else 0
            is_popular.append(step.item in popular)
    assert sum(map(bool, places.values())) > 0
    shares = [
        np.format_float_positional(float(f"{100 * np.mean(some):.2g}"), trim="-")
        for some in ([bool(place) for place in places.values()], is_popular)
    ]
    said = page.text("#right-text").replace("\u202f", " ")
    found = re.fullmatch(
        r"The next click was among the ten recommended in (\S+) % of (\d+) cases, and among the "
        r"ten most popular items in (\S+) %\.",
        said,
    )
    assert found, said
    assert [float(found[1]), float(found[3])] == [float(share) for share in shares]
    assert int(found[2]) == len(places)
    shown = [
        row.find_elements("css selector", ":scope > small")[0] for row in page.all("#visits a")
    ]
    expected = [
        "" if n not in places else f"no. {places[n]}" if places[n] else "not listed"
        for n in range(len(steps))
    ]
    assert [mark.text for mark in shown] == expected[::-1]

    n = next(n for n, place in places.items() if place)
    visit = steps[n - 1].session
    place = sum(step.session == visit for step in steps[:n])
    page.open(f"#user=u14&at={visit + 1}.{place}")
    [chosen] = page.all("#now .chosen")
    assert chosen.get_attribute("data-item") == steps[n].item
    assert "the next click" in chosen.text
    page.resize(390, 844)
    page.open(f"#user=u14&at={visit + 1}.{place}")
    box, row = page.find("#visits").rect, page.find("#visits [aria-current]").rect
    assert box["y"] <= row["y"] <= box["y"] + box["height"] - 20  # of many, that one is seen


def test_the_popular_items_stand_beside_the_list(page, recommender):
    page.open("#user=u15")
    counts = {}
    for part in recommender.stored_events():
        for _, _, item in part:
            counts[item] = counts.get(item, 0) + 1
    shown = page.rows("#popular")
    assert [int(row[2]) for row in shown] == sorted(counts.values(), reverse=True)[:10]
    assert all(counts[row[1]] == int(row[2]) for row in shown)
    now = page.items("#now")
    assert [row[3] for row in shown] == [
        str(now.index(row[1]) + 1) if row[1] in now else "–" for row in shown
    ]


def test_a_user_is_forgotten_after_a_question(page, recommender):
    recommender.observe(user="to go", item="i1", time=1e9)
    page.open("#user=to+go")
    for answer in ("dismiss", "accept"):
        page.find("#forget").click()
        question = page.browser.switch_to.alert
        assert "user to go?" in question.text
        getattr(question, answer)()
        if answer == "dismiss":
            assert [user for user, _ in recommender.users("to go")] == ["to go"]
    page.wait(lambda: page.text("#welcome-title") == "Choose a person")
    assert recommender.users("to go") == []


def test_events_from_elsewhere_appear_with_the_switch_alone(page, recommender):
    fast = page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FAST})
    try:
        page.open("#user=u16")
        n = len(page.all("#visits a"))
        recommender.observe(user="u16", item="i3", session="elsewhere")
        page.browser.execute_async_script("setTimeout(arguments[0], 200)")
        assert len(page.all("#visits a")) == n
        page.find("#live").click()
        page.wait(lambda: page.text("#status") == "Something new was stored.")
        assert page.text("#visits [aria-current] .item") == "i3"
        assert page.items("#now") == items_of(recommender.recommend("u16"))
    finally:
        page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", fast)


def run(command):
    """Send what a curl command would send; return the answer."""
    name, url, *options = shlex.split(command)
    assert name == "curl"
    given = dict(zip(options[::2], options[1::2], strict=True))
    headers = dict([given["-H"].split(": ")]) if "-H" in given else {}
    body = given.get("-d")
    answer = httpx.request(
        "POST" if body else "GET", url, content=body, headers=headers, timeout=SECONDS
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_commands_give_what_is_shown(page, recommender):
    user = 'it\'s "one" $HOME & a/b'
    for minute in range(3):
        recommender.observe(user=user, item=f"i{minute}", time=1e9 + 60 * minute)
    page.open()
    page.find("#user").send_keys(user, Keys.ENTER)
    page.wait(lambda: page.text("#name") == f"User {user}")
    page.settle()
    commands = page.find("#commands").get_attribute("textContent").split("\n\n")
    texts = [command.partition("\n")[2].replace("\\\n", " ") for command in commands]
    now, history, newcomer, popular = map(run, texts)
    assert [one["item"] for one in now["recommendations"]] == page.items("#now")
    [visit] = history["sessions"]
    assert [one["item"] for one in visit["events"][1]["recommendations"]] == page.items("#before")
    assert [one["item"] for one in newcomer["events"][-1]["recommendations"]] == page.items(
        "#newcomer"
    )
    assert [one["item"] for one in popular["popular"]] == page.items("#popular")
    assert json.dumps(newcomer).count("observed") == 3
    recommender.forget(user)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("abc", "No event abc is stored: this is the list now."),
        ("99.1", "No event 99.1 is stored: this is the list now."),
        ("1", "No event 1 is stored: this is the list now."),
        ("%3Cb%3E", "No event <b> is stored: this is the list now."),
    ],
)
def test_an_address_without_its_event_shows_the_list_now(page, recommender, at, said):
    page.open(f"#user=u17&at={at}")
    assert page.text("#status") == said
    assert page.items("#now") == items_of(recommender.recommend("u17"))
    assert page.all("#now button.item")


@pytest.mark.parametrize("user", [".", ".."])
def test_an_id_that_no_browser_can_ask_for_is_refused_without_a_retry(page, user):
    page.open(f"#user={user}")
    assert f"cannot ask for the id “{user}”" in page.text("#problem")
    assert not page.find("#retry").is_displayed()
    assert page.text("#model") == "HRNN Init"


def test_the_status_after_an_unknown_item_says_of_no_changes(page):
    """Bug: read out again what the click before it changed."""
    page.open("#user=u18")
    page.click(2)
    assert re.search(r"\d (up|down|new|unmoved)", page.find("#status").get_attribute("textContent"))
    page.find("#item").send_keys("none", Keys.ENTER)
    page.wait_status("none")
    text = page.find("#status").get_attribute("textContent")
    assert text == "none is unknown to the model: nothing changed."


def test_a_click_leaves_an_address_that_names_the_last_event(page, recommender):
    """Bug: look back at that event at once."""
    last = recommender.history("u19")[-1]
    place = sum(step.session == last.session for step in recommender.history("u19"))
    page.open(f"#user=u19&at={last.session + 1}.{place}")
    item = page.click(1)
    assert page.text("#visits [aria-current] .item") == item
    assert page.browser.current_url.endswith("#user=u19")


def test_of_a_user_with_too_many_events_fewer_visits_are_shown(serve, recommender, monkeypatch):
    monkeypatch.setattr("experiments.serving.schemas.MAX_RECOMMENDATIONS", 100)
    for day in range(20):
        for minute in range(3):
            at = 1e9 + 86_400 * day + 60 * minute
            recommender.observe(user="much", item=f"i{day}", time=at)
    page = serve()
    page.open("#user=much")
    assert len(page.all("#visits section")) == 3  # of 10, 5 and 3
    assert page.find("#earlier").is_displayed()
    recommender.forget("much")


def test_titles_and_pictures_are_shown_and_run_nothing(serve, recommender):
    known = {f"i{n}": {"title": f"The title of {n}"} for n in range(20)}
    page = serve(
        catalogue=ItemCatalogue(pathlib.Path("items.csv"), known), image_hosts=["127.0.0.1:1"]
    )
    first, second, third, fourth = items_of(recommender.recommend("u20"))[:4]
    known[first] = {"title": HTML, "url": "https://shop.example/1"}
    known[second] = {"title": "long " * 50, "image": f"{page.served.url}none.png"}
    known[third] = {"title": "שלום עולם", "image": "http://evil.example/1.png"}
    known[fourth] = {}
    page.resize(390, 844)
    page.open("#user=u20")
    page.browser.get_log("browser")
    rows = page.all("#now tbody tr")
    assert rows[0].find_element("css selector", ".title").text == HTML
    link = rows[0].find_element("css selector", "a.open")
    assert link.get_attribute("href") == "https://shop.example/1"
    assert link.get_attribute("rel") == "noopener noreferrer"
    assert page.items("#now")[3] == fourth
    assert not page.all("#person img")  # of hosts that are not admitted
    assert page.browser.get_log("browser") == []
    wide = page.browser.execute_script("return document.documentElement.scrollWidth")
    assert wide == 390
    page.find("#item").send_keys("title of 1")
    found = [n for n in (1, *range(10, 20)) if known[f"i{n}"].get("title", "").startswith("The")]
    page.wait_suggestions("item", [(f"i{n}", f"The title of {n} · i{n}") for n in found])
    page.find("#item").clear()
    page.find("[data-key=place-1]").click()
    page.wait(lambda: "window.ran" in page.text("#status"))
    page.settle()
    assert f"\u2068{HTML}\u2069" in page.text("#status")
    assert not page.browser.execute_script("return window.ran")


def test_pictures_of_admitted_hosts_are_loaded(serve, recommender):
    known = {}
    catalogue = ItemCatalogue(pathlib.Path("items.csv"), known)
    page = serve(catalogue=catalogue)
    host = page.served.url.split("/")[2]
    other = serve(catalogue=catalogue, image_hosts=[host])
    loaded, broken = items_of(recommender.recommend("u21"))[:2]
    known[loaded] = {"image": f"{page.served.url}icon.svg"}
    known[broken] = {"image": f"{page.served.url}none.png"}
    other.open("#user=u21")
    width = "return document.querySelector('#now .picture img')?.naturalWidth"
    other.wait(lambda: (other.browser.execute_script(width) or 0) > 0)
    other.wait(lambda: len(other.all("#now .picture img")) == 1)
    assert len(other.all("#now .picture")) == 10  # the others keep their place empty
    page.open("#user=u21")
    assert not page.all("#now .picture")


def test_an_anonymous_visitor_has_lists_and_reasons_too(page, recommender):
    page.open("#session=tab1")
    first, second = page.click(1), page.click(4)
    session = recommender.recommend(session="tab1")
    assert page.items("#now") == items_of(session)
    page.find("#visits [data-key='at-1.1']").send_keys(Keys.ENTER)
    page.wait(lambda: "visit 1, event 1" in page.text("#status"))
    page.settle()
    recommender.observe(item=first, session="tab2")
    assert page.items("#now") == items_of(recommender.recommend(session="tab2"))
    assert second in page.text("#visits")
    page.find("#back").click()
    page.wait(lambda: page.all("#now .score"))
    page.all("#now .score")[0].click()
    page.wait(lambda: page.all("#now .why .sum"))
    for name in ("tab1", "tab2"):
        recommender.forget(session=name)
