// The run as a whole.

async function overviewView() {
  const seen = await source.overview();
  return [
    h("h1", {}, seen.name),
    h("p", { class: "dim" }, subtitle(seen)),
    h(
      "div",
      { class: "cards" },
      outcomes(seen),
      seen.labels && labelsCard(seen.labels),
      seen.cost && costCard(seen),
      seen.corpus && corpusCard(seen.corpus),
    ),
    seen.scores.length > 0 &&
      section(
        "Scores",
        h(
          "p",
          { class: "dim" },
          `Bars: the features' own labels. Line: labels of other features on the same windows. Population scores: of all ${ofWindows(seen)} in the corpus.`,
        ),
        h("div", { class: "figures" }, seen.scores.filter(isChief).map(distribution)),
        lesser(seen.scores.filter((one) => !isChief(one))),
      ),
    seen.strata.length > 0 &&
      section("By activation", h("div", { class: "figures" }, seen.strata.map(curve))),
    (seen.scatter.length > 0 || seen.density) &&
      section(
        "Density",
        h(
          "div",
          { class: "figures" },
          seen.density &&
            figure(
              "Features by density",
              `share of tokens on which a feature fires${seen.density.zero ? `; ${number(seen.density.zero)} never do` : ""}`,
              logHistogram("features by density", seen.density.edges, seen.density.counts, false),
            ),
          seen.scatter.map((one) =>
            figure(
              one.title,
              one.of > one.feature.length
                ? `against density; ${number(one.feature.length)} of ${number(one.of)} features, drawn`
                : "against density",
              scatterChart(one),
            ),
          ),
        ),
      ),
    settingsCard(seen.settings),
  ];
}

function subtitle(seen) {
  const parts = [`SAE ${seen.sae}`];
  if (seen.model) parts.push(`labels by ${seen.model}`);
  if (seen.judge) parts.push(`judged by ${seen.judge}`);
  return parts.join(" · ");
}

function figure(title, caption, drawn, ...more) {
  return h("figure", {}, h("figcaption", {}, h("strong", {}, title), " ", caption), drawn, ...more);
}

function card(title, ...children) {
  return h("section", { class: "card", "aria-label": title }, h("h2", {}, title), ...children);
}

function facts(rows) {
  const shown = rows.filter(([, value]) => known(value));
  return h("dl", {}, shown.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function counted(rows, total) {
  return h(
    "table",
    { class: "counted" },
    h(
      "tbody",
      {},
      rows.map(({ name, n, href, title }) =>
        h(
          "tr",
          {},
          h("th", { scope: "row", title }, href ? h("a", { href }, name) : name),
          h("td", { class: "figure" }, number(n)),
          h("td", {}, meter(n / Math.max(total, 1), `${percent(n / Math.max(total, 1))}`)),
        ),
      ),
    ),
  );
}

function outcomes(seen) {
  const total = seen.counts.reduce((sum, one) => sum + one.n, 0);
  const rows = seen.counts.map(({ name, n }) => {
    return { name: words(name), n, href: listAddress({ filters: [["status", "eq", name]] }) };
  });
  return card(
    "Features",
    counted(rows, total),
    seen.failures.length > 0 && h("h3", {}, "Why not"),
    seen.failures.length > 0 &&
      counted(
        seen.failures.map((f) => ({ name: [f.status && words(f.status), readable(f.reason)].filter(Boolean).join(": "), n: f.n, title: readable(f.reason) })),
        total,
      ),
    seen.flags.length > 0 && h("h3", {}, "Flags"),
    seen.flags.length > 0 && counted(seen.flags.map(({ name, n }) => ({ name: words(name), n })), total),
  );
}

function labelsCard(labels) {
  return card(
    "Labels",
    facts([
      ["labeled", number(labels.labeled)],
      ["distinct", number(labels.distinct)],
      ["features that share theirs", percent(labels.shared)],
      [
        "most common",
        labels.most_common_count > 1 ? `${readable(labels.most_common)} ×${number(labels.most_common_count)}` : null,
      ],
    ]),
  );
}

function costCard({ cost, time }) {
  return card(
    "Cost and time",
    facts([
      ["prompt tokens", number(cost.prompt_tokens)],
      ["completion tokens", number(cost.completion_tokens)],
      ["dollars", known(cost.cost_usd) ? fixed(cost.cost_usd, 4) : "price unknown"],
      ["dollars per feature", known(cost.per_feature_usd) ? number(cost.per_feature_usd) : null],
      ["requests", known(cost.requests) ? number(cost.requests) : null],
      ["replies from the journal", known(cost.from_journal) ? number(cost.from_journal) : null],
      ...time.map((one) => [
        one.stage,
        known(one.features_per_second)
          ? `${seconds(one.seconds)}, ${number(one.features_per_second)} features/s`
          : seconds(one.seconds),
      ]),
    ]),
  );
}

function corpusCard(corpus) {
  const masked = Object.entries(corpus.masked || {}).filter(([, n]) => n > 0);
  return card(
    "Corpus",
    facts([
      ["tokens", number(corpus.tokens)],
      ["mean L0", number(corpus.mean_l0)],
      ["dead features", number(corpus.dead)],
      ["dense features (> 10 % of tokens)", number(corpus.dense)],
      ...masked.map(([why, n]) => [`masked: ${words(why)}`, number(n)]),
    ]),
  );
}

// What a label is worth on the corpus is asked for as often as scorers' main metrics.
function isChief(one) {
  return one.main || one.metric === "population_f1";
}

function lesser(scores) {
  if (!scores.length) return null;
  const figures = h("div", { class: "figures" }, scores.map(distribution));
  return h("details", {}, h("summary", {}, `${scores.length} more metrics`), figures);
}

function distribution(one) {
  const p = known(one.p_below) ? `p < .05: ${percent(one.p_below)}` : null;
  const null_ = known(one.null_median) ? `${one.by_chance ? "chance" : "null"} ${fixed(one.null_median)}` : null;
  const beat = one.tested ? `${number(one.beat_null)} of ${number(one.tested)} beat another feature's label at an FDR of 5 %` : null;
  const said = [`median ${fixed(one.median)}`, null_, p, beat, `n ${number(one.n)}`].filter(Boolean);
  return figure(one.title, said.join(" · "), distributionChart(one));
}

function curve(one) {
  const rows = one.rows.map((row) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, words(row.name)),
      h("td", { class: "figure" }, fixed(row.own)),
      h("td", {}, meter(row.own, `${words(row.name)}: ${fixed(row.own)}`)),
      h("td", { class: "figure dim" }, fixed(row.another)),
      h("td", { class: "figure dim" }, number(row.n)),
    ),
  );
  const names = ["windows", words(one.figure), "share", "another's", "n"];
  return figure(
    words(one.scorer),
    "by decile of activation, then by kind of non-activating window",
    h(
      "table",
      { class: "counted" },
      h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows),
    ),
  );
}

function settingsCard(settings) {
  const rows = Object.entries(settings).map(([name, value]) => [words(name), String(value)]);
  return rows.length > 0 && h("details", { class: "card" }, h("summary", {}, "Settings"), facts(rows));
}
