// Windows of text, their tokens shaded by activation, and what a judge said of them.

const SNIPPET = 8; // tokens either side of the peak
const SHOWN = 12; // windows of a list

function shade(element, activation, largest) {
  const share = largest > 0 ? Math.min(Math.max(activation / largest, 0), 1) : 0;
  if (share > 0) {
    element.classList.add("on");
    styled(element, "--share", `${Math.round(18 + 82 * share)}%`);
  }
  return element;
}

// A space is a space that can be copied. Where it tells something, in a token on which the feature
// fires or beside other white space, a faint dot behind it makes it seen; between words it is plain.
function visible(text, active) {
  if (text === "") return [h("span", { class: "joint" }, "\u200b")];
  const seen = active || !/^ ?[^ ⏎⇥]+$/.test(text);
  return text.split(/( )/).map((part) => (seen && part === " " ? h("span", { class: "space" }, " ") : part));
}

function tokenLine(shown, largest, judgment, [first, last]) {
  const predicted = judgment && judgment.token_prediction;
  const marks = new Set((judgment && judgment.marks) || []);
  const most = predicted ? Math.max(...predicted.map((p) => p || 0), 1e-9) : 1;
  const line = h("bdi", { class: "tokens" });
  for (let i = first; i < last; i++) {
    const token = shade(h("span", { class: "t" }, visible(shown.tokens[i], shown.activations[i] > 0)), shown.activations[i], largest);
    token.dataset.value = String(shown.activations[i]);
    token.dataset.token = shown.tokens[i];
    if (i === shown.peak && shown.activations[i] > 0) token.classList.add("peak");
    if (marks.has(i)) token.classList.add("marked");
    if (predicted) {
      token.dataset.predicted = known(predicted[i]) ? String(predicted[i]) : "–";
      token.classList.add("guess");
      styled(token, "--part", `${Math.round((100 * (predicted[i] || 0)) / most)}%`);
    }
    line.append(token);
  }
  return line;
}

function around(shown, whole) {
  const length = shown.tokens.length;
  if (whole || length <= 2 * SNIPPET + 1) return [0, length];
  const first = Math.max(0, Math.min(shown.peak - SNIPPET, length - 2 * SNIPPET - 1));
  return [first, first + 2 * SNIPPET + 1];
}

function windowRow(shown, page, { judgment = null, mark = null, whole = false } = {}) {
  const largest = page.statistics.max_activation;
  const strongest = Math.max(...shown.activations, 0);
  const holder = h("div", { class: "text" });
  const draw = (all) => {
    const [first, last] = around(shown, all);
    holder.replaceChildren(
      first > 0 ? h("span", { class: "cut" }, "…") : "",
      tokenLine(shown, largest, judgment, [first, last]),
      last < shown.tokens.length ? h("span", { class: "cut" }, "…") : "",
    );
  };
  draw(whole);
  const more = h(
    "button",
    {
      type: "button",
      class: "more",
      "aria-expanded": String(whole),
      title: "Show more of the text",
      onclick: async () => {
        const open = more.getAttribute("aria-expanded") === "true";
        more.setAttribute("aria-expanded", String(!open));
        draw(!open);
        if (!open && source.editable && page.contexts !== false) await addContext(holder, shown, page);
      },
    },
    "⋯",
  );
  const quantile = known(shown.quantile) ? `${Math.round(100 * shown.quantile)} %` : "";
  return h(
    "li",
    { class: "window" },
    mark,
    h("span", { class: "strength", title: "largest activation" }, strongest > 0 ? number(strongest) : "silent"),
    h("span", { class: "quantile dim", title: "share of the feature's firings that are weaker" }, quantile),
    holder,
    more,
  );
}

// What stands before and after the window, where the run's cache is there.
async function addContext(holder, shown, page) {
  try {
    const { tokens } = await source.context(shown.context);
    const before = tokens.slice(0, shown.start).join("");
    const after = tokens.slice(shown.start + shown.tokens.length).join("");
    if (before) holder.prepend(h("bdi", { class: "context" }, before));
    if (after) holder.append(h("bdi", { class: "context" }, after));
  } catch {
    page.contexts = false; // no cache was kept: the window is all there is
  }
}

// The first few; the rest where they are asked for.
function windowList(windows, page) {
  const list = h("ol", { class: "windows" }, windows.slice(0, SHOWN).map((one) => windowRow(one, page)));
  const rest = windows.slice(SHOWN);
  if (!rest.length) return list;
  const more = h(
    "button",
    {
      type: "button",
      onclick: () => {
        list.append(...rest.map((one) => windowRow(one, page)));
        more.remove();
      },
    },
    `${rest.length} more`,
  );
  return h("div", {}, list, more);
}

function windowSections(page) {
  const own = Object.values(page.windows).filter((one) => one.kind !== "corpus");
  const of = (kind) => own.filter((one) => one.kind === kind);
  const strongest = (list) =>
    [...list].sort((a, b) => Math.max(...b.activations) - Math.max(...a.activations));
  const bands = [
    ["strongest quarter", 0.75, 1.01],
    ["second", 0.5, 0.75],
    ["third", 0.25, 0.5],
    ["weakest quarter", -1, 0.25],
  ];
  const sample = strongest(of("sample"));
  return section(
    "Windows",
    h("h3", {}, "Largest activations"),
    windowList(strongest(of("top")), page),
    sample.length > 0 && h("h3", {}, "A sample of all firings, by activation"),
    bands.map(([name, low, high]) => {
      const inside = sample.filter((one) => known(one.quantile) && one.quantile >= low && one.quantile < high);
      return inside.length > 0 && [h("h4", {}, name), windowList(inside, page)];
    }),
    folded("Near misses: a similar feature fires, this one does not", of("near_miss"), page),
    folded("Silent windows", of("negative"), page),
  );
}

function folded(title, windows, page) {
  if (!windows.length) return null;
  const details = h("details", {}, h("summary", {}, `${title} (${windows.length})`));
  // Drawn when they are looked at: there are many, and few are.
  details.addEventListener("toggle", () => details.append(windowList(windows, page)), { once: true });
  return details;
}

// What is true of a window that should get a yes, and of one that should get a no.
const MEANT = {
  detection: ["it fires", "it does not fire"],
  fuzzing: ["its tokens are marked", "other tokens are marked"],
};
const SIGNS = { missed: "✗", alarm: "✗", wrong: "✗", unread: "?", found: "✓", silent: "✓", right: "✓", rated: "≈" };

// Mistakes first. Other scorers' judges choose, or rate: their answers are no yes or no.
function outcomesOf(scorer) {
  const [yes, no] = MEANT[scorer] || [];
  const wrong = (j) => j.right === false;
  const right = (j) => j.right === true;
  return [
    yes && ["missed", `missed: ${yes}, the judge says no`, (j) => wrong(j) && j.truth === 1],
    no && ["alarm", `false alarm: ${no}, the judge says yes`, (j) => wrong(j) && j.truth === 0],
    ["wrong", "wrong", wrong],
    ["unread", "no readable answer", (j) => j.right === null && !known(j.prediction) && !j.token_prediction],
    yes && ["found", `found: ${yes}, the judge says yes`, (j) => right(j) && j.truth === 1],
    no && ["silent", `correctly rejected: ${no}, the judge says no`, (j) => right(j) && j.truth === 0],
    ["right", "right", right],
    ["rated", "predicted", () => true],
  ].filter(Boolean);
}

function judgedSection(page) {
  const own = page.judged.filter((one) => one.label_of === page.feature);
  const scorers = [...new Set(own.map((one) => one.scorer))];
  if (!scorers.length) return null;
  return section(
    "What the judge said",
    ofRunsLabel(page),
    h("p", { class: "dim" }, "On windows that the labeler never saw, from the label alone. Mistakes come first."),
    scorers.map((scorer, i) => judgedBy(scorer, own.filter((one) => one.scorer === scorer), page, i === 0)),
    nullJudged(page),
  );
}

function judgedBy(scorer, judged, page, open) {
  const outcomes = outcomesOf(scorer).map(([name, title, is]) => ({ name, title, is, list: [] }));
  for (const one of judged) outcomes.find(({ is }) => is(one)).list.push(one);
  const some = outcomes.filter((one) => one.list.length > 0);
  const counts = some.map((one) => `${one.list.length} ${one.title.split(":")[0]}`).join(" · ");
  const details = h("details", { open }, h("summary", {}, h("strong", {}, words(scorer)), ` ${counts}`));
  const draw = () =>
    fill(details, {}, [
      judged.some((one) => one.token_prediction) &&
        h("p", { class: "dim" }, "Shade: the activation. Bar under a token: what the judge predicted."),
      h("ol", { class: "windows judged" }, some.flatMap((one) => one.list.map((j) => judgedRow(j, one, page)))),
    ]);
  if (open) draw();
  else details.addEventListener("toggle", draw, { once: true });
  return details;
}

function judgedRow(judgment, outcome, page) {
  const shown = page.windows[judgment.window];
  const said = [outcome.title, words(judgment.stratum)];
  if (known(judgment.probability)) said.push(`probability ${fixed(judgment.probability)}`);
  if (outcome.name === "rated" && known(judgment.prediction)) said.push(`prediction ${number(judgment.prediction)}`);
  const mark = h("span", { class: `verdict ${outcome.name}`, title: said.join(", ") }, SIGNS[outcome.name], h("span", { class: "hidden" }, said.join(", ")));
  const kind = h("span", { class: "stratum dim" }, words(judgment.stratum));
  if (!shown) return h("li", { class: "window" }, mark, kind, h("span", { class: "dim" }, "its text was not kept"));
  const row = windowRow(shown, page, { judgment, mark });
  row.querySelector(".quantile").replaceWith(kind);
  return row;
}

function nullJudged(page) {
  const others = page.judged.filter((one) => one.label_of !== page.feature);
  if (!others.length) return null;
  const lines = [...new Set(others.map((one) => `${one.scorer}\n${one.label_of}`))].map((key) => {
    const [scorer, label] = key.split("\n");
    const of = others.filter((one) => one.scorer === scorer && String(one.label_of) === label);
    const right = of.filter((one) => one.right).length;
    const answered = of.filter((one) => one.right !== null).length;
    const said = answered ? `${right} of ${answered} right` : `${of.length} windows`;
    return h("li", {}, `${words(scorer)} by the label of `, featureLink(Number(label)), `: ${said}`);
  });
  return h("details", {}, h("summary", {}, "The null: another feature's label on the same windows"), h("ul", {}, lines));
}

function tipOfToken(event) {
  const token = event.target.closest(".t");
  if (!token) return hideTip();
  const { value, predicted } = token.dataset;
  const guess = predicted === undefined ? "" : `, predicted ${predicted}`;
  return showTip(`${token.dataset.token}  ${number(Number(value))}${guess}`, event.clientX, event.clientY);
}
