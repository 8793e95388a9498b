/** Parts of the page, and the words and addresses in them. */

const NUMBER = new Intl.NumberFormat("en-GB");

export const part = (id) => document.getElementById(id);
export const number = (n) => NUMBER.format(n);
export const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;

/** Return the address of a view of the page, such as #user=ID. */
export const address = (parameters) => `#${new URLSearchParams(parameters)}`;

/** Make an element. Strings among the children become text, never markup. */
export function element(tag, { data = {}, ...properties } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.dataset, data);
  made.append(...children);
  return made;
}
