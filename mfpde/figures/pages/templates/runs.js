"use strict";
// The list of all runs of a folder: a table that sorts and filters, and the curves of those that are ticked.
(() => {
  const SVG = "http://www.w3.org/2000/svg", EVERY = 5000;
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#7a5195"];
  const part = (name) => document.querySelector(`[data-part="${name}"]`);
  const state = { key: "name", up: true, ticked: null };
  let runs = [];

  function shown(v) {
    if (v === null || v === undefined) return "—";
    if (typeof v !== "number") return v;
    return v !== 0 && (Math.abs(v) < 1e-4 || Math.abs(v) >= 1e6) ? v.toExponential(3) : String(+v.toPrecision(5));
  }
  const last = (values) => (values && values.length ? [...values].reverse().find((v) => v !== null) ?? null : null);
  const columns = () => [...new Set(runs.flatMap((run) => Object.keys(run.columns)))];
  const colour = (run) => COLOURS[runs.map((r) => r.name).sort().indexOf(run.name) % COLOURS.length];

  function value(run, key) {
    if (key === "name" || key === "outcome") return run[key];
    return key === "tau" ? last(run.tau) : last(run.columns[key]);
  }

  function listed() {
    const words = part("filter").value.toLowerCase();
    const kept = runs.filter((run) => run.name.toLowerCase().includes(words));
    const order = (a, b) => (a === b ? 0 : a === null || a === undefined ? 1 : b === null || b === undefined ? -1 : a < b ? -1 : 1);
    kept.sort((a, b) => (state.up ? 1 : -1) * order(value(a, state.key), value(b, state.key)));
    return kept;
  }

  function drawTable() {
    const table = part("table"), head = document.createElement("tr"), keys = ["name", "outcome", "tau", ...columns()];
    head.append(document.createElement("th"));
    for (const key of keys) {
      const cell = document.createElement("th"), button = document.createElement("button");
      button.textContent = (key === "tau" ? "τ" : key.replace("_", " ")) + (key === state.key ? (state.up ? " ▲" : " ▼") : "");
      button.onclick = () => { Object.assign(state, { up: key === state.key ? !state.up : true, key }); draw(); };
      cell.append(button);
      head.append(cell);
    }
    table.replaceChildren(head, ...listed().map((run) => row(run, keys)));
  }

  function row(run, keys) {
    const line = document.createElement("tr"), tick = document.createElement("input"), first = document.createElement("td");
    tick.type = "checkbox";
    tick.checked = state.ticked.has(run.name);
    tick.style.accentColor = colour(run);
    tick.setAttribute("aria-label", `draw ${run.name}`);
    tick.oninput = () => { tick.checked ? state.ticked.add(run.name) : state.ticked.delete(run.name); drawCurves(); };
    first.append(tick);
    line.append(first);
    for (const key of keys) {
      const cell = document.createElement("td");
      if (key === "name") {
        const link = document.createElement("a");
        link.href = `/run?name=${encodeURIComponent(run.name)}`;
        link.textContent = run.name;
        cell.append(link);
      } else {
        cell.textContent = shown(value(run, key));
        if (key === "outcome") {
          cell.title = cell.textContent;  // all of it
          cell.textContent = cell.textContent.split(":")[0];
        } else cell.className = "number";
      }
      line.append(cell);
    }
    return line;
  }

  function drawCurves() {
    const svg = part("curves"), key = part("column").value, log = part("log").checked;
    const some = listed().filter((run) => state.ticked.has(run.name) && run.columns[key]);
    const of = (v) => (log ? Math.log10(v) : v), good = (v) => v !== null && (!log || v > 0);
    const lines = some.map((run) => run.columns[key].map((v, k) => [run.tau[k], v]).filter(([, v]) => good(v)));
    const points = lines.flat();
    svg.replaceChildren();
    if (!points.length) return;
    const end = Math.max(...points.map(([t]) => t)) || 1, values = points.map(([, v]) => of(v));
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (!log && low > 0) low = 0;
    if (!(high > low)) high = low + 1;
    const x = (t) => 70 + (820 * t) / end, y = (v) => 260 - (245 * (v - low)) / (high - low);
    const add = (name, attributes, text = "") => {
      const made = document.createElementNS(SVG, name);
      for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
      made.textContent = text;
      svg.append(made);
    };
    add("rect", { x: 70, y: 15, width: 820, height: 245, class: "frame" });
    for (let k = 0; k <= 4; k++) {
      const v = low + (k / 4) * (high - low), t = (k / 4) * end;
      add("text", { x: 64, y: y(v) + 4, "text-anchor": "end" }, shown(log ? 10 ** v : v));
      add("text", { x: x(t), y: 278, "text-anchor": "middle" }, shown(t));
    }
    add("text", { x: 480, y: 296, "text-anchor": "middle", class: "name" }, "training time τ");
    some.forEach((run, m) => {
      const d = lines[m].map(([t, v], k) => `${k ? "L" : "M"}${x(t).toFixed(1)} ${y(of(v)).toFixed(1)}`).join("");
      add("path", { d, class: "curve", stroke: colour(run) });
    });
  }

  function draw() {
    drawTable();
    drawCurves();
  }

  async function update() {
    try {
      runs = await (await fetch("/runs.json")).json();
      state.ticked ??= new Set(runs.slice(0, 8).map((run) => run.name));
      const select = part("column"), before = select.value || "risk";
      select.replaceChildren(...columns().map((name) => new Option(name.replace("_", " "), name, false, name === before)));
      part("status").textContent = `${runs.length} run${runs.length === 1 ? "" : "s"}`;
      draw();
      document.body.dataset.ready = "yes";
    } catch {
      part("status").textContent = "the server does not answer";
    }
    setTimeout(update, EVERY);
  }

  for (const name of ["filter", "column", "log"]) part(name).addEventListener("input", draw);
  update();
})();
