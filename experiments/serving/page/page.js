/** What is shown, by the address: #user=ID or #session=ID, &at=VISIT.PLACE for a look back. */

import { combobox } from "./combobox.js";
import { address, element, number, part, plural } from "./dom.js";
import { travelling } from "./lists.js";
import { drawPerson } from "./person.js";
import * as service from "./service.js";
import { User, Visitor } from "./visitors.js";

const SOME_USERS = 24; // to choose from without typing
const EARLIER = 20; // visits more with each wish for earlier ones

let health; // what the service says of itself
let visitor = null; // who is shown
let newVisit = null; // the id of the session that the next event opens, if one was asked for
let turn = 0; // of what is being done; an answer to an earlier one is dropped
let again = null; // what failed

const asked = () => new URLSearchParams(location.hash.slice(1));
const isBusy = () => part("main").ariaBusy === "true";

/** Do what asks the service; of failures say what can be done. */
async function attempt(work) {
  const mine = ++turn;
  part("main").ariaBusy = "true";
  try {
    await work(() => mine === turn);
    if (mine === turn) part("problem").hidden = part("token-form").hidden = true;
  } catch (failure) {
    if (!(failure instanceof service.Failure)) throw failure;
    if (mine === turn) report(failure, () => attempt(work));
  } finally {
    if (mine === turn) {
      part("main").ariaBusy = "false";
      part("loading").hidden = true;
    }
  }
}

function report(failure, repeat) {
  again = repeat;
  const asksForToken = failure.status === 401;
  part("token-form").hidden = !asksForToken;
  part("problem").hidden = asksForToken;
  part("problem-text").textContent = failure.message;
  part("retry").hidden = failure.status >= 400 && failure.status < 500; // the answer would stay
  part("problem").scrollIntoView({ block: "nearest" });
  if (!asksForToken) return;
  part("token-text").textContent = service.hasToken()
    ? "The service did not accept this token."
    : "This service is not open to all.";
  part("token").focus();
}

/** Show whom the address names, or the users to choose from. */
function show({ arriving = true } = {}) {
  const named = asked();
  const kind = ["user", "session"].find((name) => named.get(name));
  if (kind && visitor?.kind === kind && visitor.id === named.get(kind) && !part("person").hidden) {
    draw();
    part("now-title").scrollIntoView({ block: "nearest" }); // on a phone the visits are far below
    return;
  }
  newVisit = null;
  part("welcome").hidden = part("person").hidden = true;
  part("loading").hidden = false;
  part("status").textContent = "";
  attempt(async (isCurrent) => {
    let found = null;
    let users;
    if (kind) {
      const id = named.get(kind);
      found = kind === "user" ? new User(id) : new Visitor(id);
      await Promise.all([found.load(), loadHealth()]);
      if (named.has("at") && found.more) await found.reach(parseInt(named.get("at"), 10) - 1);
    } else {
      const limit = { prefix: "", limit: SOME_USERS };
      [{ users }] = await Promise.all([service.get("users", limit), loadHealth()]);
    }
    if (!isCurrent()) return;
    visitor = found;
    part("loading").hidden = true;
    const title = visitor ? visitor.name : "Live recommendations";
    document.title = `${title} · ${health.model}`;
    part("person").hidden = !visitor;
    part("welcome").hidden = Boolean(visitor);
    if (visitor) draw();
    else drawUsers(users);
    if (arriving) part(visitor ? "name" : "welcome-title").focus();
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
  const rows = users.map(({ user, events }) =>
    element(
      "li",
      {},
      element("a", { href: address({ user }) }, user, element("small", {}, plural(events, "event"))),
    ),
  );
  part("users").replaceChildren(...rows);
}

function draw() {
  drawVisit();
  drawPerson(visitor, { at: asked().get("at"), click });
}

function drawVisit() {
  const isUser = visitor.kind === "user";
  part("new-visit").hidden = !isUser;
  part("forget").hidden = isUser;
  part("new-visit").ariaPressed = String(newVisit !== null);
  const opened = health.given_sessions
    ? "Pressed, the next click carries a new session id, which opens a visit."
    : "An idle gap opens a visit, and so does a new session id: pressed, the next click carries one.";
  part("visit-hint").textContent = isUser
    ? newVisit
      ? "The next click opens a new visit. Press again to stay in this one."
      : opened
    : "Deletes what the service keeps of these clicks.";
}

/** Post an item as the visitor's next event; show what changed. */
function click(item) {
  if (isBusy()) return;
  const event = { item, event_id: service.fresh(), ...(newVisit && { session: newVisit }) };
  const old = visitor.steps.at(-1);
  let outcome; // stays over a retry, whose event is the same one
  attempt(async (isCurrent) => {
    outcome ??= await visitor.observe(event);
    await Promise.all([visitor.load(), loadHealth()]);
    if (!isCurrent()) return;
    const step = visitor.steps.at(-1);
    if (outcome === "observed") newVisit = null;
    travelling(part("now"), draw);
    part("status").replaceChildren(
      `${whatBecame(item, outcome, step, old)} `,
      element("span", { className: "unseen" }, part("now-moved").textContent),
    );
  });
}

function whatBecame(item, outcome, step, old) {
  if (outcome === "unknown_item") {
    return `${item} is not an item that the network knows: nothing changed.`;
  }
  if (outcome === "repeat") {
    return `${item} is in this visit already, and the network learnt from visits without repeats: nothing changed.`;
  }
  const opens = step.session !== old?.session;
  return `${item} ${opens ? "opened" : "was added to"} visit ${step.session + 1}.`;
}

combobox("user", {
  suggest: async (prefix) => {
    const { users } = await service.get("users", { prefix, limit: 20 });
    return {
      values: users.map(({ user }) => user),
      texts: users.map(({ user, events }) => `${user} · ${plural(events, "event")}`),
      hint: users.length ? `${plural(users.length, "user")} listed` : "No user begins like this.",
    };
  },
  choose: (user) => {
    if (location.hash === address({ user })) show();
    else location.hash = address({ user });
  },
});

combobox("item", {
  suggest: async (prefix) => {
    const { items } = await service.get("items", { prefix, limit: 20 });
    const hint = items.length ? `${plural(items.length, "item")} listed` : "No item begins like this.";
    return { values: items, texts: items.map(String), hint };
  },
  choose: click,
});

part("anonymous").addEventListener("click", () => {
  location.hash = address({ session: service.fresh() });
});
part("new-visit").addEventListener("click", () => {
  newVisit = newVisit ? null : service.fresh();
  drawVisit();
});
part("forget").addEventListener("click", () => {
  attempt(async (isCurrent) => {
    await visitor.forget();
    if (isCurrent()) location.hash = "";
  });
});
part("earlier").addEventListener("click", () => {
  attempt(async (isCurrent) => {
    await visitor.reach(visitor.steps[0].session - EARLIER);
    if (!isCurrent()) return;
    draw();
    if (part("earlier").hidden) part("visits-title").focus();
  });
});
part("retry").addEventListener("click", () => {
  part("main").focus();
  again();
});
part("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  service.useToken(part("token").value);
  part("token").value = "";
  part("main").focus();
  again();
});
part("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is taken
  part("main").focus();
});
window.addEventListener("hashchange", () => show());
show({ arriving: false });
