/** A visitor: the list now or after an event, what it was before, a newcomer's, and the visits. */

import { address, element, part, plural } from "./dom.js";
import { change, elsewhere, fill, inWords, moves, places } from "./lists.js";
import * as service from "./service.js";
import { newcomersList } from "./visitors.js";

const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });

let comparison = 0; // with a newcomer; an answer to an earlier one is dropped

/**
 * Draw a visitor at an event, or as they are now if they have none of that name.
 *
 * at: VISIT.PLACE of the event, both from 1. click: called with a recommended item.
 */
export function drawPerson(visitor, { at, click }) {
  const { steps } = visitor;
  const named = steps.findIndex((step) => stepName(step) === at);
  const index = named < 0 ? steps.length - 1 : named;
  const isPast = index < steps.length - 1;
  const list = isPast ? steps[index].recommended : visitor.now;
  const before = index > 0 ? steps[index - 1].recommended : visitor.start;
  const step = steps[index];

  const focused = document.activeElement?.dataset.key;
  part("name").textContent = visitor.name;
  part("about").textContent = about(visitor);
  part("visit").hidden = part("item-form").hidden = isPast;
  part("status").textContent = isPast
    ? `Looking back: visit ${step.session + 1}, event ${step.place}.`
    : "";
  part("back").href = address({ [visitor.kind]: visitor.id });
  if (!isPast && document.activeElement === part("back")) part("name").focus();
  part("back").hidden = !isPast;
  drawLists(list, step ? before : null, step, isPast ? null : click);
  drawVisits(visitor, step);
  const visit = steps.slice(0, index + 1).filter(({ session }) => session === step.session);
  drawNewcomer(visitor, list, visit);
  if (focused && document.activeElement === document.body) {
    (document.querySelector(`[data-key="${focused}"]`) ?? part("name")).focus();
  }
}

const stepName = ({ session, place }) => `${session + 1}.${place}`;

function about(visitor) {
  const last = visitor.steps.at(-1);
  if (visitor.kind === "session") {
    return last
      ? "Without a past: what is recommended rests on this visit alone."
      : "Nothing clicked yet: this is what anybody gets. Click an item to begin.";
  }
  if (!last) return "Nothing is kept of this user. A click begins the first visit.";
  return `Last event ${DATE.format(last.time * 1000)}, in visit ${last.session + 1}.`;
}

/** click: null where the lists are of the past. */
function drawLists(list, before, step, click) {
  const isPast = !click;
  const was = places(before ?? []);
  const is = places(list);
  part("now-title").textContent = isPast ? `After ${step.item}` : "Recommended now";
  part("now-moved").textContent = before ? `${inWords(moves(list, before))}.` : "";
  part("now-summary").textContent = !list.length
    ? "The service recommends nothing."
    : isPast
      ? ""
      : "Click an item: it becomes the next event.";
  fill(part("now"), list, {
    item: ({ item }, place) =>
      isPast
        ? String(item)
        : element(
            "button",
            {
              type: "button",
              data: { key: `place-${place}` },
              // The second click of a double click would fall on an item that has just moved there.
              onclick: ({ detail }) => detail > 1 || click(item),
            },
            String(item),
          ),
    last: ({ item }, place) => (before ? change(place, was.get(String(item))) : ""),
  });
  part("before-part").hidden = !step;
  part("before-title").textContent = `Before ${step?.item}`;
  part("before-summary").textContent = before
    ? "The list that the event came upon, and where its items went."
    : "There is no list from before: this is the first event that is shown.";
  fill(part("before"), before ?? [], {
    item: ({ item }) => String(item),
    last: ({ item }) => elsewhere(is.get(String(item)), "left", "left"),
  });
}

function drawVisits(visitor, current) {
  const { steps } = visitor;
  const sessions = new Map();
  steps.forEach((step, index) => {
    const sooner = steps[index - 1];
    const list = sooner?.session === step.session ? sooner.recommended : [];
    const row = drawEvent(visitor, step, places(list).get(String(step.item)), step === current);
    sessions.set(step.session, [row, ...(sessions.get(step.session) ?? [])]);
  });
  const drawn = [...sessions].map(([session, rows]) => {
    const { time } = steps.find((step) => step.session === session);
    const title = element(
      "h4",
      {},
      `Visit ${session + 1}`,
      element("small", {}, DATE.format(time * 1000)),
    );
    return element("section", {}, title, element("ol", { reversed: true }, ...rows));
  });
  part("visits").replaceChildren(...drawn.reverse());
  part("visits-summary").textContent = steps.length
    ? `${plural(drawn.length, "visit")}, ${plural(steps.length, "event")}. Choose an event to see the lists then; “no. 3” tells that it was third in the list before.`
    : "No events yet.";
  part("earlier").hidden = !visitor.more;
}

function drawEvent(visitor, step, place, isCurrent) {
  const link = element(
    "a",
    {
      href: address({ [visitor.kind]: visitor.id, at: stepName(step) }),
      data: { key: `at-${stepName(step)}` },
    },
    element("span", { className: "item" }, String(step.item)),
    element("small", {}, place ? `no. ${place}` : ""),
    element("small", {}, CLOCK.format(step.time * 1000)),
  );
  if (isCurrent) link.ariaCurrent = "true";
  return element("li", {}, link);
}

/** Set the list of somebody who did the same in this visit, and nothing before, beside the user's. */
async function drawNewcomer(visitor, list, visit) {
  const mine = ++comparison;
  const compared = visitor.kind === "user" && visit.length > 0;
  part("newcomer-part").hidden = !compared;
  part("lists").dataset.columns = 1 + (visit.length > 0) + compared;
  if (!compared) return;
  const summary = part("newcomer-summary");
  const table = part("newcomer");
  const items = visit.map(({ item }) => item);
  table.ariaBusy = "true";
  let theirs = [];
  try {
    theirs = await newcomersList(items);
  } catch (failure) {
    if (!(failure instanceof service.Failure)) throw failure;
    summary.textContent = failure.message;
  }
  if (mine !== comparison) return;
  table.ariaBusy = "false";
  const users = places(list);
  fill(table, theirs, {
    item: ({ item }) => String(item),
    last: ({ item }) => elsewhere(users.get(String(item)), "–", "not in the user’s"),
  });
  if (!theirs.length) return;
  const clicked = items.length === 1 ? items[0] : `the ${items.length} items of this visit`;
  const who = `A newcomer who clicked ${clicked}`;
  const known = places(theirs);
  const brought = list.flatMap(({ item }) => (known.has(String(item)) ? [] : String(item)));
  summary.textContent = `${who} gets ${comparedWith(list, theirs, brought)}`;
}

/** brought: the items of the list that are not in theirs. */
function comparedWith(list, theirs, brought) {
  if (moves(list, theirs).same === list.length) return "the same list.";
  if (!brought.length) return "the same items in another order.";
  if (brought.length === list.length) return "this: all of the user’s list comes from the past.";
  return `this. Only the user’s past brings ${brought.join(", ")}.`;
}
