// Small figures in SVG: shapes have classes, colors are the style sheet's.

const WIDE = 320;
const HIGH = 130;
const ROOM = { left: 34, right: 8, top: 6, bottom: 26 };

function frame(name, width = WIDE, height = HIGH) {
  const box = { role: "img", "aria-label": name, viewBox: `0 0 ${width} ${height}`, class: "chart" };
  const inner = {
    left: ROOM.left,
    right: width - ROOM.right,
    top: ROOM.top,
    bottom: height - ROOM.bottom,
  };
  return [s("svg", box), inner];
}

function scale(from, to, low, high) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function ticks(low, high, count = 4) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) {
    found.push(Number(value.toPrecision(6)));
  }
  return found;
}

function axisX(inner, x, marks, show = (value) => number(value)) {
  return marks.map((mark) => [
    s("line", { class: "tick", x1: x(mark), x2: x(mark), y1: inner.bottom, y2: inner.bottom + 3 }),
    s("text", { class: "axis", x: x(mark), y: inner.bottom + 14, "text-anchor": "middle" }, show(mark)),
  ]);
}

function axisY(inner, y, marks, show = (value) => number(value)) {
  return marks.map((mark) => [
    s("line", { class: "grid", x1: inner.left, x2: inner.right, y1: y(mark), y2: y(mark) }),
    s("text", { class: "axis", x: inner.left - 4, y: y(mark) + 3, "text-anchor": "end" }, show(mark)),
  ]);
}

function nullName(one) {
  return one.by_chance ? "by chance" : "another feature's label";
}

// Bars of the scores, and the line of the null's, each as shares of its own number.
function distributionChart(one) {
  const [svg, inner] = frame(
    `${one.title}: ${one.n} features, median ${fixed(one.median)}` +
      (known(one.null_median) ? `; ${nullName(one)} ${fixed(one.null_median)}` : ""),
  );
  const edges = one.edges;
  const x = scale(inner.left, inner.right, edges[0], edges.at(-1));
  const shares = one.counts.map((c) => c / Math.max(one.n, 1));
  const nulls = one.null_counts.map((c) => c / Math.max(one.null_n, 1));
  const y = scale(inner.bottom, inner.top, 0, Math.max(...shares, ...nulls, 0.01));
  const bars = shares.map((share, i) =>
    s("rect", {
      class: "own",
      x: x(edges[i]) + 0.5,
      y: y(share),
      width: Math.max(x(edges[i + 1]) - x(edges[i]) - 1, 0.5),
      height: inner.bottom - y(share),
    }),
  );
  const line = nulls.map((n, i) => `H${x(edges[i])}V${y(n)}H${x(edges[i + 1])}`).join("");
  const marks = ticks(edges[0], edges.at(-1));
  const top = ticks(0, Math.max(...shares, ...nulls, 0.01), 2);
  svg.append(...axisY(inner, y, top, percent).flat(), ...bars, ...axisX(inner, x, marks).flat());
  if (one.null_n) {
    svg.append(s("path", { class: "null", d: `M${inner.left} ${inner.bottom}${line}V${inner.bottom}` }));
  } else if (known(one.null_median)) {
    const at = x(one.null_median);
    svg.append(s("line", { class: "null", x1: at, x2: at, y1: inner.top, y2: inner.bottom }));
  }
  return svg;
}

function decades(edges) {
  const low = Math.ceil(Math.log10(edges[0]) - 1e-9);
  const high = Math.floor(Math.log10(edges.at(-1)) + 1e-9);
  const step = Math.max(1, Math.ceil((high - low) / 5));
  const found = [];
  for (let power = low; power <= high; power += step) found.push(power);
  if (high - low >= 2) return found;
  // Within a factor of a hundred or so, 2 and 5 as well.
  const [from, to] = [Math.log10(edges[0]), Math.log10(edges.at(-1))];
  const finer = [low - 1, low, low + 1, low + 2].flatMap((power) => [0, Math.log10(2), Math.log10(5)].map((m) => power + m));
  return finer.filter((power) => power >= from && power <= to);
}

function powerOfTen(power) {
  return power >= -2.5 && power <= 3.9 ? number(Number((10 ** power).toPrecision(2))) : `1e${power}`;
}

// Counts over bins whose edges are spaced by a factor. `tall` takes the logarithm of counts.
function logHistogram(name, edges, counts, tall) {
  const [svg, inner] = frame(name);
  const height = (count) => (tall ? Math.log10(1 + count) : count);
  const used = counts.map((c, i) => (c > 0 ? i : -1)).filter((i) => i >= 0);
  if (!used.length) return h("p", { class: "dim" }, "nothing to show");
  const first = used[0];
  const last = used.at(-1);
  const shown = edges.slice(first, last + 2);
  const lows = shown.map((edge) => Math.log10(Math.max(edge, 1e-12)));
  const x = scale(inner.left, inner.right, lows[0], lows.at(-1));
  const most = Math.max(...counts);
  const y = scale(inner.bottom, inner.top, 0, height(most));
  const bars = counts.slice(first, last + 1).map((count, i) =>
    s("rect", {
      class: "own",
      x: x(lows[i]),
      y: y(height(count)),
      width: Math.max(x(lows[i + 1]) - x(lows[i]) - 0.7, 0.7),
      height: Math.max(inner.bottom - y(height(count)), count > 0 ? 1 : 0),
    }),
  );
  const marks = decades(shown);
  const levels = tall ? ticks(0, Math.floor(height(most)), 3) : ticks(0, most, 2);
  const show = tall ? (value) => (value === 0 ? "0" : powerOfTen(value)) : number;
  const wanted = tall ? levels.filter(Number.isInteger) : levels;
  const at = tall ? (value) => y(value === 0 ? 0 : Math.log10(1 + 10 ** value)) : y;
  svg.append(
    ...axisY(inner, at, wanted, show).flat(),
    ...bars,
    ...axisX(inner, x, marks, powerOfTen).flat(),
  );
  return svg;
}

// A cloud of features; a click on one opens it.
function scatterChart(one) {
  const [svg, inner] = frame(`density of features against ${words(one.metric)}`, WIDE, 190);
  const xs = one.density.map((d) => Math.log10(Math.max(d, 1e-9)));
  const low = Math.min(...xs);
  const high = Math.max(...xs);
  const x = scale(inner.left, inner.right, low, high);
  const bottom = Math.min(0, ...one.value);
  const y = scale(inner.bottom, inner.top, bottom, 1);
  const dots = xs.map((at, i) => `M${x(at).toFixed(1)} ${y(one.value[i]).toFixed(1)}h0`).join("");
  svg.append(
    ...axisY(inner, y, ticks(bottom, 1, 4)).flat(),
    ...axisX(inner, x, decades([10 ** low, 10 ** high]), (p) => `${number(100 * 10 ** p)} %`).flat(),
    s("path", { class: "dots", d: dots }),
  );
  const ring = s("circle", { class: "ring", r: 4, visibility: "hidden" });
  svg.append(ring);
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const px = ((event.clientX - box.left) / box.width) * WIDE;
    const py = ((event.clientY - box.top) / box.height) * 190;
    let best = -1;
    let distance = 100;
    for (let i = 0; i < xs.length; i++) {
      const away = (x(xs[i]) - px) ** 2 + (y(one.value[i]) - py) ** 2;
      if (away < distance) [best, distance] = [i, away];
    }
    return best;
  };
  svg.addEventListener("pointermove", (event) => {
    const i = nearest(event);
    ring.setAttribute("visibility", i < 0 ? "hidden" : "visible");
    if (i < 0) return hideTip();
    ring.setAttribute("cx", x(xs[i]));
    ring.setAttribute("cy", y(one.value[i]));
    const said = `${one.feature[i]}: ${number(one.value[i])}, on ${percent(one.density[i])} of tokens`;
    return showTip(`feature ${said}`, event.clientX, event.clientY);
  });
  svg.addEventListener("pointerleave", hideTip);
  svg.addEventListener("click", (event) => {
    const i = nearest(event);
    if (i >= 0) location.hash = `#/feature/${one.feature[i]}`;
  });
  return svg;
}

// A value with its interval, and a tick for the null, between `low` and 1.
function intervalChart(score, low) {
  const [width, height] = [120, 18];
  const x = scale(4, width - 4, low, 1);
  const inside = (value) => x(Math.min(Math.max(value, low), 1));
  const name =
    `${number(score.value)}, interval ${number(score.ci_low)} to ${number(score.ci_high)}` +
    (known(score.null_value) ? `, ${nullName(score)} ${number(score.null_value)}` : "");
  return s(
    "svg",
    { role: "img", "aria-label": name, class: "interval", viewBox: `0 0 ${width} ${height}` },
    s("line", { class: "grid", x1: x(low), x2: x(1), y1: 9, y2: 9 }),
    low < 0 && s("line", { class: "grid", x1: x(0), x2: x(0), y1: 4, y2: 14 }),
    known(score.ci_low) &&
      s("line", { class: "span", x1: inside(score.ci_low), x2: inside(score.ci_high), y1: 9, y2: 9 }),
    known(score.null_value) &&
      s("line", { class: "null", x1: inside(score.null_value), x2: inside(score.null_value), y1: 2, y2: 16 }),
    known(score.value) && s("circle", { class: "value", cx: inside(score.value), cy: 9, r: 4 }),
  );
}

function meter(share, title) {
  const bar = h("span", { class: "meter", role: "img", "aria-label": title });
  styled(bar, "--share", `${100 * Math.min(Math.max(share || 0, 0), 1)}%`);
  return bar;
}

function showTip(text, x, y) {
  const tip = document.getElementById("tip");
  tip.textContent = text;
  tip.hidden = false;
  const left = Math.min(x + 12, window.innerWidth - tip.offsetWidth - 4);
  const above = y + 18 + tip.offsetHeight > window.innerHeight;
  styled(tip, "left", `${Math.max(left, 4)}px`);
  styled(tip, "top", `${above ? y - tip.offsetHeight - 8 : y + 18}px`);
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}
