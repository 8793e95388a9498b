/** Those who get recommendations: users, and anonymous visitors, whose clicks this tab stores. */

import { learn } from "./items.js";
import { options } from "./options.js";
import * as service from "./service.js";

export const K = 10; // items in a list
const MOST_VISITS = 1000; // that the service returns at once
const MOST_EVENTS = 1000; // that the service follows at once

/** Return the parameters of each list. */
export const listParameters = () => (options.excludeHad ? { k: K, exclude_seen: true } : { k: K });

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
  #events = 0; // stored
  #nVisits = 10;

  constructor(id) {
    this.id = id;
    this.name = `User ${id}`;
    this.path = `users/${service.pathPart(id)}`;
  }

  async load() {
    const [events, history, list] = await Promise.all([
      this.#countEvents(),
      this.#history(),
      recommendations(this.path),
    ]);
    this.#events = events;
    this.steps = history.sessions.flatMap(({ session, events }) =>
      events.map(({ item, time, recommendations }, index) => {
        return { session, place: index + 1, item, time, recommended: recommendations };
      }),
    );
    learn(history.sessions.flatMap((session) => session.events));
    learn(this.steps.flatMap(({ recommended }) => recommended));
    this.start = this.steps.length ? null : list;
    this.now = list;
    this.more = history.sessions.length === this.#nVisits && this.steps[0].session > 0;
  }

  /** Load the visits; of a user with very many events those that fit into one answer. */
  async #history() {
    for (;;) {
      try {
        const parameters = { sessions: this.#nVisits, ...listParameters() };
        return await service.get(`${this.path}/history`, parameters);
      } catch (failure) {
        if (failure.status !== 422 || this.#nVisits === 1) throw failure;
        this.#nVisits = Math.ceil(this.#nVisits / 2);
      }
    }
  }

  /** Load the earlier visits down to this number, from 0. */
  async loadFrom(visit) {
    if (!this.more || visit >= this.steps[0].session) return;
    this.#nVisits = Math.min(this.steps.at(-1).session + 1 - Math.max(visit, 0), MOST_VISITS);
    await this.load();
  }

  async #countEvents() {
    const { users } = await service.get("users", { prefix: this.id, limit: 1 });
    return users[0]?.user === this.id ? users[0].events : 0;
  }

  /** Tell whether events were stored, or deleted, since these were loaded. */
  async hasChanged() {
    return (await this.#countEvents()) !== this.#events;
  }

  /** Post an event {item, event_id, session?}; returns its outcome. */
  async observe(event) {
    const { outcomes } = await service.call("POST", "events", { user: this.id, ...event });
    return outcomes[0];
  }

  async forget() {
    await forget(this.path);
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
    const [list, after] = await Promise.all([recommendations(this.path), preview(this.steps)]);
    this.now = list;
    this.steps.forEach((step, index) => Object.assign(step, { recommended: after[index] ?? [] }));
    if (!this.steps.length) this.start = this.now;
  }

  async hasChanged() {
    return false; // nobody else knows the session
  }

  async observe({ item, event_id }) {
    const { outcomes } = await service.call("POST", `${this.path}/events`, { item, event_id });
    if (outcomes[0] === "observed" || outcomes[0] === "duplicate") {
      const place = this.steps.length + 1;
      this.steps.push({ session: 0, place, item, time: Date.now() / 1000 });
      const { start, steps } = this;
      sessionStorage.setItem(this.#key, JSON.stringify({ start, steps }));
    }
    return outcomes[0];
  }

  async forget() {
    await forget(this.path);
    sessionStorage.removeItem(this.#key);
  }
}

async function recommendations(path) {
  const answer = await service.get(`${path}/recommendations`, listParameters());
  learn(answer.recommendations);
  return answer.recommendations;
}

async function forget(path) {
  try {
    await service.call("DELETE", path);
  } catch (failure) {
    if (failure.status !== 404) throw failure; // nothing has been stored yet
  }
}

/** Return what POST /preview needs to follow these steps as one visit. */
export function previewBody(steps) {
  const events = steps.slice(0, MOST_EVENTS);
  return { events: events.map(({ item, time }) => ({ item, time, session: "visit" })) };
}

/** Return the lists of a newcomer after each of these steps. The service stores nothing of it. */
export async function preview(steps) {
  if (!steps.length) return [];
  const path = `preview?${new URLSearchParams(listParameters())}`;
  const { events } = await service.call("POST", path, previewBody(steps));
  const lists = events.map((event) => event.recommendations);
  lists.forEach(learn);
  return lists;
}

/** Return the items with the most events of all users: {item, events}. */
export async function popularItems() {
  const { popular } = await service.get("popular", { k: K });
  learn(popular);
  return popular;
}
