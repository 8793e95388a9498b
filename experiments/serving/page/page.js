/** What the page shows, by its address: #user=ID or #session=ID, &at=VISIT.PLACE to look back. */

import { address, element, number, part, plural } from "./dom.js";
import { admitPicturesFrom, nameOf } from "./items.js";
import { animateRows } from "./lists.js";
import { options, toggle } from "./options.js";
import { drawPerson } from "./person.js";
import * as service from "./service.js";
import { suggestIds } from "./suggestions.js";
import { popularItems, User, Visitor } from "./visitors.js";

const N_USERS = 24; // listed to choose from
const N_SUGGESTIONS = 20;
const N_EARLIER = 20; // visits loaded by each press of "Earlier visits"
const REFRESH = 3_000; // ms between two looks for new events
const EVENT = /^[1-9][0-9]{0,8}\.[1-9][0-9]{0,8}$/; // VISIT.PLACE

let health; // the service's description of itself
let popular = []; // items
let visitor = null; // the one shown
let newVisit = null; // the session id of the next event, if it is to open a visit
let latestTask = 0; // answers to earlier tasks are dropped
let repeat = null; // runs the task that failed

/** Return VISIT.PLACE of the address, null if it has none or something else. */
function eventOfAddress() {
  const at = parameters().get("at");
  return at !== null && EVENT.test(at) ? at : null;
}

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
    part("now-title").scrollIntoView({ block: "nearest" }); // on a phone the lists are far below
    return;
  }
  newVisit = null;
  part("welcome").hidden = part("person").hidden = true;
  part("loading").hidden = false;
  part("status").textContent = "";
  attempt(async (isCurrent) => {
    const described = loadHealth();
    let loaded = null;
    let users;
    if (kind) {
      loaded = kind === "user" ? new User(id) : new Visitor(id);
      await Promise.all([loaded.load(), described, loadPopular()]);
      const at = eventOfAddress();
      if (at && loaded.more) await loaded.loadFrom(parseInt(at, 10) - 1);
    } else {
      const asked = service.get("users", { order: "visits", limit: N_USERS });
      [{ users }] = await Promise.all([asked, described]);
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
  admitPicturesFrom(health.image_hosts);
  for (const head of document.querySelectorAll(".value")) {
    head.textContent = scoresAreChances() ? "chance" : "score";
  }
}

async function loadPopular() {
  popular = await popularItems();
}

const scoresAreChances = () => health.scores === "log probabilities";

function drawUsers(users) {
  part("no-users").hidden = users.length > 0;
  part("users-summary").hidden = users.length === 0;
  part("users-summary").textContent =
    users.length < N_USERS
      ? "All people with stored events, those with the most visits first."
      : `The ${N_USERS} people with the most visits. Type an id above to find another.`;
  const rows = users.map(({ user, events, visits }) => {
    const count = element("small", {}, `${plural(visits, "visit")}, ${plural(events, "event")}`);
    const name = element("bdi", {}, user);
    return element("li", {}, element("a", { href: address({ user }) }, name, count));
  });
  part("users").replaceChildren(...rows);
}

function draw() {
  drawButtons();
  const at = parameters().get("at");
  drawPerson(visitor, at, { click, popular, isChance: scoresAreChances() });
}

/** Load the visitor again, and show what moved. */
function reload(said) {
  attempt(async (isCurrent) => {
    await Promise.all([visitor.load(), loadHealth()]);
    if (!isCurrent()) return;
    animateRows(part("now"), draw);
    if (said) part("status").append(said);
  });
}

/** Show events that came from elsewhere, unless the page is busy or looks back. */
async function refresh() {
  const [shown, task] = [visitor, latestTask];
  const isBusy = part("main").ariaBusy === "true" || document.hidden;
  if (!options.live || !shown || isBusy || part("person").hidden || !part("back").hidden) return;
  const hasChanged = await shown.hasChanged().catch(() => false); // a later look may be answered
  if (hasChanged && task === latestTask) reload("Something new was stored.");
}

function drawButtons() {
  const isUser = visitor.kind === "user";
  part("new-visit").hidden = part("live").hidden = !isUser;
  part("new-visit").ariaPressed = String(newVisit !== null);
  part("exclude-had").ariaPressed = String(options.excludeHad);
  part("live").ariaPressed = String(options.live);
  part("forget").textContent = isUser ? "Forget this user" : "Forget this visitor";
  let hint = "New visit: the next click starts one.";
  if (!health.given_sessions) hint += " An idle gap also starts one.";
  if (newVisit) hint = "The next click starts a new visit. Press again to stay in this one.";
  part("visit-hint").textContent = isUser
    ? hint
    : "Forget deletes these clicks from the service.";
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
    const isNew = outcome === "observed";
    if (isNew) newVisit = null;
    // The address may name the event that was the last one.
    history.replaceState(null, "", address({ [visitor.kind]: visitor.id }));
    animateRows(part("now"), draw);
    part("status").textContent = describeOutcome(item, outcome, visitor.steps.at(-1), last);
    if (isNew) {
      const moved = element("span", { className: "unseen" }, ` ${part("now-moved").textContent}`);
      part("status").append(moved);
    }
  });
}

function describeOutcome(item, outcome, step, last) {
  const name = nameOf(item);
  if (outcome === "unknown_item") return `${name} is unknown to the model: nothing changed.`;
  if (outcome === "repeat") {
    return `${name} is in this visit already, and the model was trained on visits without repeats: nothing changed.`;
  }
  const isNew = step.session !== last?.session;
  return `${name} ${isNew ? "opened" : "was added to"} visit ${number(step.session + 1)}.`;
}

async function suggestUsers(prefix) {
  const { users } = await service.get("users", { prefix, limit: N_SUGGESTIONS });
  return users.map(({ user, events }) => [user, `${user} · ${plural(events, "event")}`]);
}

async function suggestItems(prefix) {
  const { items, titles } = await service.get("items", { prefix, limit: N_SUGGESTIONS });
  return items.map((item) => {
    const title = titles?.[item];
    return [item, title ? `${title} · ${item}` : String(item)];
  });
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
  drawButtons();
});
on("click", "exclude-had", () => {
  toggle("excludeHad");
  reload();
});
on("click", "live", () => {
  toggle("live");
  drawButtons();
  refresh();
});
on("click", "forget", () => {
  const isUser = visitor.kind === "user";
  const question = `Delete everything stored about user ${visitor.id}? It cannot be undone.`;
  if (isUser && !confirm(question)) return;
  attempt(async (isCurrent) => {
    await visitor.forget();
    if (isCurrent()) location.hash = "";
  });
});
on("click", "copy", async () => {
  await navigator.clipboard.writeText(part("commands").textContent);
  part("copied").textContent = "Copied.";
});
on("toggle", "command", () => {
  part("copied").textContent = "";
});
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
part("copy").hidden = !navigator.clipboard; // without TLS a browser has none, but on this machine
setInterval(refresh, REFRESH);
window.addEventListener("hashchange", () => show());
show({ takesFocus: false });
