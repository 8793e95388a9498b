/** A text field that suggests: ARIA's editable combobox with a list, keyboard and pointer alike. */

const PAUSE = 120; // ms without a key before the service is asked

/**
 * Make the input of a form suggest.
 *
 * name: of the form's elements, NAME-form, NAME, NAME-options, NAME-hint. suggest: from what is
 * typed to a promise of {values, texts, hint}. choose: called with what is chosen or typed.
 */
export function combobox(name, { suggest, choose }) {
  const input = document.getElementById(name);
  const list = document.getElementById(`${name}-options`);
  const hint = document.getElementById(`${name}-hint`);
  const idle = hint.textContent;
  let values = [];
  let active = -1;
  let asked = 0;
  let pause;

  input.setAttribute("role", "combobox");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-controls", list.id);
  input.setAttribute("aria-expanded", "false");
  list.setAttribute("role", "listbox");

  function close() {
    clearTimeout(pause);
    asked += 1; // what is still on its way comes too late
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    move(-1);
  }

  function move(to) {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = to;
    const option = list.children[active];
    if (option) {
      option.setAttribute("aria-selected", "true");
      option.scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", option.id);
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  }

  async function open() {
    clearTimeout(pause);
    const turn = ++asked;
    let found;
    try {
      found = await suggest(input.value);
    } catch (error) {
      found = { values: [], texts: [], hint: error.message };
    }
    if (turn !== asked) return;
    values = found.values;
    hint.textContent = found.hint;
    const options = found.texts.map((text, index) => {
      const option = document.createElement("li");
      option.id = `${name}-option-${index}`;
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", "false");
      option.textContent = text;
      return option;
    });
    list.replaceChildren(...options);
    list.scrollTop = 0;
    list.hidden = options.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    move(-1);
  }

  function take(value) {
    close();
    input.value = "";
    hint.textContent = idle;
    choose(value);
  }

  input.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(open, PAUSE);
  });
  input.addEventListener("click", open);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", async (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && !event.altKey) {
      event.preventDefault();
      if (list.hidden) await open();
      const n = values.length;
      if (n) move(active < 0 && step < 0 ? n - 1 : (active + step + n) % n);
    } else if (event.key === "Escape") {
      if (!list.hidden) event.preventDefault();
      close();
    } else if (event.key === "Enter" && active >= 0) {
      event.preventDefault();
      take(values[active]);
    }
  });
  list.addEventListener("mousedown", (event) => event.preventDefault()); // the input keeps focus
  list.addEventListener("click", (event) => {
    const index = [...list.children].indexOf(event.target.closest("li"));
    if (index >= 0) take(values[index]);
  });
  document.getElementById(`${name}-form`).addEventListener("submit", (event) => {
    event.preventDefault();
    take(input.value);
  });
}
