/** Whom the page looks at: a user, of whom the service keeps the past, or an anonymous visitor. */

import * as service from "./service.js";

const K = 10; // items in a list
const MOST_VISITS = 1000; // that the service lists at once

/**
 * Visitors have: id; steps, the events oldest first, {session, place, item, time, recommended};
 * now, the list as it stands; start, the list before the first step if it is known; more, whether
 * there may be earlier steps.
 */
export class User {
  kind = "user";
  steps = [];
  start = null;
  now = [];
  #visits = 10;

  constructor(id) {
    this.id = id;
    this.path = `users/${service.part(id)}`;
  }

  get name() {
    return `User ${this.id}`;
  }

  async load() {
    const [past, list] = await Promise.all([
      service.get(`${this.path}/history`, { sessions: this.#visits, k: K }),
      recommended(this.path),
    ]);
    this.steps = past.sessions.flatMap(({ session, events }) =>
      events.map(({ item, time, recommendations }, index) => ({
        session,
        place: index + 1,
        item,
        time,
        recommended: recommendations,
      })),
    );
    if (!this.steps.length) this.start = list;
    this.now = list;
    this.more = past.sessions.length === this.#visits && this.steps[0].session > 0;
  }

  /** Load the visits from this one on too, by its number from 0. */
  async reach(visit) {
    if (!this.more || visit >= this.steps[0].session) return;
    this.#visits = Math.min(this.steps.at(-1).session + 1 - Math.max(visit, 0), MOST_VISITS);
    await this.load();
  }

  /** Post an event {item, event_id}, with a session where it opens one; returns its outcome. */
  async observe(event) {
    const { outcomes } = await service.call("POST", "events", { user: this.id, ...event });
    return outcomes[0];
  }
}

/** The service keeps no list of an anonymous session's events: this tab does. */
export class Visitor {
  kind = "session";
  name = "Anonymous visitor";
  more = false;

  constructor(id) {
    this.id = id;
    this.path = `sessions/${service.part(id)}`;
    const kept = sessionStorage.getItem(this.#key);
    Object.assign(this, kept ? JSON.parse(kept) : { start: null, steps: [] });
    this.now = [];
  }

  get #key() {
    return `anonymous ${this.id}`;
  }

  async load() {
    this.now = await recommended(this.path);
    if (!this.steps.length) this.start = this.now;
  }

  async observe({ item, event_id }) {
    const { outcomes } = await service.call("POST", `${this.path}/events`, { item, event_id });
    if (outcomes[0] === "observed" || outcomes[0] === "duplicate") {
      const step = { session: 0, place: this.steps.length + 1, item, time: Date.now() / 1000 };
      this.steps.push({ ...step, recommended: await recommended(this.path) });
      const { start, steps } = this;
      sessionStorage.setItem(this.#key, JSON.stringify({ start, steps }));
    }
    return outcomes[0];
  }

  async forget() {
    try {
      await service.call("DELETE", this.path);
    } catch (failure) {
      if (failure.status !== 404) throw failure; // there was nothing yet
    }
    sessionStorage.removeItem(this.#key);
  }
}

async function recommended(path) {
  return (await service.get(`${path}/recommendations`, { k: K })).recommendations;
}

const lists = new Map(); // of newcomers, by what they clicked

/** Return the list of somebody without a past who clicked the same items, and leave no trace. */
export async function newcomersList(items) {
  const clicked = JSON.stringify(items);
  if (!lists.has(clicked)) {
    const path = `sessions/${service.fresh()}`;
    const events = items.map((item) => ({ item }));
    try {
      await service.call("POST", `${path}/events`, { events });
      lists.set(clicked, await recommended(path));
    } finally {
      service.call("DELETE", path).catch(() => {}); // the service drops idle sessions as well
    }
  }
  return lists.get(clicked);
}
