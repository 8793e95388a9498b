/** Lists of recommendations side by side: what moved, what entered, what left. */

import { element } from "./dom.js";

const SCORE = new Intl.NumberFormat("en-GB", {
  minimumFractionDigits: 3,
  maximumFractionDigits: 3,
});
const MOTION = { duration: 450, easing: "cubic-bezier(.2, 0, 0, 1)" };

/** Return the place of each item of a list, from 1. */
export function places(list) {
  return new Map(list.map(({ item }, index) => [String(item), index + 1]));
}

/** Return what moved between two lists: how many went up, down, stayed and entered, and who left. */
export function moves(now, before) {
  const was = places(before);
  const is = places(now);
  const found = { up: 0, down: 0, same: 0, entered: 0 };
  for (const [item, place] of is) {
    const old = was.get(item);
    if (old === undefined) found.entered += 1;
    else if (place < old) found.up += 1;
    else if (place > old) found.down += 1;
    else found.same += 1;
  }
  return { ...found, left: before.length - (now.length - found.entered) };
}

/** Say what moved in words. */
export function inWords({ up, down, entered, left, same }) {
  const told = Object.entries({ up, down, new: entered, left, unmoved: same });
  return told.flatMap(([word, n]) => (n ? `${n} ${word}` : [])).join(", ");
}

/** A sign for those who see it, words for those who do not. */
function mark(sign, words, kind) {
  return element(
    "span",
    { className: `mark ${kind}` },
    element("span", { ariaHidden: "true" }, sign),
    element("span", { className: "unseen" }, words),
  );
}

/** How an item came to its place from the list before. */
export function change(place, old) {
  if (old === undefined) return mark("new", "new", "entered");
  if (place < old) return mark(`↑ ${old - place}`, `up ${old - place}`, "up");
  if (place > old) return mark(`↓ ${place - old}`, `down ${place - old}`, "down");
  return mark("=", "unmoved", "same");
}

/** Where an item of this list is in another one. */
export function elsewhere(place, sign, words) {
  if (place === undefined) return mark(sign, words, "absent");
  return mark(String(place), `place ${place}`, "same");
}

/**
 * Fill a table with a list.
 *
 * item: from an entry and its place to what stands in the item's cell; last: to the last cell.
 */
export function fill(table, list, { item, last }) {
  const rows = list.map((entry, index) =>
    element(
      "tr",
      { data: { item: entry.item } },
      element("td", { className: "place" }, String(index + 1)),
      element("th", { scope: "row" }, item(entry, index + 1)),
      element("td", {}, SCORE.format(entry.score).replace("-", "−")),
      element("td", {}, last(entry, index + 1)),
    ),
  );
  table.tBodies[0].replaceChildren(...rows);
  table.hidden = rows.length === 0;
}

/** Draw, and let the rows of a table travel from where they were. */
export function travelling(table, draw) {
  const tops = new Map(rowsOf(table).map((row) => [row.dataset.item, row.offsetTop]));
  draw();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of rowsOf(table)) {
    const top = tops.get(row.dataset.item);
    if (top === undefined) row.animate([{ opacity: 0 }, { opacity: 1 }], MOTION);
    else if (top !== row.offsetTop) {
      const from = `translateY(${top - row.offsetTop}px)`;
      row.animate([{ transform: from }, { transform: "none" }], MOTION);
    }
  }
}

function rowsOf(table) {
  return [...table.tBodies[0].rows];
}
