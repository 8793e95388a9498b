/** What the page shows, by its address: #user=ID or #session=ID, &at=VISIT.PLACE to look back. */

import { address, element, number, part, plural } from "./dom.js";
import { animateRows } from "./lists.js";
import { drawPerson } from "./person.js";
import * as service from "./service.js";
import { suggestIds } from "./suggestions.js";
import { User, Visitor } from "./visitors.js";

const N_USERS = 24; // listed to choose from
const N_SUGGESTIONS = 20;
const N_EARLIER = 20; // visits loaded by each press of "Earlier visits"

let health; // the service's description of itself
let visitor = null; // the one shown
let newVisit = null; // the session id of the next event, if it is to open a visit
let latestTask = 0; // answers to earlier tasks are dropped
let repeat = null; // runs the task that failed

const parameters = () => new URLSearchParams(location.hash.slice(1));
const on = (event, id, listener) => part(id).addEventListener(event, listener);

/** Run a task that calls the service; show a failure, and what to do about it. */
async function attempt(work) {
  const task = ++latestTask;
  const isCurrent = () => task === latestTask;
  part("main").ariaBusy = "true";
  try {
    await work(isCurrent);
    if (isCurrent()) part("problem").hidden = part("token-form").hidden = true;
  } catch (failure) {
    if (!(failure instanceof service.Failure)) throw failure;
    if (isCurrent()) showFailure(failure, () => attempt(work));
  } finally {
    if (isCurrent()) {
      part("main").ariaBusy = "false";
      part("loading").hidden = true;
    }
  }
}

function showFailure({ status, message }, again) {
  repeat = again;
  const needsToken = status === 401;
  part("token-form").hidden = !needsToken;
  part("problem").hidden = needsToken;
  part("problem-text").textContent = message;
  part("retry").hidden = status >= 400 && status < 500; // the answer would be the same
  part("problem").scrollIntoView({ block: "nearest" });
  if (!needsToken) return;
  part("token-text").textContent = service.hasToken()
    ? "The service did not accept this token."
    : "This service needs an access token.";
  part("token").focus();
}

/** Show the visitor that the address names, or the users to choose from. */
function show({ takesFocus = true } = {}) {
  const named = parameters();
  const kind = ["user", "session"].find((name) => named.get(name));
  const id = named.get(kind);
  if (kind && visitor?.kind === kind && visitor.id === id && !part("person").hidden) {
    draw();
    part("now-title").scrollIntoView({ block: "nearest" }); // on a phone the visits are far below
    return;
  }
  newVisit = null;
  part("welcome").hidden = part("person").hidden = true;
  part("loading").hidden = false;
  part("status").textContent = "";
  attempt(async (isCurrent) => {
    let loaded = null;
    let users;
    if (kind) {
      loaded = kind === "user" ? new User(id) : new Visitor(id);
      await Promise.all([loaded.load(), loadHealth()]);
      if (named.has("at") && loaded.more) await loaded.loadFrom(parseInt(named.get("at"), 10) - 1);
    } else {
      [{ users }] = await Promise.all([service.get("users", { limit: N_USERS }), loadHealth()]);
    }
    if (!isCurrent()) return;
    visitor = loaded;
    part("loading").hidden = true;
    document.title = `${visitor?.name ?? "Live recommendations"} · ${health.model}`;
    part("person").hidden = !visitor;
    part("welcome").hidden = Boolean(visitor);
    if (visitor) draw();
    else drawUsers(users);
    if (takesFocus) part(visitor ? "name" : "welcome-title").focus();
  });
}

async function loadHealth() {
  health = await service.get("health");
  part("model").textContent = health.model;
  part("data").textContent = health.data;
  part("items").textContent = number(health.items);
  part("states").textContent = number(health.states);
  part("simulated").hidden = !health.simulated;
}

function drawUsers(users) {
  part("no-users").hidden = users.length > 0;
  part("users-summary").hidden = users.length === 0;
  part("users-summary").textContent =
    users.length < N_USERS
      ? "All users with stored events, in the alphabetical order of their ids."
      : `The first ${N_USERS} users in the alphabetical order of their ids. Type an id above to find another.`;
  const rows = users.map(({ user, events }) => {
    const count = element("small", {}, plural(events, "event"));
    return element("li", {}, element("a", { href: address({ user }) }, user, count));
  });
  part("users").replaceChildren(...rows);
}

function draw() {
  drawVisitButtons();
  drawPerson(visitor, parameters().get("at"), click);
}

function drawVisitButtons() {
  const isUser = visitor.kind === "user";
  part("new-visit").hidden = !isUser;
  part("forget").hidden = isUser;
  part("new-visit").ariaPressed = String(newVisit !== null);
  let hint = "Press to start a new visit with the next click.";
  if (!health.given_sessions) hint += " An idle gap also starts one.";
  if (newVisit) hint = "The next click starts a new visit. Press again to stay in this one.";
  part("visit-hint").textContent = isUser ? hint : "Deletes these clicks from the service.";
}

/** Post an item as the visitor's next event, and show what changed. */
function click(item) {
  if (part("main").ariaBusy === "true") return;
  const event = { item, event_id: service.randomId(), ...(newVisit && { session: newVisit }) };
  const last = visitor.steps.at(-1);
  let outcome; // kept for a retry, which does not post the event again
  attempt(async (isCurrent) => {
    outcome ??= await visitor.observe(event);
    await Promise.all([visitor.load(), loadHealth()]);
    if (!isCurrent()) return;
    if (outcome === "observed") newVisit = null;
    animateRows(part("now"), draw);
    part("status").replaceChildren(
      `${describeOutcome(item, outcome, visitor.steps.at(-1), last)} `,
      element("span", { className: "unseen" }, part("now-moved").textContent),
    );
  });
}

function describeOutcome(item, outcome, step, last) {
  if (outcome === "unknown_item") return `${item} is unknown to the model: nothing changed.`;
  if (outcome === "repeat") {
    return `${item} is in this visit already, and the model was trained on visits without repeats: nothing changed.`;
  }
  const isNew = step.session !== last?.session;
  return `${item} ${isNew ? "opened" : "was added to"} visit ${step.session + 1}.`;
}

async function suggestUsers(prefix) {
  const { users } = await service.get("users", { prefix, limit: N_SUGGESTIONS });
  return users.map(({ user, events }) => [user, `${user} · ${plural(events, "event")}`]);
}

async function suggestItems(prefix) {
  const { items } = await service.get("items", { prefix, limit: N_SUGGESTIONS });
  return items.map((item) => [item, String(item)]);
}

suggestIds("user", suggestUsers, (user) => {
  if (location.hash === address({ user })) show();
  else location.hash = address({ user });
});
suggestIds("item", suggestItems, click);
on("click", "anonymous", () => {
  location.hash = address({ session: service.randomId() });
});
on("click", "new-visit", () => {
  newVisit = newVisit ? null : service.randomId();
  drawVisitButtons();
});
on("click", "forget", () =>
  attempt(async (isCurrent) => {
    await visitor.forget();
    if (isCurrent()) location.hash = "";
  }),
);
on("click", "earlier", () =>
  attempt(async (isCurrent) => {
    await visitor.loadFrom(visitor.steps[0].session - N_EARLIER);
    if (!isCurrent()) return;
    draw();
    if (part("earlier").hidden) part("visits-title").focus();
  }),
);
on("click", "retry", () => {
  part("main").focus();
  repeat();
});
on("submit", "token-form", (event) => {
  event.preventDefault();
  service.useToken(part("token").value);
  part("token").value = "";
  part("main").focus();
  repeat();
});
on("click", "skip", (event) => {
  event.preventDefault(); // the page uses the address for itself
  part("main").focus();
});
window.addEventListener("hashchange", () => show());
show({ takesFocus: false });
