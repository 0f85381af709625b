// Which view is shown, the search box, the keyboard and the colors.

const source = openSource();
let run = null;
let shownNow = 0;
let pathShown = null;

async function route() {
  const mine = ++shownNow;
  const [path, text] = location.hash.slice(1).split("?");
  const parameters = new URLSearchParams(text || "");
  const feature = path.match(/^\/feature\/(\d+)$/);
  const view = feature ? "feature" : path === "/features" ? "features" : "overview";
  const main = document.getElementById("main");
  hideTip();
  for (const name of ["overview", "features"]) {
    const link = document.getElementById(`to-${name}`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    // A run that is running has more to show by and by.
    if (!run || view !== "feature") run = await source.run();
    describeRun();
    document.title = run.name;
    const views = { feature: () => featureView(Number(feature[1])), features: () => tableView(parameters), overview: overviewView };
    const content = await views[view]();
    if (mine !== shownNow) return; // another view was asked for meanwhile
    const focused = document.activeElement.id;
    main.replaceChildren(...content.flat().filter(Boolean));
    // What had the keyboard's focus may have been drawn anew.
    const again = focused && document.getElementById(focused);
    if (again && main.contains(again)) again.focus({ preventScroll: true });
    else if (pathShown !== null && document.activeElement === document.body) main.focus({ preventScroll: true });
  } catch (error) {
    if (!(error instanceof RequestFailed)) throw error;
    if (mine === shownNow) main.replaceChildren(h("p", { class: error.soon ? "dim" : "wrong", role: "alert" }, error.message));
    if (error.soon) setTimeout(() => mine === shownNow && route(), 1000);
  }
  if (view !== "features") {
    if (path !== pathShown) window.scrollTo(0, 0);
  } else {
    const search = document.getElementById("search");
    if (document.activeElement !== search) search.value = parameters.get("search") || "";
    document.getElementById("search-by").value = parameters.get("by") === "meaning" ? "meaning" : "words";
  }
  pathShown = path;
}

function describeRun() {
  document.getElementById("run-name").textContent = run.name;
  document.getElementById("search-by").hidden = !run.meaning;
}

function search() {
  const text = document.getElementById("search").value.trim();
  const by = document.getElementById("search-by").value;
  const [path, given] = location.hash.slice(1).split("?");
  const now = path === "/features" ? readQuery(new URLSearchParams(given || "")) : { filters: [], columns: usualColumns() };
  // What is nearest in meaning comes first.
  const sort = text && by === "meaning" ? { sort: null, descending: false } : {};
  location.replace(listAddress({ ...now, search: text, by, ...sort }));
}

function listen() {
  const box = document.getElementById("search");
  const [soon, notYet] = debounced(search, 120);
  box.addEventListener("input", soon);
  document.getElementById("search-by").addEventListener("change", search);
  document.getElementById("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    notYet(); // Enter decides
    const text = box.value.trim();
    if (/^\d+$/.test(text)) location.hash = `#/feature/${text}`;
    else search();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && document.activeElement === box) box.blur();
    if (event.target.closest("input, textarea, select")) return;
    if (event.key === "/") {
      event.preventDefault();
      box.focus();
      box.select();
    } else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address says which view is shown
    document.getElementById("main").focus();
  });
  window.addEventListener("hashchange", route);
  window.addEventListener("scroll", hideTip, { passive: true });
  document.getElementById("main").addEventListener("pointerover", tipOfToken);
  document.getElementById("main").addEventListener("pointerleave", hideTip);
}

const THEMES = { auto: ["◐", "as the system has them"], light: ["○", "light"], dark: ["●", "dark"] };

function setTheme(name) {
  const [sign, words_] = THEMES[name];
  document.documentElement.dataset.theme = name;
  const button = document.getElementById("theme");
  button.textContent = sign;
  button.setAttribute("aria-label", `Colors: ${words_}`);
  button.title = `Colors: ${words_}`;
  localStorage.setItem("autointerp-theme", name);
}

function startTheme() {
  const names = Object.keys(THEMES);
  const kept_ = localStorage.getItem("autointerp-theme");
  setTheme(names.includes(kept_) ? kept_ : "auto");
  document.getElementById("theme").addEventListener("click", () => {
    const now = names.indexOf(document.documentElement.dataset.theme);
    setTheme(names[(now + 1) % names.length]);
  });
}

// The token in the address is in a cookie by now: the history and bookmarks need not have it.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);
startTheme();
listen();
route();
