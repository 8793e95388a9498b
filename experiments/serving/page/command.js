/** The commands that ask the service for what the page shows. */

import { hasToken } from "./service.js";
import { K, listParameters, previewBody } from "./visitors.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(path, parameters, body) {
  const url = new URL(`${path}?${new URLSearchParams(parameters)}`, document.baseURI);
  const parts = [`curl ${quoted(url.href)}`];
  if (hasToken()) parts.push('-H "Authorization: Bearer $HRNN_JAX_TOKEN"');
  if (body) {
    parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(body))}`);
  }
  return parts.join(" \\\n  ");
}

/**
 * Return the commands, with a comment each.
 *
 * visitor: who is shown. steps: those of the visit up to the one after which the list is shown.
 * isPast: whether that is an earlier one.
 */
export function commands(visitor, steps, isPast) {
  const lists = listParameters();
  const found = [];
  if (!isPast) {
    found.push(["recommended now", curl(`${visitor.path}/recommendations`, lists)]);
  }
  if (visitor.kind === "user") {
    const visits = new Set(visitor.steps.map(({ session }) => session)).size || 1;
    const parameters = { sessions: visits, ...lists };
    found.push(["all visits shown", curl(`${visitor.path}/history`, parameters)]);
  }
  if (steps.length && (visitor.kind === "user" || isPast)) {
    const comment = "the same clicks by a newcomer: nothing is stored";
    found.push([comment, curl("preview", lists, previewBody(steps))]);
  }
  found.push(["most popular", curl("popular", { k: K })]);
  return found.map(([comment, command]) => `# ${comment}\n${command}`).join("\n\n");
}
