/** Calls of the service: JSON in, JSON out, and failures with a message to show. */

const TIMEOUT = 30_000; // ms: the first call may wait for the network to be compiled

/** A call that failed. status: that of the response; 0 without one, 400 if it cannot be sent. */
export class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const useToken = (token) => sessionStorage.setItem("token", token);
export const hasToken = () => sessionStorage.getItem("token") !== null;

/** Return an id as a part of a path. */
export function pathPart(id) {
  // Browsers resolve these two even if they are escaped, and would call another path.
  if (id === "." || id === "..") {
    const reason = "other clients of the service can";
    throw new Failure(`A browser cannot ask for the id “${id}”: ${reason}.`, 400);
  }
  return encodeURIComponent(id);
}

/** Draw a random id, for a visitor, a visit or an event. */
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function get(path, parameters = {}) {
  return call("GET", `${path}?${new URLSearchParams(parameters)}`);
}

/** Call the service; path is relative to the page's. Throws Failure. */
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
  const { ok, status, statusText } = response;
  let answer;
  try {
    answer = text && JSON.parse(text, keepDigits);
  } catch {
    throw new Failure(`The service answered ${status}, but not in JSON.`, status);
  }
  if (ok) return answer;
  const reason = typeof answer.detail === "string" ? answer.detail : statusText;
  throw new Failure(`The service answered ${status}: ${reason}`, status);
}

/** Keep the digits of an integer id that a JavaScript number would round, as text. */
function keepDigits(key, value, context) {
  const isRounded = Number.isInteger(value) && !Number.isSafeInteger(value);
  return isRounded && context ? context.source : value;
}
