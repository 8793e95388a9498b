"""The page of the service in a browser, by keyboard and by pointer."""

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from tests.helpers.page import NEEDS_CHROMIUM

pytestmark = NEEDS_CHROMIUM
HOSTILE = (
    "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'>",
    "../\"a'/b?c=d&e#f%2F%25+ g",
    "https://example.org/" + "long" * 59,
)


def test_the_keyboard_alone_finds_and_shows_a_user(page, recommender):
    page.open()
    assert page.text("#model") == "HRNN Init"
    assert page.text("#data") == "a made log"
    assert page.text("#items") == "20"
    assert page.text("#states") == str(len(recommender))
    assert "Simulated" in page.text("#simulated")
    page.press(Keys.TAB)
    assert page.focused().text == "Skip to the recommendations"
    page.press(Keys.TAB, "u1")
    assert page.focused().get_attribute("list") == "user-ids"
    users = recommender.users("u1", 20)
    page.wait_suggestions("user", [(user, f"{user} · {n} events") for user, n in users])
    page.press("0", Keys.ENTER)
    page.wait(lambda: page.text("#name") == "User u10")
    page.settle()
    assert page.focused().text == "User u10"
    assert page.browser.current_url.endswith("#user=u10")

    past = recommender.history("u10")
    assert [e.text for e in page.all("#visits .item")] == [step.item for step in past[::-1]]
    assert len(page.all("#visits section")) == 6
    assert page.items("#now") == [item for item, _ in recommender.recommend("u10")]
    score = page.rows("#now")[0][2].replace("−", "-")
    assert float(score) == pytest.approx(recommender.recommend("u10")[0][1], abs=6e-4)
    assert page.items("#before") == [item for item, _ in past[-2].recommended]


def test_the_choice_of_a_suggestion_shows_the_user(page, recommender):
    page.open()
    page.find("#user").send_keys("u2")
    users = recommender.users("u2", 20)
    page.wait_suggestions("user", [(user, f"{user} · {n} events") for user, n in users])
    # The browser draws its list outside the page; this is what the page gets of a choice.
    page.browser.execute_script(
        "arguments[0].value = 'u21'; arguments[0].dispatchEvent(new Event('input'))",
        page.find("#user"),
    )
    page.wait(lambda: page.text("#name") == "User u21")
    assert page.find("#user").get_attribute("value") == ""


def test_a_prefix_of_no_id_shows_a_message(page):
    page.open()
    page.find("#user").send_keys("none")
    page.wait(lambda: page.text("#user-hint") == "No id begins like this.")
    page.wait_suggestions("user", [])


def test_each_event_shows_its_list_and_the_address_keeps_the_view(page, recommender):
    page.resize(360, 740)
    page.open("#user=u2")
    past = recommender.history("u2")
    [event] = page.all("[data-key='at-2.3']")
    event.send_keys(Keys.ENTER)
    page.wait(lambda: "visit 2, event 3" in page.text("#status"))
    page.settle()
    top = "return document.querySelector('#now-title').getBoundingClientRect().top"
    assert 0 <= page.browser.execute_script(top) < 740  # the visits are below the lists
    [index] = [i for i, step in enumerate(past) if step.session == 1][2:3]
    for _ in ("first", "reloaded"):
        assert page.items("#now") == [item for item, _ in past[index].recommended]
        assert page.items("#before") == [item for item, _ in past[index - 1].recommended]
        assert not page.all("#now button.item")
        page.browser.refresh()
        page.settle()
    page.find("#back").send_keys(Keys.ENTER)
    page.wait(lambda: page.all("#now button.item"))
    assert page.items("#now") == [item for item, _ in recommender.recommend("u2")]
    assert page.focused().text == "User u2"
    page.browser.back()
    page.wait(lambda: "visit 2, event 3" in page.text("#status"))


def test_a_click_adds_an_event_and_shows_what_moved(page, recommender):
    page.open("#user=u3")
    before = page.items("#now")
    item = page.click(3)
    steps = recommender.history("u3", sessions=100)
    assert (len(steps), steps[-1].item) == (25, item)
    now = [other for other, _ in recommender.recommend("u3")]
    assert page.items("#now") == now != before
    assert page.items("#before") == before
    changes = {row[1]: row[3] for row in page.rows("#now")}
    new_places = {row[1]: row[3] for row in page.rows("#before")}
    for place, other in enumerate(now):
        up = before.index(other) - place if other in before else None
        words = {None: "new", 0: "="}
        assert changes[other] == words.get(up, f"{'↑' if (up or 0) > 0 else '↓'} {abs(up or 0)}")
    for other in before:
        assert new_places[other] == (str(now.index(other) + 1) if other in now else "left")
    assert page.text("#visits [aria-current] .item") == item
    assert page.focused().get_attribute("data-key") == "place-3"
    assert page.find("#status").get_attribute("role") == "status"
    assert f"{item} opened visit 7." in page.text("#status")  # the log's last event is long ago


def test_the_second_click_of_a_double_click_is_ignored(page, recommender):
    page.open("#user=u4")
    item = page.items("#now")[0]
    webdriver.ActionChains(page.browser).double_click(page.find("[data-key=place-1]")).perform()
    page.wait_status(item)
    page.browser.execute_script(
        "arguments[0].dispatchEvent(new MouseEvent('click', {detail: 2}))",
        page.find("[data-key=place-1]"),
    )
    page.settle()
    assert len(recommender.history("u4", sessions=100)) == 25


def test_the_new_visit_button_opens_a_session_for_later_clicks(page, recommender):
    page.open("#user=u5")
    page.click(1)
    assert "idle gap" in page.text("#visit-hint")
    page.find("#new-visit").send_keys(Keys.SPACE)
    assert page.find("#new-visit").get_attribute("aria-pressed") == "true"
    item = page.click(2)
    assert f"{item} opened visit 8" in page.text("#status")
    assert page.find("#new-visit").get_attribute("aria-pressed") == "false"
    item = page.click(2)
    assert f"{item} was added to visit 8" in page.text("#status")
    page.browser.refresh()
    page.settle()
    page.click(4)
    sessions = [step.session for step in recommender.history("u5", sessions=100)]
    assert sessions[-4:] == [6, 7, 7, 7]


def test_earlier_visits_load_by_button_and_by_address(page, recommender):
    for day in range(35):
        recommender.observe(user="long ago", item=f"i{day % 20}", time=1e9 + 86_400 * day)
    page.open("#user=long+ago")
    for shown in (10, 30, 35):
        page.wait(lambda shown=shown: len(page.all("#visits section")) == shown)
        page.settle()
        button = page.find("#earlier")
        assert button.is_displayed() == (shown < 35)
        if shown < 35:
            button.click()
    assert page.focused().text == "Visits, newest first"
    page.open("#user=long+ago&at=2.1")
    assert "visit 2, event 1" in page.text("#status")
    assert page.items("#now") == [
        item for item, _ in recommender.history("long ago", sessions=35)[1].recommended
    ]
    recommender.forget("long ago")


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_rows_move_only_without_a_preference_for_reduced_motion(page, motion, moves):
    page.prefer_motion(motion)
    page.open("#user=u11")
    page.browser.execute_script(
        "window.moved = 0; Element.prototype.animate = () => { window.moved += 1; }"
    )
    page.click(1)
    assert (page.browser.execute_script("return window.moved") > 0) == moves


def test_the_list_of_a_newcomer_with_the_same_clicks_is_shown_and_looking_writes_nothing(
    page, recommender, monkeypatch
):
    known = len(recommender)
    page.open("#user=u6")
    page.click(1)
    page.click(2)
    visit = [step.item for step in recommender.history("u6", sessions=1)]
    assert len(visit) == 2
    for item in visit:
        recommender.observe(item=item, session="newcomer")
    theirs = [item for item, _ in recommender.recommend(session="newcomer")]
    assert recommender.forget(session="newcomer")
    written = []
    monkeypatch.setattr(recommender._states.store, "write", lambda *_: written.append("write"))
    monkeypatch.setattr(recommender._states.store, "delete", lambda *_: written.append("delete"))
    page.open("#user=u6")
    users = page.items("#now")
    assert page.items("#newcomer") == theirs != users
    places = {row[1]: row[3] for row in page.rows("#newcomer")}
    for item in theirs:
        assert places[item] == (str(users.index(item) + 1) if item in users else "–")
    brought = [item for item in users if item not in theirs]
    said = f"Only the user’s history adds {', '.join(brought)}." if brought else "another order"
    assert said in page.text("#newcomer-summary")
    counts = dict(recommender.counts)
    page.all("#visits a")[5].click()
    page.settle()
    assert page.items("#newcomer")
    assert (written, len(recommender), dict(recommender.counts)) == ([], known, counts)


def test_an_anonymous_visitor_clicks_reloads_and_is_forgotten(page, recommender):
    page.open()
    page.find("#anonymous").click()
    page.wait(lambda: page.text("#name") == "Anonymous visitor")
    page.settle()
    known = len(recommender)
    nobody = [item for item, _ in recommender.recommend(session="nobody")]
    assert page.items("#now") == nobody
    page.find("#item").send_keys("i1")
    items = [item for item in recommender.trained.items if str(item).startswith("i1")]
    page.wait_suggestions("item", [(item, item) for item in items])
    page.press(Keys.ENTER)
    page.wait_status("i1")
    session = page.browser.current_url.partition("#session=")[2]
    for _ in ("first", "reloaded"):
        now = [item for item, _ in recommender.recommend(session=session)]
        assert page.items("#now") == now
        assert page.items("#before") == nobody
        assert [e.text for e in page.all("#visits .item")] == ["i1"]
        page.browser.refresh()
        page.settle()
    assert len(recommender) == known + 1
    page.find("#forget").click()
    page.wait(lambda: page.text("#welcome-title") == "Choose a person")
    page.wait(lambda: page.text("#users-summary").startswith("The 24 people with the"))
    assert len(recommender) == known


def test_an_unknown_item_changes_nothing_and_shows_a_message(page, recommender):
    page.open("#user=u7")
    now = page.items("#now")
    page.find("#item").send_keys(HOSTILE[0], Keys.ENTER)
    page.wait_status(HOSTILE[0])
    assert "nothing changed" in page.text("#status")
    assert page.items("#now") == now
    assert not page.browser.execute_script("return window.ran")


@pytest.mark.parametrize("user", HOSTILE)
def test_hostile_ids_are_text_and_fit_a_phone(page, recommender, user):
    for day in range(9):  # more visits than others have
        recommender.observe(user=user, item="i1", time=1e9 + 86_400 * day)
    page.resize(360, 740)
    page.open()
    page.find("#user").click()
    page.wait(lambda: user in [value for value, _ in page.suggestions("user")])
    [link] = [link for link in page.all("#users a") if link.text.startswith(user)]
    link.click()
    page.wait(lambda: page.text("#name") == f"User {user}")
    page.settle()
    page.browser.refresh()
    page.wait(lambda: page.text("#name") == f"User {user}")
    page.settle()
    page.click(1)
    assert len(recommender.history(user, sessions=99)) == 10
    assert not page.browser.execute_script("return window.ran")
    wide = page.browser.execute_script("return document.documentElement.scrollWidth")
    assert wide == page.browser.execute_script("return innerWidth") == 360
    targets = [t for t in page.all("button, input, #visits a") if t.is_displayed()]
    assert len(targets) > 15
    assert all(target.rect["height"] >= 44 for target in targets)
    recommender.forget(user)


def test_ids_beyond_the_integers_of_javascript_keep_their_digits(page):
    page.open()
    answer = page.browser.execute_async_script(
        """
        const done = arguments[0];
        window.fetch = async () => new Response('{"items": [9007199254740993, 7], "x": 0.5}');
        import("./service.js").then((service) => service.get("items")).then(done);
        """
    )
    assert answer == {"items": ["9007199254740993", 7], "x": 0.5}


def test_the_page_shows_the_description_of_the_service(serve):
    page = serve(given_sessions=True, simulated=False, model="HRNN All", data="real clicks")
    page.open("#user=u8")
    assert page.text("#model") == "HRNN All"
    assert page.text("#data") == "real clicks"
    assert not page.find("#simulated").is_displayed()
    assert "idle gap" not in page.text("#visit-hint")


def test_the_page_asks_for_the_token_until_it_is_right_and_stores_it_for_the_tab(serve):
    page = serve(token=b"secret")
    page.open("#user=u8")
    for token, said in (("wrong", "needs an access token"), ("secret", "did not accept")):
        page.wait(lambda said=said: said in page.text("#token-text"))
        assert page.focused().get_attribute("id") == "token"
        assert not page.find("#person").is_displayed()
        page.press(token, Keys.ENTER)
    page.wait(lambda: page.text("#name") == "User u8")
    page.settle()
    assert not page.find("#token-form").is_displayed()
    page.browser.refresh()
    page.wait(lambda: page.text("#name") == "User u8")


def test_a_service_that_is_down_shows_a_message_and_the_click_can_be_repeated(serve, recommender):
    page = serve()
    page.open("#user=u9")
    item = page.items("#now")[0]
    page.served.go_down()
    page.find("[data-key=place-1]").click()
    page.wait(lambda: "does not answer" in page.text("#problem[role=alert]"))
    assert page.items("#now")[0] == item
    page.served.come_back()
    page.find("#retry").click()
    page.wait_status(item)
    assert not page.find("#problem").is_displayed()
    assert len(recommender.history("u9", sessions=100)) == 25
