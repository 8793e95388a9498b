/** Parts of the page, and the words and addresses in them. */

const NUMBER = new Intl.NumberFormat("en-GB");

export const part = (id) => document.getElementById(id);
export const number = (n) => NUMBER.format(n);
export const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;

/** Return an address within the page. */
export const address = (given) => `#${new URLSearchParams(given)}`;

/** Make an element; text becomes text, whatever it says. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  const { data = {}, ...others } = properties;
  Object.assign(made, others);
  Object.assign(made.dataset, data);
  made.append(...children);
  return made;
}
