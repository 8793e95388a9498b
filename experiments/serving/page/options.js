/** Two switches that stay as they are until the tab is closed. */

export const options = { excludeHad: false, live: false };

for (const name of Object.keys(options)) options[name] = sessionStorage.getItem(name) === "yes";

export function toggle(name) {
  options[name] = !options[name];
  sessionStorage.setItem(name, options[name] ? "yes" : "no");
}
