/** Tables of recommendations, and the differences between two lists. */

import { element } from "./dom.js";

const SCORE = new Intl.NumberFormat("en-GB", {
  minimumFractionDigits: 3,
  maximumFractionDigits: 3,
});
const MOTION = { duration: 450, easing: "cubic-bezier(.2, 0, 0, 1)" };

/** Return a map from the items of a list to their places, from 1. */
export function places(list) {
  return new Map(list.map(({ item }, index) => [String(item), index + 1]));
}

/** Return a sentence on what changed between two lists, such as "4 up, 1 new, 1 left." */
export function describeChanges(now, before) {
  const old = places(before);
  const counts = { up: 0, down: 0, new: 0, left: before.length, unmoved: 0 };
  for (const [item, place] of places(now)) {
    if (old.has(item)) counts.left -= 1;
    counts[direction(place, old.get(item))] += 1;
  }
  const parts = Object.entries(counts).flatMap(([word, n]) => (n ? `${n} ${word}` : []));
  return `${parts.join(", ")}.`;
}

function direction(place, old) {
  if (old === undefined) return "new";
  if (place === old) return "unmoved";
  return place < old ? "up" : "down";
}

/** Make the mark of an item that was at another place of the list before. */
export function changeMark(place, old) {
  const kind = direction(place, old);
  const sign = { new: "new", unmoved: "=", up: `↑ ${old - place}`, down: `↓ ${place - old}` }[kind];
  return mark(kind, sign, sign.replace(/[↑↓=]/, kind));
}

/** Make the mark of an item's place in another list; sign and words stand for no place. */
export function placeMark(place, sign, words) {
  if (place === undefined) return mark("absent", sign, words);
  return mark("unmoved", String(place), `place ${place}`);
}

/** Make a mark: a sign to be seen, and words for screen readers. */
function mark(kind, sign, words) {
  return element(
    "span",
    { className: `mark ${kind}` },
    element("span", { ariaHidden: "true" }, sign),
    element("span", { className: "unseen" }, words),
  );
}

/**
 * Fill a table with a list.
 *
 * lastCell, itemCell: from an item and its place to the content of its cell.
 */
export function fillTable(table, list, lastCell, itemCell = (item) => item) {
  const rows = list.map(({ item, score }, index) =>
    element(
      "tr",
      { data: { item } },
      element("td", {}, String(index + 1)),
      element("th", { scope: "row" }, itemCell(String(item), index + 1)),
      element("td", {}, SCORE.format(score).replace("-", "−")),
      element("td", {}, lastCell(String(item), index + 1)),
    ),
  );
  table.tBodies[0].replaceChildren(...rows);
  table.hidden = rows.length === 0;
}

/** Call draw, which fills a table again, and let the rows move from their old places. */
export function animateRows(table, draw) {
  const rows = () => [...table.tBodies[0].rows];
  const tops = new Map(rows().map((row) => [row.dataset.item, row.offsetTop]));
  draw();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of rows()) {
    const top = tops.get(row.dataset.item);
    if (top === undefined) row.animate([{ opacity: 0 }, { opacity: 1 }], MOTION);
    else if (top !== row.offsetTop) {
      const from = `translateY(${top - row.offsetTop}px)`;
      row.animate([{ transform: from }, { transform: "none" }], MOTION);
    }
  }
}
