// Where the data comes from: a server's JSON API, or the page itself where it is a file.

class RequestFailed extends Error {
  constructor(message, soon = false) {
    super(message);
    this.soon = soon; // whether it is worth asking again
  }
}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new RequestFailed("the server does not answer: is `autointerp serve` still running?");
  }
  const body = await answer.json().catch(() => null);
  if (answer.status === 202) throw new RequestFailed(body.detail, true);
  if (answer.ok) return body;
  const detail = body && body.detail;
  const said = typeof detail === "string" ? detail : detail && detail[0] && detail[0].msg;
  throw new RequestFailed(said || `the server answers ${answer.status}`);
}

function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body) });
}

class ServerSource {
  constructor() {
    this.editable = true;
  }
  run() {
    return request("api/run");
  }
  overview() {
    return request("api/overview");
  }
  list(query, offset, limit) {
    const asked = new URLSearchParams({ offset, limit, columns: query.columns.join(",") });
    if (query.search) asked.set(query.by === "meaning" ? "meaning" : "search", query.search);
    if (query.sort) asked.set("sort", query.sort);
    if (query.descending) asked.set("descending", "true");
    for (const filter of query.filters) asked.append("filter", filter.join(":"));
    return request(`api/features?${asked}`);
  }
  page(feature) {
    return request(`api/features/${feature}`);
  }
  exchanges(feature) {
    return request(`api/features/${feature}/exchanges`);
  }
  context(context) {
    return request(`api/contexts/${context}`);
  }
  edit(feature, edit) {
    return post(`api/features/${feature}/edits`, edit);
  }
  relabel(feature) {
    return post(`api/features/${feature}/label`, {});
  }
}

const TESTS = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
  contains: (a, b) => a.toLowerCase().includes(b.toLowerCase()),
};

function passes(row, [column, operator, wanted]) {
  const value = row[column];
  if (operator === "null") return !known(value);
  if (operator === "notnull") return known(value);
  if (!known(value)) return false;
  if (typeof value === "number") return TESTS[operator](value, Number(wanted));
  const text = Array.isArray(value) ? value.join("\n") : String(value);
  return TESTS[operator](text, wanted);
}

function compared(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  const [one, other] = [String(a).toLowerCase(), String(b).toLowerCase()];
  return one < other ? -1 : one > other ? 1 : 0;
}

// A part of a report's data: JSON, compressed, in base64.
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

class FileSource {
  constructor(data) {
    this.data = data;
    this.editable = false;
  }
  async run() {
    return this.data.run;
  }
  async overview() {
    return this.data.overview;
  }
  async list(query, offset, limit) {
    const wanted = query.search.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (row) => {
      const label = (row.label || "").toLowerCase();
      const has = (word) => label.includes(word) || String(row.feature).startsWith(word);
      return wanted.every(has) && query.filters.every((f) => passes(row, f));
    };
    const rows = this.data.rows.filter(matches);
    const { sort, descending } = query;
    if (sort) {
      // Rows without the value come last, whichever way it is sorted.
      rows.sort((a, b) => {
        if (!known(a[sort]) || !known(b[sort])) return known(b[sort]) - known(a[sort]);
        return descending ? compared(b[sort], a[sort]) : compared(a[sort], b[sort]);
      });
    }
    const total = this.data.rows.length;
    return { total, matched: rows.length, offset, rows: rows.slice(offset, offset + limit) };
  }
  async page(feature) {
    const page = this.data.pages[feature];
    if (!page) throw new RequestFailed(`feature ${feature} is not in this report`);
    return unpacked(page);
  }
  async exchanges(feature) {
    const found = this.data.exchanges[feature];
    return found ? unpacked(found) : [];
  }
  async context() {
    throw new RequestFailed("whole contexts are shown by `autointerp serve` if the cache was kept");
  }
}

function openSource() {
  const data = document.getElementById("data");
  return data ? new FileSource(JSON.parse(data.textContent)) : new ServerSource();
}
