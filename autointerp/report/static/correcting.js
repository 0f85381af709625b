// What a person says of a label. It is kept beside the run; the run's own tables stay as they are.

function author() {
  return localStorage.getItem("autointerp-author") || "";
}

// What was written and not saved yet, by feature and box: pages are drawn anew.
const unsaved = new Map();

function written(tag, id, page, text, attributes) {
  const key = `${page.feature} ${id}`;
  const element = h(tag, { id, dir: "auto", ...attributes, oninput: () => unsaved.set(key, element.value) });
  element.value = unsaved.get(key) ?? text;
  return element;
}

function correcting(page) {
  const said = h("p", { class: "dim", role: "status" });
  const name = h("input", {
    id: "author",
    value: author(),
    maxlength: 100,
    autocomplete: "name",
    onchange: (event) => localStorage.setItem("autointerp-author", event.target.value.trim()),
  });
  const send = async (edit) => {
    if (!author()) {
      said.textContent = "Enter your name first.";
      return name.focus();
    }
    return kept(said, async () => {
      await source.edit(page.feature, { ...edit, author: author() });
      unsaved.delete(`${page.feature} new-${edit.kind}`);
    });
  };
  const label = written("input", "new-label", page, page.row.label || "", { maxlength: 300 });
  const note = written("textarea", "new-note", page, "", { rows: 2, maxlength: 2000 });
  const vote = (value, sign, title) =>
    h("button", { type: "button", id: `vote-${value}`, "aria-label": title, title, onclick: () => send({ kind: "vote", vote: value }) }, sign);
  const votes = page.row.votes;
  return h(
    "details",
    { class: "correcting", open: sessionStorage.getItem("correcting") === "open" },
    h("summary", { onclick: rememberOpen }, "Correct or comment"),
    h("p", {}, h("label", { for: "author" }, "Your name "), name),
    h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          send({ kind: "label", label: label.value });
        },
      },
      h("label", { for: "new-label" }, "A better label"),
      label,
      h("button", { type: "submit", id: "save-label" }, "Save label"),
    ),
    h("p", {}, "Is the label right? ", vote(1, "▲", "Yes, the label is right"), " ", known(votes) ? number(votes) : "0", " ", vote(-1, "▼", "No, the label is wrong")),
    h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          send({ kind: "note", text: note.value });
        },
      },
      h("label", { for: "new-note" }, "A note"),
      note,
      h("button", { type: "submit", id: "save-note" }, "Save note"),
    ),
    run.asks ? asking(page, said) : h("p", { class: "dim" }, howToAsk()),
    said,
    history_(page.edits || []),
  );
}

function asking(page, said) {
  const ask = (event) => {
    event.target.disabled = true;
    said.textContent = "Asking the model …";
    return kept(said, () => source.relabel(page.feature)).finally(() => (event.target.disabled = false));
  };
  return h(
    "p",
    {},
    h("button", { type: "button", id: "relabel", onclick: ask }, "Ask the model for a new label"),
    h("span", { class: "dim" }, ` from different windows: one request to ${readable(run.asks)}`),
  );
}

// A run from elsewhere could name any address: who serves it says which model is asked, and where.
function howToAsk() {
  const before = run.asked ? ` This run's record names ${readable(run.asked)}; it is not used unless you name it.` : "";
  return `To ask a model for new labels, start the server with: autointerp serve --model NAME --base-url URL.${before}`;
}

function rememberOpen(event) {
  const open = !event.target.closest("details").open;
  sessionStorage.setItem("correcting", open ? "open" : "closed");
}

async function kept(said, call) {
  const asked = location.hash;
  try {
    await call();
  } catch (error) {
    said.textContent = error.message;
    if (!said.isConnected) announce(error.message);
    return;
  }
  announce("saved");
  if (location.hash === asked) await route(); // else another feature is looked at by now
}

function history_(edits) {
  if (!edits.length) return null;
  const what = {
    label: (edit) => `label: ${readable(edit.label)}`,
    model_label: (edit) => `new label: ${readable(edit.label)}`,
    vote: (edit) => ({ 1: "right", "-1": "wrong", 0: "took the vote back" })[edit.vote],
    note: (edit) => edit.text,
  };
  return h(
    "ol",
    { class: "edits" },
    [...edits].reverse().map((edit) => h("li", { dir: "auto" }, h("strong", {}, edit.author), ` ${what[edit.kind](edit)} `, h("time", { class: "dim", datetime: edit.time }, new Date(edit.time).toLocaleString()))),
  );
}
