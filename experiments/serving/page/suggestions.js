/** Text fields that suggest ids: an input whose datalist follows what is typed. */

import { element, part } from "./dom.js";

/**
 * Make the input of a form suggest ids.
 *
 * name: the form's parts are NAME-form, NAME (the input), NAME-ids (its datalist) and NAME-hint.
 * suggest: from the first characters of an id to a promise of [id, text] pairs.
 * choose: called with the id that is chosen or submitted.
 */
export function suggestIds(name, suggest, choose) {
  const [form, input, list, hint] = ["-form", "", "-ids", "-hint"].map((end) => part(name + end));
  const idleHint = hint.textContent;
  let latest = 0; // request; answers to earlier ones are dropped

  async function update() {
    const request = ++latest;
    let ids = [];
    let message;
    try {
      ids = await suggest(input.value);
      message = ids.length ? idleHint : "No id begins like this.";
    } catch (failure) {
      message = failure.message;
    }
    if (request !== latest) return;
    hint.textContent = message;
    list.replaceChildren(...ids.map(([value, text]) => element("option", { value }, text)));
  }

  input.addEventListener("focus", update);
  input.addEventListener("input", ({ inputType }) => {
    // The choice of a suggestion has no input type or, in Firefox, this one.
    const isChoice = inputType === undefined || inputType === "insertReplacementText";
    const isSuggested = [...list.options].some(({ value }) => value === input.value);
    if (isChoice && isSuggested) form.requestSubmit();
    else update();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const id = input.value;
    latest += 1;
    input.value = "";
    hint.textContent = idleHint;
    choose(id);
  });
}
