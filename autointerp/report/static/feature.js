// One feature.

function featureLink(feature, label) {
  return h("a", { href: `#/feature/${feature}` }, label ? `${feature} ${readable(label)}` : String(feature));
}

async function featureView(feature) {
  const page = await source.page(feature);
  const row = page.row;
  const labeled = known(row.label);
  document.title = `${feature} ${labeled ? row.label : ""} – ${run.name}`;
  return [
    h(
      "div",
      { class: "title" },
      h("p", { class: "dim" }, `feature ${feature}`, known(row.sae) ? ` of ${row.sae}` : ""),
      h(
        "span",
        { class: "steps" },
        h("button", { type: "button", id: "previous", onclick: () => step(-1), title: "k" }, "← previous"),
        h("button", { type: "button", id: "next", onclick: () => step(1), title: "j" }, "next →"),
      ),
    ),
    h("h1", { dir: "auto" }, labeled ? readable(row.label) : `(${words(row.status || "no label yet")})`),
    h(
      "div",
      { class: "columns" },
      h("div", {}, about(page), scoresSection(page), statistics(page)),
      h("div", {}, windowSections(page), judgedSection(page), exchangesSection(page)),
    ),
  ];
}

function about(page) {
  const row = page.row;
  return h(
    "div",
    { class: "card" },
    known(row.reason) && h("p", { dir: "auto" }, readable(row.reason)),
    known(row.error) && h("p", { class: "wrong", dir: "auto" }, readable(row.error)),
    facts([
      ["status", row.status ? words(row.status) : null],
      ["confidence", known(row.confidence) ? fixed(row.confidence) : null],
      ["labeler", row.labeler],
      ["was labeled", row.edited ? readable(row.original_label || "–") : null],
      ["meanings", row.meanings && row.meanings.length ? row.meanings.map(readable).join(" · ") : null],
      [
        "candidates",
        row.candidates && row.candidates.length
          ? row.candidates.map((c) => `${readable(c.label)} (${fixed(c.balanced_accuracy)}, ${c.n})`).join(" · ")
          : null,
      ],
      ["label of its twin", known(row.label_of) ? featureLink(row.label_of) : null],
      ["features with this label", row.shares_label ? number(row.shares_label) : null],
      ["flags", row.flags && row.flags.length ? row.flags.map(words).join(", ") : null],
      ["tokens", row.prompt_tokens ? `${number(row.prompt_tokens)} + ${number(row.completion_tokens)}` : null],
      ["dollars", row.prompt_tokens && known(row.cost_usd) ? number(row.cost_usd) : null],
    ]),
    source.editable && correcting(page),
  );
}

function scoresSection(page) {
  if (!page.scores.length) return section("Scores", h("p", { class: "dim" }, "not scored"));
  const scorers = [...new Set(page.scores.map((score) => score.scorer))];
  return section(
    "Scores",
    ofRunsLabel(page),
    h("p", { class: "dim" }, `Dot: value. Bar: 95 % interval. Stroke: the null, another feature's label. Population scores: of all ${ofWindows(page.statistics)} in the corpus.`),
    scorers.map((scorer) => scoreTable(scorer, mainFirst(scorer, page))),
    deciles(page),
  );
}

// A label that was corrected has not been judged: what is known is about the one before.
function ofRunsLabel(page) {
  const { edited, label, original_label } = page.row;
  if (!edited || label === original_label) return null;
  return h("p", { class: "wrong" }, `Of the run's own label: ${known(original_label) ? readable(original_label) : "none"}`);
}

// The metric that has a place of its own in the label table comes first.
function mainFirst(scorer, page) {
  const own = page.scores.filter((score) => score.scorer === scorer);
  const isMain = (score) => `${scorer}_${score.metric}` in page.row;
  return [...own.filter(isMain), ...own.filter((score) => !isMain(score))];
}

function scoreTable(scorer, scores) {
  const { judge, mode, n, parse_rate } = scores[0];
  const how = [mode && words(mode), judge && `judge ${judge}`, known(n) && `n ${number(n)}`];
  if (known(parse_rate) && parse_rate < 1) how.push(`${percent(parse_rate)} read`);
  const low = Math.min(0, ...scores.map((score) => score.ci_low ?? score.value ?? 0)) < 0 ? -1 : 0;
  return h(
    "table",
    { class: "scores" },
    h("caption", {}, h("strong", {}, words(scorer)), " ", h("span", { class: "dim" }, how.filter(Boolean).join(" · "))),
    h("thead", { class: "hidden" }, h("tr", {}, ["metric", "value and interval", "chart", "null"].map((c) => h("th", { scope: "col" }, c)))),
    h(
      "tbody",
      {},
      scores.map((score) =>
        h(
          "tr",
          { title: known(score.p_value) ? `p ${number(score.p_value, 3)}, ${known(score.q_value) ? `q ${number(score.q_value, 3)}, ` : ""}lift ${number(score.lift, 2)}` : null },
          h("th", { scope: "row" }, words(score.metric)),
          h(
            "td",
            { class: "figure" },
            h("strong", {}, fixed(score.value)),
            h("span", { class: "dim" }, known(score.ci_low) ? ` ${fixed(score.ci_low)} to ${fixed(score.ci_high)}` : ""),
          ),
          h("td", {}, intervalChart(score, low)),
          h("td", { class: "figure dim" }, known(score.null_value) ? `${score.by_chance ? "chance" : "null"} ${fixed(score.null_value)}` : ""),
        ),
      ),
    ),
  );
}

function deciles(page) {
  if (!page.deciles.length) return null;
  const scorers = [...new Set(page.deciles.map((one) => one.scorer))];
  return scorers.map((scorer) => {
    const rows = page.deciles.filter((one) => one.scorer === scorer).reverse();
    return h(
      "details",
      {},
      h("summary", {}, `${words(scorer)} by decile of activation`),
      h(
        "table",
        { class: "counted" },
        h(
          "tbody",
          {},
          rows.map((one) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, `${10 * one.decile}–${10 * one.decile + 10} %`),
              h("td", { class: "figure" }, `${one.found} of ${one.n}`),
              h("td", {}, meter(one.found / one.n, `${one.found} of ${one.n} found`)),
            ),
          ),
        ),
      ),
    );
  });
}

function ofWindows(seen) {
  return known(seen.window_length) ? `windows of ${number(seen.window_length)} tokens` : "windows";
}

function statistics(page) {
  const seen = page.statistics;
  return h(
    "div",
    {},
    section(
      "Activations",
      facts([
        ["fires on", `${number(seen.n_active)} tokens (${percent(seen.density)})`],
        ["fires in", known(seen.window_density) ? `${percent(seen.window_density)} of ${ofWindows(seen)}` : null],
        ["mean when active", number(seen.mean_activation)],
        ["largest", number(seen.max_activation)],
      ]),
      seen.n_active > 0 &&
        figure(
          "Histogram",
          "firings by activation, both on log scales",
          logHistogram("firings by activation", seen.edges, seen.histogram, true),
        ),
      chips("Top tokens", "among sampled firings", seen.top_tokens.map((t) => [t.token, `×${t.count}, mean ${number(t.mean_activation)}`])),
      chips("Raises", "the next token's probability", seen.raised_tokens.map((t) => [t.token, number(t.logit)])),
      chips("Lowers", "", seen.lowered_tokens.map((t) => [t.token, number(t.logit)])),
    ),
    related("Fires together with", "Jaccard overlap of tokens", seen.coactive),
    related("Similar directions", "cosine of decoders", seen.similar),
  );
}

function chips(title, caption, tokens) {
  if (!tokens.length) return null;
  return h(
    "div",
    {},
    h("h3", {}, title, " ", h("span", { class: "dim" }, caption)),
    h("ul", { class: "chips" }, tokens.map(([token, about]) => h("li", {}, h("bdi", { class: "tokens" }, visible(token)), h("span", { class: "dim" }, ` ${about}`)))),
  );
}

function related(title, caption, features) {
  if (!features.length) return null;
  return section(
    title,
    h("p", { class: "dim" }, caption),
    h(
      "table",
      { class: "related" },
      h("tbody", {}, features.map((one) => h("tr", {}, h("td", { class: "figure" }, fixed(one.share)), h("td", {}, featureLink(one.feature, one.label))))),
    ),
  );
}

function exchangesSection(page) {
  const details = h("details", { id: "exchanges" }, h("summary", {}, h("strong", {}, "Prompts and raw replies")));
  const draw = async () => {
    const found = await source.exchanges(page.feature).catch((error) => error);
    if (found instanceof Error) return details.append(h("p", { class: "wrong" }, found.message));
    if (!found.length) return details.append(h("p", { class: "dim" }, "No model was asked about this feature, or the journal is missing."));
    return details.append(...found.map(exchange));
  };
  details.addEventListener("toggle", draw, { once: true });
  return details;
}

// Long ones scroll, and so must be reached by the keyboard.
function wholeText(name, text) {
  return h("pre", { dir: "auto", tabindex: 0, role: "group", "aria-label": name }, text);
}

function exchange(one) {
  const spent = [`${number(one.prompt_tokens)} + ${number(one.completion_tokens)} tokens`];
  if (known(one.cost_usd)) spent.push(`$${number(one.cost_usd)}`);
  if (!one.readable) spent.push("could not be read");
  return h(
    "details",
    { class: "exchange" },
    h("summary", {}, h("strong", {}, one.about), " ", h("span", { class: "dim" }, `${one.model} · ${spent.join(" · ")}`)),
    one.messages.length ? one.messages.map((m) => [h("h3", {}, m.role), wholeText(m.role, m.content)]) : h("p", { class: "dim" }, "The prompt was not kept."),
    h("h3", {}, "reply"),
    wholeText("reply", one.text ?? one.reply),
    known(one.text) && h("details", {}, h("summary", {}, "as received"), wholeText("reply as received", one.reply)),
  );
}

// Where j and k go: along the list that was looked at last, or else by number.
async function neighbor(feature, by) {
  if (rows && rows.matched) {
    for (const [number_, asked] of rows.pages) {
      const place = (await asked).findIndex((row) => row.feature === feature);
      if (place >= 0) {
        const wanted = number_ * PAGE + place + by;
        return wanted >= 0 && wanted < rows.matched ? (await rows.at(wanted)).feature : null;
      }
    }
  }
  const filters = [["feature", by > 0 ? "gt" : "lt", String(feature)]];
  const query = { search: "", filters, sort: "feature", descending: by < 0, columns: ["feature"] };
  const found = await source.list(query, 0, 1);
  return found.rows.length ? found.rows[0].feature : null;
}

async function step(by) {
  const shown = location.hash.match(/^#\/feature\/(\d+)$/);
  if (!shown) return;
  const feature = await neighbor(Number(shown[1]), by);
  if (feature === null) announce(by > 0 ? "this is the last feature" : "this is the first feature");
  else location.hash = `#/feature/${feature}`;
}
