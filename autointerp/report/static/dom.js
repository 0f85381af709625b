// Elements and numbers. All text becomes text nodes: nothing from a run is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// A style that the page's policy allows: set by script, never by an attribute.
function styled(element, name, value) {
  element.style.setProperty(name, value);
  return element;
}

function known(value) {
  return value !== null && value !== undefined;
}

function number(value, digits = 3) {
  if (!known(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(digits - 1);
  return String(Number(value.toPrecision(digits)));
}

function fixed(value, digits = 2) {
  return known(value) ? value.toFixed(digits) : "–";
}

function percent(value) {
  return known(value) ? `${number(100 * value)} %` : "–";
}

// Text by a model, or a person: what is not seen, turns lines around or is piled up becomes a dot.
function readable(text) {
  const seen = String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "·");
  return seen.replace(/(\p{M}{6})\p{M}+/gu, "$1·");
}

function words(name) {
  return String(name).replaceAll("_", " ");
}

function seconds(value) {
  return value < 120 ? `${number(value)} s` : `${number(value / 60)} min`;
}

function section(title, ...children) {
  const id = `section-${words(title).replace(/\W+/g, "-").toLowerCase()}`;
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), ...children);
}

// The call, done once nothing has asked for it for so long; and what takes the asking back.
function debounced(call, milliseconds) {
  let timer = 0;
  const cancel = () => clearTimeout(timer);
  const later = () => {
    cancel();
    timer = setTimeout(call, milliseconds);
  };
  return [later, cancel];
}

function announce(text) {
  document.getElementById("said").textContent = text;
}
