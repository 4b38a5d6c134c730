"use strict";
// What all pages share: numbers in words, small dense matrices, controls, charts.

const BLUE = "#0072B2", ORANGE = "#D55E00", GREEN = "#009E73", PURPLE = "#882255", GREY = "#595959";

// ---- numbers ----

const minus = (text) => text.replace(/-/g, "\u2212");
const fixed = (x, digits = 3) => minus(Math.abs(x) < 0.5 * 10 ** -digits ? (0).toFixed(digits) : x.toFixed(digits));
const sum = (list) => list.reduce((a, b) => a + b, 0);

function short(x, digits = 3) {
  if (x === 0) return "0";
  if (!Number.isFinite(x)) return x > 0 ? "\u221e" : "\u2212\u221e";
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4) {
    const [head, power] = x.toExponential(1).split("e");
    return minus(`${head} \u00d7 10`) + superscript(Number(power));
  }
  return minus(String(Number(x.toPrecision(digits))));
}

function superscript(n) {
  return [...String(n)].map((c) => (c === "-" ? "\u207b" : "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[Number(c)])).join("");
}

/** Put a number where it is read: rounded for people, in full in `data-value`. */
function show(id, value, text) {
  const place = document.getElementById(id);
  place.dataset.value = String(value);
  if (place.textContent !== text) place.textContent = text;
}

function say(id, text) {
  const place = document.getElementById(id);
  if (place.innerHTML !== text) place.innerHTML = text;
}

const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");

// ---- matrices, as lists of rows ----

const zeros = (n, m) => Array.from({ length: n }, () => new Array(m).fill(0));
const product = (A, B) => A.map((row) => B[0].map((_, j) => sum(row.map((a, k) => a * B[k][j]))));
const transposed = (A) => (A.length ? A[0].map((_, j) => A.map((row) => row[j])) : []);

/** The lower triangle L with L L' = A. */
function cholesky(A) {
  const n = A.length, L = zeros(n, n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let s = A[i][j];
      for (let k = 0; k < j; k++) s -= L[i][k] * L[j][k];
      if (i === j && !(s > 0)) throw new Error("This matrix is not positive definite.");
      L[i][j] = i === j ? Math.sqrt(s) : s / L[j][j];
    }
  return L;
}

/** x with L x = b. */
function forward(L, b) {
  const x = [];
  for (let i = 0; i < b.length; i++) {
    let s = b[i];
    for (let k = 0; k < i; k++) s -= L[i][k] * x[k];
    x.push(s / L[i][i]);
  }
  return x;
}

const logDeterminant = (L) => 2 * sum(L.map((row, i) => Math.log(row[i])));
const dot = (a, b) => sum(a.map((x, i) => x * b[i]));

// ---- controls ----

const controls = {};
let onChange = () => {};

/** A labelled slider. `log` spreads its values by ratios, `zero` puts 0 left of the least of them. */
function slider({ id, label, from, to, value, step = 0.01, log = false, zero = false, unit = "", digits = 3, parent = "controls" }) {
  const steps = log ? 240 : Math.round((to - from) / step);
  const box = document.createElement("div");
  box.className = "control";
  box.innerHTML = `<div class="line"><label for="${id}">${label}</label><output id="${id}-value" for="${id}"></output></div>
    <input type="range" id="${id}" min="0" max="${steps}" step="1">`;
  document.getElementById(parent).append(box);
  const input = box.querySelector("input"), first = zero ? 1 : 0;
  const rounded = (x) => Number(x.toPrecision(digits));
  const at = (k) => {
    if (zero && k === 0) return 0;
    return log ? rounded(from * (to / from) ** ((k - first) / (steps - first))) : Number((from + k * step).toFixed(10));
  };
  const place = (x) => {
    if (!log) return Math.round((x - from) / step);
    return zero && x < from ? 0 : Math.round(first + ((steps - first) * Math.log(x / from)) / Math.log(to / from));
  };
  const control = {
    box, input, value,
    set(x) {
      if (!Number.isFinite(x)) return;
      control.value = Math.min(to, zero && x < from ? 0 : Math.max(from, x));
      input.value = place(control.value);
      control.said();
    },
    said() {
      const text = `${short(control.value, Math.max(digits, 3))}${unit && " " + unit}`;
      input.setAttribute("aria-valuetext", text);
      show(`${id}-value`, control.value, text);
    },
  };
  input.addEventListener("input", () => {
    control.value = at(Number(input.value));
    control.said();
    onChange(id);
  });
  control.set(value);
  controls[id] = control;
  return control;
}

/** A list to choose from: `options` are [value, text]. */
function choice({ id, label, options, value, parent = "controls" }) {
  const box = document.createElement("div");
  box.className = "control";
  box.innerHTML = `<label for="${id}">${label}</label><select id="${id}">${options
    .map(([key, text]) => `<option value="${key}">${text}</option>`).join("")}</select>`;
  document.getElementById(parent).append(box);
  const input = box.querySelector("select");
  const control = { box, input, value, set: (x) => { if (options.some(([key]) => key === x)) input.value = control.value = x; } };
  input.addEventListener("input", () => { control.value = input.value; onChange(id); });
  control.set(value);
  controls[id] = control;
  return control;
}

function checkbox({ id, label, value, parent = "controls" }) {
  const box = document.createElement("div");
  box.className = "control";
  box.innerHTML = `<label><input type="checkbox" id="${id}"> ${label}</label>`;
  document.getElementById(parent).append(box);
  const input = box.querySelector("input");
  const control = { box, input, value, set: (x) => { input.checked = control.value = x === true || x === "true" || x === 1; } };
  input.addEventListener("input", () => { control.value = input.checked; onChange(id); });
  control.set(value);
  controls[id] = control;
  return control;
}

/** Call `update` now, after every change and when the width changes; #sigma=0.5&... in the address sets controls. */
function start(update) {
  const read = () => {
    const given = [...new URLSearchParams(location.hash.slice(1))].filter(([id]) => controls[id]);
    const set = ([id, text]) => controls[id].set(text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
    for (const one of given) { set(one); update(one[0]); }
    given.forEach(set);  // again: a change of one control may have moved another
    update("");
  };
  onChange = update;
  read();
  addEventListener("hashchange", read);
  addEventListener("resize", () => update(""));
}

// ---- charts ----

function svg(tag, attributes = {}, parent = null, text = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

/** Round numbers between two. */
function roundNumbers(from, to, about) {
  const raw = (to - from) / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((k) => k * power >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function powers(from, to, about) {
  const decades = Math.log10(to / from), each = decades <= about / 3 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / about)), found = [];
  for (let k = Math.ceil(Math.log10(from)) - 1; k <= Math.log10(to) + 1e-9; k++)
    for (const head of each) {
      const x = Number((head * 10 ** k).toPrecision(6));
      if (k % every === 0 && x >= from * 0.999 && x <= to * 1.001) found.push(x);
    }
  return found;
}

/** A picture in the figure `id`. `frame` empties it and draws axes; then lines, dots, texts in the units of the data. */
class Chart {
  constructor(id, { height = 300, left = 52, right = 14, top = 26, bottom = 44 } = {}) {
    this.figure = document.getElementById(id);
    this.svg = svg("svg", { role: "group", "aria-label": this.figure.querySelector("figcaption").textContent.trim() }, this.figure);
    this.marks = svg("g", {}, this.svg);
    this.handles = svg("g", {}, this.svg);
    Object.assign(this, { height, left, right, top, bottom });
  }

  /** Axes `{from, to, label, log, zero, ticks}`; with `zero` a logarithmic axis has 0 at its left end. */
  frame(x, y, { axes = true } = {}) {
    this.width = Math.max(260, this.figure.clientWidth);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.style.height = `${this.height}px`;
    this.marks.replaceChildren();
    this.bounds = { left: this.left, right: this.width - this.right, top: this.top, bottom: this.height - this.bottom };
    const { left, right, top, bottom } = this.bounds;
    this.x = this.scale(x, left, right);
    this.y = this.scale(y, bottom, top);
    if (!axes) return;
    const tick = { stroke: "#bbb", "stroke-width": 1 };
    for (const value of x.ticks ?? (x.log ? powers : roundNumbers)(x.from, x.to, (right - left) / 75)) {
      svg("line", { x1: this.x(value), x2: this.x(value), y1: bottom, y2: bottom + 5, ...tick }, this.marks);
      svg("text", { x: this.x(value), y: bottom + 18, "text-anchor": "middle" }, this.marks, x.name ? x.name(value) : short(value));
    }
    for (const value of y.ticks ?? (y.log ? powers : roundNumbers)(y.from, y.to, (bottom - top) / 45)) {
      svg("line", { x1: left, x2: right, y1: this.y(value), y2: this.y(value), stroke: "#eee" }, this.marks);
      svg("text", { x: left - 7, y: this.y(value) + 4, "text-anchor": "end" }, this.marks, y.name ? y.name(value) : short(value));
    }
    svg("line", { x1: left, x2: right, y1: bottom, y2: bottom, stroke: "#777" }, this.marks);
    svg("text", { x: (left + right) / 2, y: bottom + 37, "text-anchor": "middle" }, this.marks, x.label);
    svg("text", { x: 2, y: top - 12 }, this.marks, y.label);
  }

  scale({ from, to, log = false, zero = false }, start, end) {
    const gap = zero ? 0.06 * (end - start) : 0;
    const f = log ? Math.log : (v) => v;
    const scale = (v) => (zero && !(v >= from * 0.999999) ? start : start + gap + ((end - start - gap) * (f(v) - f(from))) / (f(to) - f(from)));
    scale.back = (p) => {
      const t = f(from) + ((p - start - gap) / (end - start - gap)) * (f(to) - f(from));
      return log ? Math.exp(t) : t;
    };
    scale.from = from;
    scale.to = to;
    return scale;
  }

  path(points, attributes) {
    const d = points.map(([x, y], k) => `${k ? "L" : "M"}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`).join("");
    return svg("path", { d, fill: "none", "stroke-width": 2.5, stroke: BLUE, ...attributes }, this.marks);
  }

  dot(x, y, attributes) {
    return svg("circle", { cx: this.x(x), cy: this.y(y), r: 5, fill: BLUE, ...attributes }, this.marks);
  }

  text(x, y, text, attributes = {}) {
    return svg("text", { x: this.x(x), y: this.y(y), class: "halo", ...attributes }, this.marks, text);
  }

  rect(x0, y0, x1, y1, attributes) {
    const [a, b] = [this.x(x0), this.x(x1)].sort((p, q) => p - q), [c, d] = [this.y(y0), this.y(y1)].sort((p, q) => p - q);
    return svg("rect", { x: a, y: c, width: b - a, height: d - c, fill: BLUE, ...attributes }, this.marks);
  }

  /** A point that is dragged, or moved by the arrow keys: `move(x, y)` in data, `step(dx, dy)` in key presses. */
  handle({ label, colour, move, step }) {
    const node = svg("g", { class: "handle", tabindex: 0, role: "slider", "aria-label": label }, this.handles);
    svg("circle", { r: 22, fill: "transparent" }, node);
    svg("circle", { class: "ring", r: 9, fill: "#fff", stroke: colour, "stroke-width": 3 }, node);
    svg("circle", { r: 3, fill: colour }, node);
    let held = false;
    node.addEventListener("pointerdown", (event) => {
      held = true;
      node.setPointerCapture(event.pointerId);
      event.preventDefault();
      node.focus({ focusVisible: false });
    });
    node.addEventListener("pointermove", (event) => {
      if (!held) return;
      const box = this.svg.getBoundingClientRect(), ratio = this.width / box.width;
      move(this.x.back((event.clientX - box.left) * ratio), this.y.back((event.clientY - box.top) * ratio));
    });
    node.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });  // a finger drags, and doesn't scroll
    for (const end of ["pointerup", "pointercancel"]) node.addEventListener(end, () => { held = false; });
    node.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!to) return;
      event.preventDefault();
      step(to[0] * (event.shiftKey ? 10 : 1), to[1] * (event.shiftKey ? 10 : 1));
    });
    return {
      put: (x, y, now, text) => {
        node.setAttribute("transform", `translate(${this.x(x)} ${this.y(y)})`);
        node.setAttribute("aria-valuenow", now);
        node.setAttribute("aria-valuetext", text);
      },
    };
  }
}

/** A matrix as coloured cells; `colour(value, i, j)`; a cell says what it is when pointed at. */
function cells(parent, matrix, { left, top, size, height = size, colour, title }) {
  matrix.forEach((row, i) => row.forEach((value, j) => {
    const cell = svg("rect", { x: left + j * size, y: top + i * height, width: size - 0.6, height: height - 0.6, fill: colour(value, i, j) }, parent);
    if (title) svg("title", {}, cell, title(value, i, j));
  }));
}

/** From white (0) to a colour (1). */
function shade(share, hex = BLUE) {
  const s = Math.max(0, Math.min(1, share));
  return `rgb(${[1, 3, 5].map((k) => Math.round(245 + s * (parseInt(hex.slice(k, k + 2), 16) - 245))).join(",")})`;
}
