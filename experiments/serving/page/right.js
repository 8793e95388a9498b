/** Was it right: how often the next click was among the items of the list before it. */

import { plural } from "./dom.js";
import { places, percent } from "./lists.js";

/**
 * Return the place of a step's item in the list right before it.
 *
 * Undefined for the first click of a visit, before which there is no list of the visit; 0 if it was
 * not in the list.
 */
export function placeBefore(steps, index) {
  const before = steps[index - 1];
  if (before?.session !== steps[index].session) return undefined;
  return places(before.recommended).get(String(steps[index].item)) ?? 0;
}

/** Say in how many cases the next click was in the list, and in that of the popular items. */
export function describeRight(steps, popular, excludesHad) {
  const cases = steps.map((_, index) => placeBefore(steps, index));
  const counted = cases.flatMap((place, index) => (place === undefined ? [] : index));
  if (!counted.length) return "";
  const share = (n) => percent(n / counted.length);
  const n = counted.length;
  const hits = counted.filter((index) => cases[index] > 0).length;
  const among = "The next click was among the ten recommended";
  let said = `${among} in ${share(hits)} of ${plural(n, "case")}`;
  if (excludesHad) return `${said}, with what was had left out.`;
  if (popular.length) {
    const known = places(popular);
    const likewise = counted.filter((index) => known.has(String(steps[index].item))).length;
    said += `, and among the ten most popular items in ${share(likewise)}`;
  }
  return `${said}.`;
}
