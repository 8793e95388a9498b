/** Those who get recommendations: users, and anonymous visitors, whose clicks this tab stores. */

import * as service from "./service.js";

const K = 10; // items in a list
const MOST_VISITS = 1000; // that the service returns at once

/**
 * A user of the service. Visitors, of both kinds, have
 *
 * id, name; kind: "user" or "session"; path: of the service's routes
 * steps: events, oldest first: {session, place, item, time, recommended}
 * now: the current list; start: the list before the first step, null if unknown
 * more: whether there may be earlier steps
 */
export class User {
  kind = "user";
  steps = [];
  start = null;
  now = [];
  #nVisits = 10;

  constructor(id) {
    this.id = id;
    this.name = `User ${id}`;
    this.path = `users/${service.pathPart(id)}`;
  }

  async load() {
    const [history, list] = await Promise.all([
      service.get(`${this.path}/history`, { sessions: this.#nVisits, k: K }),
      recommendations(this.path),
    ]);
    this.steps = history.sessions.flatMap(({ session, events }) =>
      events.map(({ item, time, recommendations }, index) => {
        return { session, place: index + 1, item, time, recommended: recommendations };
      }),
    );
    if (!this.steps.length) this.start = list;
    this.now = list;
    this.more = history.sessions.length === this.#nVisits && this.steps[0].session > 0;
  }

  /** Load the earlier visits down to this number, from 0. */
  async loadFrom(visit) {
    if (!this.more || visit >= this.steps[0].session) return;
    this.#nVisits = Math.min(this.steps.at(-1).session + 1 - Math.max(visit, 0), MOST_VISITS);
    await this.load();
  }

  /** Post an event {item, event_id, session?}; returns its outcome. */
  async observe(event) {
    const { outcomes } = await service.call("POST", "events", { user: this.id, ...event });
    return outcomes[0];
  }
}

/** An anonymous visitor. The service has no history of a session, so the tab stores the steps. */
export class Visitor {
  kind = "session";
  name = "Anonymous visitor";
  more = false;
  now = [];

  constructor(id) {
    this.id = id;
    this.path = `sessions/${service.pathPart(id)}`;
    const stored = sessionStorage.getItem(this.#key);
    Object.assign(this, stored ? JSON.parse(stored) : { start: null, steps: [] });
  }

  get #key() {
    return `anonymous ${this.id}`;
  }

  async load() {
    this.now = await recommendations(this.path);
    if (!this.steps.length) this.start = this.now;
  }

  async observe({ item, event_id }) {
    const { outcomes } = await service.call("POST", `${this.path}/events`, { item, event_id });
    if (outcomes[0] === "observed" || outcomes[0] === "duplicate") {
      const step = { session: 0, place: this.steps.length + 1, item, time: Date.now() / 1000 };
      this.steps.push({ ...step, recommended: await recommendations(this.path) });
      const { start, steps } = this;
      sessionStorage.setItem(this.#key, JSON.stringify({ start, steps }));
    }
    return outcomes[0];
  }

  async forget() {
    try {
      await service.call("DELETE", this.path);
    } catch (failure) {
      if (failure.status !== 404) throw failure; // no click has been stored yet
    }
    sessionStorage.removeItem(this.#key);
  }
}

async function recommendations(path) {
  return (await service.get(`${path}/recommendations`, { k: K })).recommendations;
}

const newcomerLists = new Map(); // by the events, as JSON

/** Return the list of a newcomer with these events, {item, time}, as one visit. Nothing is stored. */
export async function newcomerList(steps) {
  const events = steps.map(({ item, time }) => ({ item, time, session: "visit" }));
  const key = JSON.stringify(events);
  if (!newcomerLists.has(key)) {
    const followed = await service.call("POST", `preview?k=${K}`, { events });
    newcomerLists.set(key, followed.events.at(-1).recommendations);
  }
  return newcomerLists.get(key);
}
