/** The view of a visitor: visits; the list now or after an event, before it, a newcomer's. */

import { commands } from "./command.js";
import { address, element, number, part, plural } from "./dom.js";
import { label, nameOf, picture } from "./items.js";
import { changeMark, describeChanges, fillTable, placeMark, places } from "./lists.js";
import { percent, signed } from "./lists.js";
import { options } from "./options.js";
import { describeRight, placeBefore } from "./right.js";
import { Failure } from "./service.js";
import { preview } from "./visitors.js";
import { toggleWhy } from "./why.js";

const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });

let latestComparison = 0; // with a newcomer; answers to earlier ones are dropped

/**
 * Draw a visitor after an event, or now.
 *
 * at: VISIT.PLACE of the event, both from 1; null means now.
 * context: {click: called with a recommended item; popular: items; isChance: whether scores are
 *   logarithms of probabilities}
 */
export function drawPerson(visitor, at, context) {
  const { steps } = visitor;
  const named = steps.findIndex((step) => stepName(step) === at);
  const index = named < 0 ? steps.length - 1 : named;
  const isPast = index < steps.length - 1;
  const step = steps[index];
  const list = isPast ? step.recommended : visitor.now;
  const before = step && (index > 0 ? steps[index - 1].recommended : visitor.start);
  const next = isPast && steps[index + 1].session === step.session ? steps[index + 1] : null;

  const focused = document.activeElement?.dataset.key;
  part("name").textContent = visitor.name;
  part("visit").hidden = part("item-form").hidden = isPast;
  part("status").textContent = isPast
    ? `Looking back: visit ${number(step.session + 1)}, event ${step.place}.`
    : at && named < 0
      ? `No event ${at.slice(0, 20)} is stored: this is the list now.`
      : "";
  part("back").href = address({ [visitor.kind]: visitor.id });
  if (!isPast && document.activeElement === part("back")) part("name").focus();
  part("back").hidden = !isPast;
  drawNow({ visitor, list, before, step: isPast ? step : null, next }, context);
  drawBefore(list, before, step, context);
  drawVisits(visitor, step, context.popular);
  drawPopular(list, context.popular);
  const visit = steps.slice(0, index + 1).filter(({ session }) => session === step.session);
  part("commands").textContent = commands(visitor, visit, isPast);
  compareWithNewcomer(visitor, list, visit, context);
  if (focused && document.activeElement === document.body) {
    (document.querySelector(`[data-key="${focused}"]`) ?? part("name")).focus();
  }
}

const stepName = ({ session, place }) => `${session + 1}.${place}`;

/**
 * Draw the list.
 *
 * step: the event after which it is shown; null for the current list. next: the click after it.
 */
function drawNow({ visitor, list, before, step, next }, { click, isChance }) {
  const old = places(before ?? []);
  const button = (item, place) =>
    element(
      "button",
      {
        type: "button",
        className: "item",
        data: { key: `place-${place}` },
        // The second click of a double click would hit an item that has just moved there.
        onclick: ({ detail }) => detail > 1 || click(item),
      },
      label(item),
    );
  const clickedNext = (item) => {
    const shown = label(item);
    if (item === String(next?.item)) shown.append(element("small", { className: "next" }, "the next click"));
    return shown;
  };
  const event = step ? { after: `${step.session}.${step.place - 1}` } : {};
  // A session's earlier lists are those of a newcomer, whom nobody can ask about.
  const hasWhy = !step || visitor.kind === "user";
  const score = (item, place, entry) => {
    const shown = scoreText(entry, isChance);
    if (!hasWhy) return shown;
    const why = element("span", { className: "unseen" }, `, why is ${nameOf(item)} here?`);
    const onclick = ({ currentTarget }) => toggleWhy(currentTarget, visitor, event);
    const properties = { type: "button", className: "score", ariaExpanded: "false", onclick };
    return element("button", properties, shown, why);
  };
  part("now-title").textContent = step ? `After ${nameOf(step.item)}` : "Recommended now";
  part("now-moved").textContent = before ? describeChanges(list, before) : "";
  const hints = [];
  if (!step) hints.push("Click an item: it becomes the next event.");
  if (hasWhy) hints.push(`Press a ${isChance ? "chance" : "score"} to see why an item is here.`);
  part("now-summary").textContent = list.length ? hints.join(" ") : "Nothing is left to recommend.";
  fillTable(part("now"), list, {
    last: (item, place) => (before ? changeMark(place, old.get(item)) : ""),
    name: step ? clickedNext : button,
    value: score,
    chosen: next && String(next.item),
  });
}

const scoreText = ({ score }, isChance) => (isChance ? percent(Math.exp(score)) : signed(score));

function drawBefore(list, before, step, { isChance }) {
  const now = places(list);
  part("before-part").hidden = !step;
  if (!step) return;
  part("before-title").textContent = `Before ${nameOf(step.item)}`;
  part("before-summary").textContent = before
    ? "The list just before this event, and the places of its items after it."
    : "This is the first event shown: there is no list before it.";
  fillTable(part("before"), before ?? [], {
    last: (item) => placeMark(now.get(item), "left", "left"),
    value: (item, place, entry) => scoreText(entry, isChance),
    chosen: String(step.item),
  });
}

function drawPopular(list, popular) {
  const own = places(list);
  part("popular-part").hidden = !popular.length;
  fillTable(part("popular"), popular, {
    last: (item) => placeMark(own.get(item), "–", "not in the list"),
    value: (item, place, { events }) => number(events),
  });
}

function drawVisits(visitor, current, popular) {
  const { steps } = visitor;
  const visits = new Map(); // from session numbers to rows, newest first
  steps.forEach((step, index) => {
    const row = drawEvent(visitor, step, placeBefore(steps, index), step === current);
    visits.set(step.session, [row, ...(visits.get(step.session) ?? [])]);
  });
  const drawn = [...visits].map(([session, rows]) => {
    const { time } = steps.find((step) => step.session === session);
    const date = element("small", {}, DATE.format(time * 1000));
    const title = element("h4", {}, `Visit ${number(session + 1)}`, date);
    return element("section", {}, title, element("ol", { reversed: true }, ...rows));
  });
  const box = part("visits");
  box.replaceChildren(...drawn.reverse());
  const row = box.querySelector("[aria-current]"); // into view in its box, and the page stays
  const above = row ? row.offsetTop - box.offsetTop : 0;
  const isSeen = above >= box.scrollTop && above + 44 <= box.scrollTop + box.clientHeight;
  if (!isSeen) box.scrollTop = above - 44;
  const counts = `${plural(drawn.length, "visit")}, ${plural(steps.length, "event")}.`;
  part("visits-summary").textContent = steps.length
    ? `${counts} Choose an event to see its lists. “no. 3”: it was third in the list before it.`
    : "No events yet: every newcomer gets this list.";
  const right = describeRight(steps, popular, options.excludeHad);
  part("right").hidden = !right;
  part("right-text").textContent = right;
  part("earlier").hidden = !visitor.more;
}

function drawEvent(visitor, step, place, isCurrent) {
  const at = stepName(step);
  const found = place === undefined ? "" : place ? `no. ${place}` : "not listed";
  const link = element(
    "a",
    { href: address({ [visitor.kind]: visitor.id, at }), data: { key: `at-${at}` } },
    picture(step.item),
    element("span", { className: "item" }, label(step.item)),
    element("small", { className: place ? "hit" : "" }, found),
    element("small", {}, CLOCK.format(step.time * 1000)),
  );
  if (isCurrent) link.ariaCurrent = "true";
  return element("li", {}, link);
}

/** Show the list of a newcomer who clicked the same items next to the user's list. */
async function compareWithNewcomer(visitor, list, visit, { isChance }) {
  const comparison = ++latestComparison;
  const isCompared = visitor.kind === "user" && visit.length > 0;
  part("newcomer-part").hidden = !isCompared;
  if (!isCompared) return;
  const table = part("newcomer");
  table.ariaBusy = "true";
  let theirs = [];
  let summary;
  try {
    theirs = (await preview(visit)).at(-1);
    summary = describeComparison(list, theirs, visit);
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    summary = failure.message;
  }
  if (comparison !== latestComparison) return;
  table.ariaBusy = "false";
  const own = places(list);
  fillTable(table, theirs, {
    last: (item) => placeMark(own.get(item), "–", "not in the user’s list"),
    value: (item, place, entry) => scoreText(entry, isChance),
  });
  part("newcomer-summary").textContent = summary;
}

function describeComparison(list, theirs, visit) {
  const [{ item: first }] = visit;
  const clicked = visit.length === 1 ? nameOf(first) : `the ${visit.length} items of this visit`;
  const [own, other] = [places(list), places(theirs)];
  const added = [...own.keys()].filter((item) => !other.has(item));
  let result = `this list. Only the user’s history adds ${added.map(nameOf).join(", ")}.`;
  if ([...own].every(([item, place]) => other.get(item) === place)) result = "the same list.";
  else if (!added.length) result = "the same items in another order.";
  else if (added.length === list.length) result = "this list, without any of the user’s items.";
  return `A newcomer who clicked ${clicked} gets ${result}`;
}
