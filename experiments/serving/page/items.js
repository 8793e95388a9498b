/** What is known of items besides their ids: titles, pictures, and pages of their own. */

import { element } from "./dom.js";

const LONG = 60; // characters of a title in a sentence

const known = new Map(); // {title, image, url} by the text of the id
let hosts = []; // from which the content policy lets the browser load pictures

/** Take over the hosts that the service names. */
export function admitPicturesFrom(imageHosts) {
  hosts = imageHosts;
}

/** Learn what the entries of an answer, {item, title?, image?, url?}, say of their items. */
export function learn(entries) {
  for (const { item, title, image, url } of entries) {
    if (title || image || url) known.set(String(item), { title, image, url });
  }
}

/** Return an item's title, or else its id, for a sentence. */
export function nameOf(item) {
  const { title } = known.get(String(item)) ?? {};
  if (!title) return String(item);
  const name = title.length > LONG ? `${title.slice(0, LONG)}…` : title;
  // Isolated, so that a title from right to left leaves the rest of the sentence in its order.
  return `\u2068${name}\u2069`;
}

/** Return an item's title and, smaller, its id; without a title the id alone. */
export function label(item) {
  const { title } = known.get(String(item)) ?? {};
  const id = element("bdi", {}, String(item));
  if (!title) return element("span", { className: "label" }, id);
  const shown = element("bdi", { className: "title", title }, title);
  return element("span", { className: "label" }, shown, element("small", { className: "id" }, id));
}

/** Return an item's picture, an empty place where others have one, or nothing if none has. */
export function picture(item) {
  if (!hosts.length) return "";
  const { image } = known.get(String(item)) ?? {};
  if (![...known.values()].some((other) => other.image && isAdmitted(other.image))) return "";
  const place = element("span", { className: "picture" });
  if (image && isAdmitted(image)) {
    // The name stands beside it. A picture that does not load leaves its place empty.
    const shown = element("img", { alt: "", loading: "lazy", onerror: () => shown.remove() });
    shown.src = image;
    place.append(shown);
  }
  return place;
}

/** Return a link to an item's own page, or nothing. */
export function link(item) {
  const { url } = known.get(String(item)) ?? {};
  if (!url) return "";
  const words = element("span", { className: "unseen" }, `Open the page of ${nameOf(item)}`);
  const sign = element("span", { ariaHidden: "true" }, "↗");
  const properties = { href: url, target: "_blank", rel: "noopener noreferrer", className: "open" };
  return element("a", properties, sign, words);
}

function isAdmitted(image) {
  if (!URL.canParse(image)) return false;
  const { host, protocol } = new URL(image);
  if (protocol === "http:" && location.protocol === "https:") return false;
  return hosts.some(
    (named) => named === host || (named.startsWith("*.") && host.endsWith(named.slice(1))),
  );
}
