// The table of features: sorted, filtered and searched where the data is, drawn as it is scrolled.

const ROW = 34; // pixels
const PAGE = 200; // rows asked for at once
const TALLEST = 8e6; // pixels: browsers cut higher elements
const USUAL = [
  "feature",
  "label",
  "status",
  "detection_balanced_accuracy",
  "detection_null",
  "simulation_correlation",
  "simulation_null",
  "population_f1",
  "window_density",
  "density",
  "confidence",
];
const WIDTHS = { feature: "5.5rem", label: "minmax(16rem, 1fr)", reason: "minmax(16rem, 1fr)", status: "6rem" };
const NUMBERS = ["integer", "number"];
const WANTED = { integer: "> 10, <= 3, 2..5", number: "> 0.8, <= 3, 0.2..0.5", boolean: "true or false" };
const SHORT = { balanced: "bal.", accuracy: "acc.", correlation: "corr.", population: "pop." };

function readQuery(parameters) {
  const filters = parameters.getAll("filter").map((text) => {
    const [column, operator, ...rest] = text.split(":");
    return [column, operator, rest.join(":")];
  });
  const own = parameters.get("columns");
  return {
    search: parameters.get("search") || "",
    by: parameters.get("by") || "words",
    sort: parameters.get("sort"),
    descending: parameters.get("descending") === "true",
    filters,
    columns: own ? own.split(",") : usualColumns(),
  };
}

function usualColumns() {
  const names = new Set(run.columns.map((column) => column.name));
  return USUAL.filter((name) => names.has(name));
}

function listAddress(query) {
  const parameters = new URLSearchParams();
  if (query.search) parameters.set("search", query.search);
  if (query.search && query.by === "meaning") parameters.set("by", "meaning");
  if (query.sort) parameters.set("sort", query.sort);
  if (query.descending) parameters.set("descending", "true");
  for (const filter of query.filters || []) parameters.append("filter", filter.join(":"));
  const columns = (query.columns || []).join(",");
  if (columns && columns !== usualColumns().join(",")) parameters.set("columns", columns);
  const text = parameters.toString();
  return text ? `#/features?${text}` : "#/features";
}

// What a person writes into a column's filter: > 0.8, 0.2..0.5, -, or words.
function parsedFilter(column, text) {
  const wanted = text.trim();
  if (!wanted) return [];
  if (wanted === "-") return [[column.name, "null", ""]];
  if (wanted === "*") return [[column.name, "notnull", ""]];
  if (column.type === "boolean") return /^(true|false)$/.test(wanted) ? [[column.name, "eq", wanted]] : null;
  if (!NUMBERS.includes(column.type)) return [[column.name, "contains", wanted]];
  const range = wanted.match(/^(-?[\d.eE+-]+?)\s*\.\.\s*(-?[\d.eE+-]+)$/);
  if (range) return areNumbers(range[1], range[2]) ? [[column.name, "ge", range[1]], [column.name, "le", range[2]]] : null;
  const one = wanted.match(/^(>=|<=|>|<|=)?\s*(-?[\d.]+(?:e[+-]?\d+)?)$/i);
  if (!one || !areNumbers(one[2])) return null;
  const operator = { ">": "gt", ">=": "ge", "<": "lt", "<=": "le" }[one[1]] || "eq";
  return [[column.name, operator, one[2]]];
}

function areNumbers(...texts) {
  return texts.every((text) => Number.isFinite(Number(text)));
}

function filterText(query, name) {
  const own = query.filters.filter(([column]) => column === name);
  if (own.length === 2) return `${own[0][2]}..${own[1][2]}`;
  if (!own.length) return "";
  const [, operator, value] = own[0];
  if (operator === "null") return "-";
  if (operator === "notnull") return "*";
  return { gt: ">", ge: ">=", lt: "<", le: "<=" }[operator] ? `${{ gt: ">", ge: ">=", lt: "<", le: "<=" }[operator]}${value}` : value;
}

// The rows of one query, fetched a page at a time and kept.
class Rows {
  constructor(query) {
    this.query = query;
    this.pages = new Map();
    this.matched = null;
    this.total = null;
  }
  async at(place) {
    const number = Math.floor(place / PAGE);
    if (!this.pages.has(number)) {
      const asked = source.list(this.query, number * PAGE, PAGE).then((answer) => {
        this.matched = answer.matched;
        this.total = answer.total;
        return answer.rows;
      });
      asked.catch(() => this.pages.delete(number));
      this.pages.set(number, asked);
    }
    return (await this.pages.get(number))[place - number * PAGE];
  }
}

let rows = null; // those of the list that was looked at last: j and k follow it

function columnTitle(name) {
  return words(name)
    .split(" ")
    .map((word) => SHORT[word] || word)
    .join(" ");
}

function cell(column, value) {
  if (!known(value)) return h("span", { class: "dim" }, "–");
  if (column.name === "feature" || column.name === "label_of") return String(value); // a name
  if (column.name === "density" || column.name === "window_density") return percent(value);
  if (column.type === "list") return value.map(readable).join(", ");
  // As many places in a column: digits stand under one another.
  if (column.type === "number" && (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 100))) return fixed(value, 3);
  return NUMBERS.includes(column.type) ? number(value) : readable(value);
}

async function tableView(parameters) {
  const query = readQuery(parameters);
  const found = new Rows(query); // asked for anew: a run may be running
  rows = found;
  await found.at(0);
  const columns = query.columns
    .map((name) => run.columns.find((column) => column.name === name))
    .filter(Boolean);
  const template = columns.map((c) => WIDTHS[c.name] || (NUMBERS.includes(c.type) ? "6.2rem" : "9rem"));
  const count = found.matched === found.total ? number(found.total) : `${number(found.matched)} of ${number(found.total)}`;
  const body = h("div", { role: "rowgroup", class: "rows" });
  const grid = h(
    "div",
    { role: "table", class: "grid", "aria-label": "Features", "aria-rowcount": found.matched + 1 },
    h(
      "div",
      { role: "rowgroup", class: "head" },
      h("div", { role: "row", class: "line", "aria-rowindex": 1 }, columns.map((c) => heading(c, query))),
    ),
    body,
  );
  styled(grid, "--columns", template.join(" "));
  const scroller = h("div", { class: "scroller", tabindex: 0, "aria-label": "Table of features" }, grid);
  announce(`${count} features`);
  if (found.matched === 0) body.append(h("p", { class: "none" }, "No feature matches."));
  else drawRows(scroller, body, found, columns);
  return [
    h(
      "div",
      { class: "title" },
      h("h1", {}, "Features ", h("span", { class: "dim", id: "count" }, count)),
      query.filters.length > 0 && h("a", { href: listAddress({ ...query, filters: [] }) }, "clear filters"),
      chooser(query),
    ),
    scroller,
  ];
}

function heading(column, query) {
  const sorted = query.sort === column.name;
  // Scores are asked for from the best, names from A.
  const first = NUMBERS.includes(column.type) && column.name !== "feature";
  const descending = sorted ? !query.descending : first;
  const direction = sorted ? (query.descending ? "descending" : "ascending") : "none";
  const input = h("input", {
    class: "filter",
    id: `filter-${column.name}`,
    "aria-label": `Filter ${words(column.name)}`,
    placeholder: { integer: "> 10", number: "> 0.8", boolean: "true" }[column.type] || "has …",
    title: `${WANTED[column.type] || "words"}; - for none, * for any`,
    value: filterText(query, column.name),
    onchange: (event) => {
      const added = parsedFilter(column, event.target.value);
      event.target.setAttribute("aria-invalid", added === null ? "true" : "false");
      if (added === null) return announce(`${event.target.value} is not a valid filter: try ${WANTED[column.type]}`);
      const others = query.filters.filter(([name]) => name !== column.name);
      location.hash = listAddress({ ...query, filters: [...others, ...added] });
    },
  });
  return h(
    "div",
    { role: "columnheader", "aria-sort": direction, class: `c-${column.type}` },
    h(
      "button",
      {
        type: "button",
        class: "sort",
        id: `sort-${column.name}`,
        title: column.description,
        onclick: () => (location.hash = listAddress({ ...query, sort: column.name, descending })),
      },
      columnTitle(column.name),
      sorted && (query.descending ? " ↓" : " ↑"),
    ),
    input,
  );
}

function chooser(query) {
  const box = (column) =>
    h(
      "label",
      { title: column.description },
      h("input", {
        type: "checkbox",
        id: `shown-${column.name}`,
        checked: query.columns.includes(column.name),
        disabled: column.name === "feature",
        onchange: (event) => {
          const kept = query.columns.filter((name) => name !== column.name);
          const columns = event.target.checked ? [...kept, column.name] : kept;
          location.hash = listAddress({ ...query, columns });
        },
      }),
      words(column.name),
    );
  // It is drawn anew with every choice, and stays open for the next.
  const before = document.querySelector(".chooser");
  const open = before !== null && before.open;
  return h("details", { class: "chooser", open }, h("summary", {}, "Columns"), h("div", {}, run.columns.map(box)));
}

function drawRows(scroller, body, found, columns) {
  const whole = found.matched * ROW;
  const height = Math.min(whole, TALLEST);
  styled(body, "height", `${height}px`);
  const lines = new Map();
  let asked = 0;
  const draw = async () => {
    const mine = ++asked;
    const view = scroller.clientHeight;
    // Where the rows are higher together than an element may be, the scroll bar is a share of them.
    const share = scroller.scrollTop / Math.max(height - view, 1);
    const top = whole > height ? share * (whole - view) : scroller.scrollTop;
    const first = Math.max(0, Math.floor(top / ROW) - 8);
    const last = Math.min(found.matched - 1, Math.ceil((top + view) / ROW) + 8);
    const places = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
    const ready = await Promise.all(places.map((place) => found.at(place)));
    if (mine !== asked) return;
    for (const [place, line] of lines) {
      if (place < first || place > last) {
        line.remove();
        lines.delete(place);
      }
    }
    places.forEach((place, i) => {
      if (!lines.has(place) && ready[i]) {
        const line = drawRow(ready[i], place, columns);
        lines.set(place, line);
        body.append(line);
      }
      if (lines.has(place)) styled(lines.get(place), "top", `${place * ROW - top + scroller.scrollTop}px`);
    });
  };
  const drawOrSay = () => draw().catch((error) => announce(error.message));
  scroller.addEventListener("scroll", () => requestAnimationFrame(drawOrSay), { passive: true });
  new ResizeObserver(drawOrSay).observe(scroller);
  drawOrSay();
}

function drawRow(row, place, columns) {
  const cells = columns.map((column) => {
    const value = row[column.name];
    const shown = column.name === "label" && !known(value) ? h("span", { class: "dim" }, `(${words(row.status || "no label")})`) : cell(column, value);
    const linked = column.name === "feature" || column.name === "label";
    const content = linked ? h("a", { href: `#/feature/${row.feature}`, tabindex: column.name === "label" ? -1 : 0 }, shown) : shown;
    const long = typeof value === "string" && value.length > 12 ? readable(value) : null;
    return h("div", { role: "cell", class: `c-${column.type} n-${column.name}`, title: long }, content);
  });
  return h(
    "div",
    { role: "row", class: place % 2 ? "line odd" : "line", "aria-rowindex": place + 2, "data-feature": row.feature },
    cells,
  );
}
