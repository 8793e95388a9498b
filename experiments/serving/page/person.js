/** The view of a visitor: the list now or after an event, the list before, a newcomer's, visits. */

import { address, element, part, plural } from "./dom.js";
import { changeMark, describeChanges, fillTable, placeMark, places } from "./lists.js";
import { Failure } from "./service.js";
import { newcomerList } from "./visitors.js";

const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });

let latestComparison = 0; // with a newcomer; answers to earlier ones are dropped

/**
 * Draw a visitor after an event, or now.
 *
 * at: VISIT.PLACE of the event, both from 1; anything else means now.
 * click: called with a recommended item.
 */
export function drawPerson(visitor, at, click) {
  const { steps } = visitor;
  const named = steps.findIndex((step) => stepName(step) === at);
  const index = named < 0 ? steps.length - 1 : named;
  const isPast = index < steps.length - 1;
  const step = steps[index];
  const list = isPast ? step.recommended : visitor.now;
  const before = step && (index > 0 ? steps[index - 1].recommended : visitor.start);

  const focused = document.activeElement?.dataset.key;
  part("name").textContent = visitor.name;
  part("visit").hidden = part("item-form").hidden = isPast;
  part("status").textContent = isPast
    ? `Looking back: visit ${step.session + 1}, event ${step.place}.`
    : "";
  part("back").href = address({ [visitor.kind]: visitor.id });
  if (!isPast && document.activeElement === part("back")) part("name").focus();
  part("back").hidden = !isPast;
  drawNow(list, before, isPast ? step : null, click);
  drawBefore(list, before, step);
  drawVisits(visitor, step);
  const visit = steps.slice(0, index + 1).filter(({ session }) => session === step.session);
  compareWithNewcomer(visitor, list, visit);
  if (focused && document.activeElement === document.body) {
    (document.querySelector(`[data-key="${focused}"]`) ?? part("name")).focus();
  }
}

const stepName = ({ session, place }) => `${session + 1}.${place}`;

/** pastStep: the event after which the list is shown; null shows the current list. */
function drawNow(list, before, pastStep, click) {
  const old = places(before ?? []);
  const button = (item, place) =>
    element(
      "button",
      {
        type: "button",
        data: { key: `place-${place}` },
        // The second click of a double click would hit an item that has just moved there.
        onclick: ({ detail }) => detail > 1 || click(item),
      },
      item,
    );
  part("now-title").textContent = pastStep ? `After ${pastStep.item}` : "Recommended now";
  part("now-moved").textContent = before ? describeChanges(list, before) : "";
  const hint = pastStep ? "" : "Click an item: it becomes the next event.";
  part("now-summary").textContent = list.length ? hint : "The service recommends nothing.";
  fillTable(
    part("now"),
    list,
    (item, place) => (before ? changeMark(place, old.get(item)) : ""),
    pastStep ? undefined : button,
  );
}

function drawBefore(list, before, step) {
  const now = places(list);
  part("before-part").hidden = !step;
  part("before-title").textContent = `Before ${step?.item}`;
  part("before-summary").textContent = before
    ? "The list just before this event, and the places of its items after it."
    : "This is the first event shown: there is no list before it.";
  fillTable(part("before"), before ?? [], (item) => placeMark(now.get(item), "left", "left"));
}

function drawVisits(visitor, current) {
  const { steps } = visitor;
  const visits = new Map(); // from session numbers to rows, newest first
  steps.forEach((step, index) => {
    const earlier = steps[index - 1];
    const list = earlier?.session === step.session ? earlier.recommended : [];
    const row = drawEvent(visitor, step, places(list).get(String(step.item)), step === current);
    visits.set(step.session, [row, ...(visits.get(step.session) ?? [])]);
  });
  const drawn = [...visits].map(([session, rows]) => {
    const { time } = steps.find((step) => step.session === session);
    const date = element("small", {}, DATE.format(time * 1000));
    const title = element("h4", {}, `Visit ${session + 1}`, date);
    return element("section", {}, title, element("ol", { reversed: true }, ...rows));
  });
  part("visits").replaceChildren(...drawn.reverse());
  const counts = `${plural(drawn.length, "visit")}, ${plural(steps.length, "event")}.`;
  part("visits-summary").textContent = steps.length
    ? `${counts} Choose an event to see its lists. “no. 3”: third in the list before the event.`
    : "No events yet: every newcomer gets this list.";
  part("earlier").hidden = !visitor.more;
}

function drawEvent(visitor, step, place, isCurrent) {
  const at = stepName(step);
  const link = element(
    "a",
    { href: address({ [visitor.kind]: visitor.id, at }), data: { key: `at-${at}` } },
    element("span", { className: "item" }, String(step.item)),
    element("small", {}, place ? `no. ${place}` : ""),
    element("small", {}, CLOCK.format(step.time * 1000)),
  );
  if (isCurrent) link.ariaCurrent = "true";
  return element("li", {}, link);
}

/** Show the list of a newcomer who clicked the same items next to the user's list. */
async function compareWithNewcomer(visitor, list, visit) {
  const comparison = ++latestComparison;
  const isCompared = visitor.kind === "user" && visit.length > 0;
  part("newcomer-part").hidden = !isCompared;
  part("lists").dataset.columns = 1 + (visit.length > 0) + isCompared;
  if (!isCompared) return;
  const table = part("newcomer");
  table.ariaBusy = "true";
  let theirs = [];
  let summary;
  try {
    theirs = await newcomerList(visit);
    summary = describeComparison(list, theirs, visit);
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    summary = failure.message;
  }
  if (comparison !== latestComparison) return;
  table.ariaBusy = "false";
  const own = places(list);
  fillTable(table, theirs, (item) => placeMark(own.get(item), "–", "not in the user’s list"));
  part("newcomer-summary").textContent = summary;
}

function describeComparison(list, theirs, visit) {
  const clicked = visit.length === 1 ? visit[0].item : `the ${visit.length} items of this visit`;
  const [own, other] = [places(list), places(theirs)];
  const added = [...own.keys()].filter((item) => !other.has(item));
  let result = `this list. Only the user’s history adds ${added.join(", ")}.`;
  if ([...own].every(([item, place]) => other.get(item) === place)) result = "the same list.";
  else if (!added.length) result = "the same items in another order.";
  else if (added.length === list.length) result = "this list, without any of the user’s items.";
  return `A newcomer who clicked ${clicked} gets ${result}`;
}
