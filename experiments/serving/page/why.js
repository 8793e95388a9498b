/** Why an item is in the list: the parts of its score, in a row below the item's. */

import { element } from "./dom.js";
import { learn, nameOf } from "./items.js";
import { percent, signed } from "./lists.js";
import * as service from "./service.js";

const MEANING = {
  repeat: "something that this person had before",
  explore: "something that this person has not had",
  habit: "when and how often this person had it",
  network: "what the clicks tell the network",
  item: "the item itself, whoever the person is",
  neighbours: "what others had next to the last items",
  others: "the items that it competes with",
};

/**
 * Open or close the explanation of a row.
 *
 * button: in the row. visitor: whose list it is. event: {after}, as the service names the event
 * after which the list is shown; {} for now.
 */
export async function toggleWhy(button, visitor, event) {
  const row = button.closest("tr");
  if (button.ariaExpanded === "true") {
    row.nextElementSibling.remove();
    button.ariaExpanded = "false";
    return;
  }
  button.ariaExpanded = "true";
  const cell = element("td", { colSpan: 4 }, "Loading …");
  row.after(element("tr", { className: "why", data: { item: "" } }, cell));
  try {
    const asked = { item: row.dataset.item, ...event };
    const answer = await service.get(`${visitor.path}/explanations`, asked);
    cell.replaceChildren(...describe(answer.explanations[0]));
  } catch (failure) {
    if (!(failure instanceof service.Failure)) throw failure;
    cell.textContent = failure.message;
  }
}

function describe(explanation) {
  if (!explanation) return ["This item cannot be next."];
  const { item, score, parts, neighbours } = explanation;
  learn([explanation, ...neighbours]);
  const largest = Math.max(...parts.map(({ value }) => Math.abs(value)));
  const rows = parts.map(({ name, value }) => {
    const head = element("th", { scope: "row" }, meaning(name, neighbours));
    return element("tr", {}, head, bar(value, largest), cell(value));
  });
  const sum = element("th", { scope: "row" }, "together: the score");
  rows.push(element("tr", { className: "sum" }, sum, element("td"), cell(score)));
  return [
    element("p", {}, sentence(nameOf(item), score, parts)),
    element("table", { ariaLabel: "Parts of the score" }, element("tbody", {}, ...rows)),
  ];
}

const cell = (value) => element("td", {}, signed(value));

function meaning(name, neighbours) {
  if (name !== "neighbours" || !neighbours.length) return MEANING[name];
  const last = neighbours.map(({ item, value }) => `${nameOf(item)} (${signed(value)})`);
  return `${MEANING[name]}: ${last.join(", ")}`;
}

/** Say it by probabilities where the score is the logarithm of one. */
function sentence(name, score, parts) {
  const [first] = parts;
  if (first.name !== "repeat" && first.name !== "explore") {
    return `The parts of the score of ${name} add up to more than those of items below it.`;
  }
  const [mode, own] = [Math.exp(first.value), Math.exp(score - first.value)];
  return (
    `The chance of ${MEANING[first.name]} is ${percent(mode)}, and ${percent(own)} of that are for ` +
    `${name}: together ${percent(mode * own)}. The score is the logarithm of this chance.`
  );
}

/** Make a bar from the middle to the right, or to the left for a part that speaks against it. */
function bar(value, largest) {
  const drawn = element("span", { className: value < 0 ? "bar against" : "bar" });
  drawn.style.width = `${(50 * Math.abs(value)) / (largest || 1)}%`;
  return element("td", { className: "bars", ariaHidden: "true" }, drawn);
}
