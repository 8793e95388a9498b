/** The service, as the page asks it: JSON in, JSON out, and failures that people can read. */

const TIMEOUT = 30_000; // ms: the first call may wait for the network to be compiled

export class Failure extends Error {
  /** status: the response's; 0 where there was none. */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export function useToken(token) {
  sessionStorage.setItem("token", token);
}

export function hasToken() {
  return sessionStorage.getItem("token") !== null;
}

/** Return an id as a part of a path. */
export function part(id) {
  // Browsers resolve these even where they are escaped: another path would be asked.
  if (id === "." || id === "..") throw new Failure(`A browser cannot ask for the id “${id}”.`, 0);
  return encodeURIComponent(id);
}

/** Draw an id that no other visitor, visit or event has. */
export function fresh() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function get(path, parameters = {}) {
  return call("GET", `${path}?${new URLSearchParams(parameters)}`);
}

/** Ask the service; returns what it answers, throws Failure. Paths are relative to the page's. */
export async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (hasToken()) headers.Authorization = `Bearer ${sessionStorage.getItem("token")}`;
  if (body) headers["Content-Type"] = "application/json";
  const signal = AbortSignal.timeout(TIMEOUT);
  let response;
  let text;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
    text = await response.text();
  } catch {
    throw new Failure("The service does not answer. Is it still running?", 0);
  }
  let found;
  try {
    found = text && JSON.parse(text, exact);
  } catch {
    throw new Failure(`The service answered ${response.status}, and not in JSON.`, response.status);
  }
  if (response.ok) return found;
  const said = typeof found.detail === "string" ? found.detail : response.statusText;
  throw new Failure(`The service answered ${response.status}: ${said}`, response.status);
}

/** Keep the digits of an id that a JavaScript number would round; ids are the same by their text. */
function exact(key, value, context) {
  const rounded = Number.isInteger(value) && !Number.isSafeInteger(value);
  return rounded && context ? context.source : value;
}
