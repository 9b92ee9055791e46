"use strict";
// The interactive part of a report: densities through τ, and the curves with a cursor at the same τ.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const root = document.getElementById("explorer");
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const DECADES = 4;
  const state = { report: 0, family: 0, layer: 0, plane: 0, log: false, chart: 0, timer: null };
  let data;

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

  async function unpacked(text) {
    const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const found = new Uint8Array(await new Response(stream).arrayBuffer()), end = found.indexOf(0);
    const made = JSON.parse(new TextDecoder().decode(found.subarray(0, end)));

    // Differences of neighbours, low bytes first, as the square roots of densities.
    const steps = found.subarray(end + 1), count = steps.length / 2, numbers = new Uint16Array(count);
    for (let k = 0, sum = 0; k < count; k++) numbers[k] = sum = (sum + steps[k] + 256 * steps[count + k]) & 0xffff;
    let first = 0;
    for (const own of made.families) {
      const size = (own.coordinates.length === 1 ? own.pixels : own.pixels ** 2) * (own.coordinates.length < 3 ? 1 : 3);
      own.numbers = numbers.subarray(first, (first += size * own.layers * made.taus.length));
    }
    return made;
  }

  function element(name, attributes = {}, text = "") {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  }

  const shown = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size < 1e-3 || size >= 1e5 ? value.toExponential(2).replace("-", "−") : String(+value.toPrecision(4)).replace("-", "−");
  };

  // About `wanted` round numbers in [low, high].
  function ticks(low, high, wanted = 5) {
    const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw) || raw;
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + 1e-9 * step; t += step) found.push(Math.abs(t) < 1e-9 * step ? 0 : t);
    return found;
  }

  // --- densities -----------------------------------------------------------------------------------------------------
  const family = () => data.families[state.family];
  const dim = () => family().coordinates.length;
  const planes = () => (dim() < 3 ? [[0, dim() - 1]] : [[0, 1], [0, 2], [1, 2]]);

  // The values (n² or n) of one layer at one report, and the coordinates that they are over.
  function lattice(layer, report) {
    const own = family(), n = own.pixels, planeSize = dim() === 1 ? n : n * n;
    const size = planeSize * (dim() < 3 ? 1 : 3), place = report * own.layers + layer;
    const first = place * size + (dim() < 3 ? 0 : state.plane * planeSize), scale = own.scales[place];
    return Float64Array.from(own.numbers.subarray(first, first + planeSize), (v) => v * v * scale);
  }

  function frame(svg, box, ends, names) {
    const [left, top, width, height] = box, [[x0, x1], [y0, y1]] = ends;
    const x = (v) => left + ((v - x0) / (x1 - x0)) * width, y = (v) => top + height - ((v - y0) / (y1 - y0)) * height;
    svg.append(element("rect", { x: left, y: top, width, height, class: "frame" }));
    for (const t of ticks(x0, x1)) {
      svg.append(element("line", { x1: x(t), x2: x(t), y1: top + height, y2: top + height + 4, class: "tick" }));
      svg.append(element("text", { x: x(t), y: top + height + 17, "text-anchor": "middle" }, shown(t)));
    }
    for (const t of ticks(y0, y1)) {
      svg.append(element("line", { x1: left - 4, x2: left, y1: y(t), y2: y(t), class: "tick" }));
      svg.append(element("text", { x: left - 7, y: y(t) + 4, "text-anchor": "end" }, shown(t)));
    }
    svg.append(element("text", { x: left + width / 2, y: top + height + 34, "text-anchor": "middle", class: "name" }, names[0]));
    const [side, middle] = [left - 46, top + height / 2];
    svg.append(element("text", { x: side, y: middle, "text-anchor": "middle", class: "name", transform: `rotate(-90 ${side} ${middle})` }, names[1]));
    return [x, y];
  }

  const path = (points) => points.map(([a, b], k) => `${k ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");

  function drawLine(svg) {
    const own = family(), n = own.pixels, [low, high] = own.box[0];
    const all = [...Array(own.layers).keys()].map((layer) => lattice(layer, state.report));
    const top = Math.max(...all.map((v) => Math.max(...v))) || 1, at = (k) => low + ((k + 0.5) / n) * (high - low);
    const ends = state.log ? [Math.log10(top) - DECADES, Math.log10(top) + 0.1] : [0, 1.08 * top];
    const of = (v) => (state.log ? Math.max(Math.log10(Math.max(v, 1e-300)), ends[0]) : v);
    const [x, y] = frame(svg, [62, 20, 500, 360], [[low, high], ends], [own.coordinates[0], state.log ? "log₁₀ density" : "density"]);
    all.forEach((values, layer) => {
      const line = path([...values].map((v, k) => [x(at(k)), y(of(v))]));
      svg.append(element("path", { d: line, class: layer === state.layer ? "curve chosen" : "curve other" }));
    });
    return { x: [62, 500], y: null, value: (fx) => {
      const k = Math.min(n - 1, Math.max(0, Math.floor(fx * n)));
      return [[at(k)], all[state.layer][k]];
    } };
  }

  function drawPlane(svg) {
    const own = family(), n = own.pixels, [a, b] = planes()[state.plane], values = lattice(state.layer, state.report);
    const [[x0, x1], [y0, y1]] = [own.box[a], own.box[b]], top = Math.max(...values) || 1;
    const share = (v) => (state.log ? 1 + Math.log10(Math.max(v / top, 1e-30)) / DECADES : v / top);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = n;
    const context = canvas.getContext("2d"), image = context.createImageData(n, n);
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) {
      const colour = data.colours[Math.round(255 * Math.min(1, Math.max(0, share(values[i * n + j]))))];
      image.data.set([...colour, 255], 4 * ((n - 1 - j) * n + i));
    }
    context.putImageData(image, 0, 0);
    svg.append(element("image", { x: 62, y: 80, width: 400, height: 320, href: canvas.toDataURL(), preserveAspectRatio: "none" }));
    const [x, y] = frame(svg, [62, 80, 400, 320], [[x0, x1], [y0, y1]], [own.coordinates[a], own.coordinates[b]]);

    const mean = data.families[state.family].means.slice(0, state.report + 1).map((m) => m[state.layer]);
    svg.append(element("path", { d: path(mean.map((m) => [x(m[a]), y(m[b])])), class: "mean" }));
    const last = mean[mean.length - 1];
    svg.append(element("circle", { cx: x(last[a]), cy: y(last[b]), r: 3.5, class: "mean dot" }));

    const sums = [new Float64Array(n), new Float64Array(n)];
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) { sums[0][i] += values[i * n + j]; sums[1][j] += values[i * n + j]; }
    const tops = sums.map((s) => Math.max(...s) || 1), mid = (k, low, high) => low + ((k + 0.5) / n) * (high - low);
    svg.append(element("path", { d: path([...sums[0]].map((s, k) => [x(mid(k, x0, x1)), 76 - (56 * s) / tops[0]])), class: "curve chosen" }));
    svg.append(element("path", { d: path([...sums[1]].map((s, k) => [466 + (90 * s) / tops[1], y(mid(k, y0, y1))])), class: "curve chosen" }));
    return { x: [62, 400], y: [80, 320], value: (fx, fy) => {
      const i = Math.min(n - 1, Math.floor(fx * n)), j = Math.min(n - 1, Math.floor((1 - fy) * n));
      return [[mid(i, x0, x1), mid(j, y0, y1)], values[i * n + j]];
    } };
  }

  let hover = null;
  function drawDensity() {
    const svg = part("density");
    svg.replaceChildren();
    hover = dim() === 1 ? drawLine(svg) : drawPlane(svg);
    part("reading").textContent = " ";
  }

  function read(event) {
    const svg = part("density"), point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const fx = (point.x - hover.x[0]) / hover.x[1], fy = hover.y ? (point.y - hover.y[0]) / hover.y[1] : 0.5;
    if (fx < 0 || fx >= 1 || fy < 0 || fy >= 1) return void (part("reading").textContent = " ");
    const [place, value] = hover.value(fx, fy), axes = planes()[state.plane];
    const names = dim() === 1 ? [0] : axes;
    part("reading").textContent = names.map((k, m) => `${family().coordinates[k]} = ${shown(place[m])}`).join(", ") + `: density ${shown(value)}`;
    part("reading").dataset.place = JSON.stringify(place);
    part("reading").dataset.value = value;
  }

  // --- curves --------------------------------------------------------------------------------------------------------
  const charts = () => [
    { name: "risk and energy", curves: data.curves.filter((c) => /risk|energy|penalty/.test(c.name)) },
    { name: "accuracy", curves: data.curves.filter((c) => /accuracy/.test(c.name)) },
    { name: "how far from stationary", log: true, curves: data.curves.filter((c) => c.log) },
    ...data.singular.map((s) => ({ name: `singular values: ${s.family}, layer ${s.layer}`, curves: s.values.map((v, k) => ({
      name: `sigma_${k}`, label: `σ ${k + 1}`, colour: "#0072B2", tau: s.tau, values: v })) })),
  ].filter((chart) => chart.curves.length);

  function drawCurves() {
    const svg = part("curves"), chart = charts()[state.chart];
    svg.replaceChildren();
    const points = chart.curves.flatMap((c) => c.values.map((v, k) => [c.tau[k], v])).filter(([, v]) => v !== null && (!chart.log || v > 0));
    const of = (v) => (chart.log ? Math.log10(v) : v), values = points.map(([, v]) => of(v));
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (!chart.log && low > 0) low = 0;
    if (!(high > low)) high = low + 1;
    const end = Math.max(...points.map(([t]) => t)) || 1;
    const [x, y] = frame(svg, [62, 20, 500, 250], [[0, end], [low, high + 0.06 * (high - low)]], ["τ", chart.log ? "log₁₀" : ""]);
    chart.curves.forEach((curve, k) => {
      const some = curve.values.map((v, m) => [curve.tau[m], v]).filter(([, v]) => v !== null && (!chart.log || v > 0));
      svg.append(element("path", { d: path(some.map(([t, v]) => [x(t), y(of(v))])), class: "curve", stroke: curve.colour, "stroke-dasharray": ["", "6 3", "2 2", "8 2 2 2"][k % 4] }));
      if (some.length < 4) for (const [t, v] of some) svg.append(element("circle", { cx: x(t), cy: y(of(v)), r: 3, fill: curve.colour }));
    });
    svg.append(element("line", { x1: x(data.taus[state.report]), x2: x(data.taus[state.report]), y1: 20, y2: 270, class: "cursor" }));
    svg.onclick = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const tau = ((point.x - 62) / 500) * end;
      const apart = data.taus.map((t) => Math.abs(t - tau));
      show({ report: apart.indexOf(Math.min(...apart)) });
    };

    const legend = part("legend");
    legend.replaceChildren();
    for (const curve of chart.curves.slice(0, 12)) {
      const known = curve.tau.map((t, k) => [Math.abs(t - data.taus[state.report]), curve.values[k]]).filter(([, v]) => v !== null);
      const item = document.createElement("li");
      item.style.setProperty("--colour", curve.colour);
      item.textContent = `${curve.label} ${known.length ? shown(known.reduce((a, b) => (a[0] <= b[0] ? a : b))[1]) : "—"}`;
      legend.append(item);
    }
  }

  // --- files ---------------------------------------------------------------------------------------------------------
  function save(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function svgText(svg) {
    const copy = svg.cloneNode(true), style = element("style", {}, [...document.querySelectorAll("style")].map((s) => s.textContent).join("\n"));
    copy.setAttribute("xmlns", SVG);
    copy.prepend(style);
    return new XMLSerializer().serializeToString(copy);
  }

  function densityCsv() {
    const own = family(), n = own.pixels, values = lattice(state.layer, state.report), axes = dim() === 1 ? [0] : planes()[state.plane];
    const mid = (k, [low, high]) => low + ((k + 0.5) / n) * (high - low);
    const rows = [...values].map((v, k) => (dim() === 1 ? [mid(k, own.box[0]), v] : [mid(Math.floor(k / n), own.box[axes[0]]), mid(k % n, own.box[axes[1]]), v]));
    return [[...axes.map((k) => own.coordinates[k]), "density"], ...rows].map((row) => row.join(",")).join("\n") + "\n";
  }

  function curvesCsv() {
    const chart = charts()[state.chart], taus = [...new Set(chart.curves.flatMap((c) => c.tau))].sort((a, b) => a - b);
    const rows = taus.map((t) => [t, ...chart.curves.map((c) => c.values[c.tau.indexOf(t)] ?? "nan")]);
    return [["tau", ...chart.curves.map((c) => c.name)], ...rows].map((row) => row.join(",")).join("\n") + "\n";
  }

  // --- the page ------------------------------------------------------------------------------------------------------
  function options(select, names, chosen) {
    select.replaceChildren(...names.map((name, k) => new Option(name, k, false, k === chosen)));
    select.closest("label").hidden = names.length < 2;
  }

  function show(changes) {
    Object.assign(state, changes);
    if ("family" in changes) Object.assign(state, { layer: Math.min(state.layer, family().layers - 1), plane: 0 });
    options(part("layer"), [...Array(family().layers).keys()].map((k) => `layer ${k}`), state.layer);
    options(part("plane"), dim() < 3 ? [""] : planes().map(([a, b]) => `${family().coordinates[a]}, ${family().coordinates[b]}`), state.plane);
    part("tau").value = state.report;
    const step = data.steps ? `, step ${data.steps[state.report]}` : "";
    part("now").textContent = `τ = ${shown(data.taus[state.report])}${step}`;
    drawDensity();
    drawCurves();
  }

  function play() {
    if (state.timer) {
      clearInterval(state.timer);
      state.timer = null;
    } else {
      if (state.report === data.taus.length - 1) show({ report: 0 });
      state.timer = setInterval(() => {
        if (state.report === data.taus.length - 1) return play();
        show({ report: state.report + 1 });
      }, 220);
    }
    part("play").textContent = state.timer ? "❚❚" : "▶";
  }

  async function start() {
    data = await unpacked(document.getElementById("explorer-data").textContent.trim());
    part("tau").max = data.taus.length - 1;
    options(part("family"), data.families.map((own) => own.name), 0);
    options(part("chart"), charts().map((chart) => chart.name), 0);
    for (const [name, key] of [["tau", "report"], ["family", "family"], ["layer", "layer"], ["plane", "plane"], ["chart", "chart"]])
      part(name).addEventListener("input", (event) => show({ [key]: Number(event.target.value) }));
    part("log").addEventListener("input", (event) => show({ log: event.target.checked }));
    part("play").addEventListener("click", play);
    part("density").addEventListener("pointermove", read);
    part("density-csv").addEventListener("click", () => save("density.csv", "text/csv", densityCsv()));
    part("density-svg").addEventListener("click", () => save("density.svg", "image/svg+xml", svgText(part("density"))));
    part("curves-csv").addEventListener("click", () => save("curves.csv", "text/csv", curvesCsv()));
    part("curves-svg").addEventListener("click", () => save("curves.svg", "image/svg+xml", svgText(part("curves"))));
    root.addEventListener("keydown", (event) => {
      if (event.key === " " && event.target.tagName !== "BUTTON" && event.target.tagName !== "SELECT") { event.preventDefault(); play(); }
    });
    show({ report: data.taus.length - 1 });
    root.hidden = false;
    root.dataset.ready = "yes";
  }

  start().catch((error) => { part("failure").textContent = `This browser cannot show it: ${error.message}`; root.hidden = false; });
})();
