/** Tables of recommendations, and the differences between two lists. */

import { element } from "./dom.js";
import { label, link, picture } from "./items.js";

const SCORE = new Intl.NumberFormat("en-GB", {
  minimumFractionDigits: 3,
  maximumFractionDigits: 3,
});
const PERCENT = new Intl.NumberFormat("en-GB", {
  style: "percent",
  minimumSignificantDigits: 2,
  maximumSignificantDigits: 2,
});
const MOTION = { duration: 450, easing: "cubic-bezier(.2, 0, 0, 1)" };

/** Return a number with the sign of a minus that is as wide as a digit. */
export const signed = (value) => SCORE.format(value).replace("-", "−");

/** Return a share such as "7.6 %". */
export const percent = (share) => PERCENT.format(share).replace("%", "\u202f%");

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
  return parts.length ? `${parts.join(", ")}.` : "";
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
 * cells: functions from an item and its place to the content of cells. last: of the last one;
 *   name: of the item's name; value: of the third one, which gets the entry of the list too.
 * chosen: the item of the row that stands out.
 */
export function fillTable(table, list, { last, name = label, value, chosen }) {
  const rows = list.map((entry, index) => {
    const [item, place] = [String(entry.item), index + 1];
    return element(
      "tr",
      { data: { item }, className: item === chosen ? "chosen" : "" },
      element("td", {}, String(place)),
      element(
        "th",
        { scope: "row" },
        element("div", { className: "entry" }, picture(item), name(item, place), link(item)),
      ),
      element("td", {}, value(item, place, entry)),
      element("td", {}, last(item, place)),
    );
  });
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
