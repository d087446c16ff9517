// Drawing the curves and maps of a live view. page.js stands before it.

const DASHES = ["solid", "solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid"];
const EDIT_WORDS = { set: (event) => `lr ${formatNumber(asNumber(event.data.lr))}`, pause: () => "pause", resumed: () => "resumed",
  stop: () => "stop", early_stop: () => "early stop" };
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const STATS = {
  grad_norm: { name: "Gradient norm", scale: "log₁₀ gradient norm" },
  update_ratio: { name: "Update ratio", scale: "log₁₀ update / weight" },
  weight_norm: { name: "Weight norm", scale: "log₁₀ weight norm" },
};

/** Plotly reads a subset of HTML in every text; names of metrics and layers are only text. */
const inert = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function formatNumber(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e-4 && size < 1e4) return String(Number(value.toPrecision(4)));
  if (size >= 1e4 && size < 1e9) return Math.round(value).toLocaleString("en-US");
  return value.toExponential(3);
}

const formatCount = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en-US"));

function formatDuration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  for (const [size, unit, smaller, smallerUnit] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / smaller);
      return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${smallerUnit}` : ""}`;
    }
  }
  return `${whole} s`;
}

/** A place for one figure. It is drawn only while it can be seen, and only when something changed. */
class Chart {
  constructor(element, build, height, everyMs = 0) {
    this.element = element;
    this.build = build;
    this.height = height;
    this.everyMs = everyMs;
    this.drawnAt = -Infinity;
    this.dirty = true;
    this.visible = false;
  }
  /** Whether to draw now; what is dear to draw is drawn less often, unless the viewer is waiting for it. */
  due(hurry) {
    return this.dirty && this.visible && (hurry || performance.now() - this.drawnAt >= this.everyMs);
  }
  draw(Plotly, theme) {
    this.dirty = false;
    this.drawnAt = performance.now();
    const figure = this.build(theme);
    this.element.classList.toggle("dls-empty", !figure);
    if (!figure) { this.element.style.height = ""; return; }
    const height = figure.height || this.height;
    this.element.style.height = `${height}px`;
    const layout = { ...baseLayout(theme), ...figure.layout, height, width: this.element.clientWidth || undefined };
    Plotly.react(this.element, figure.data, layout, { displaylogo: false, displayModeBar: "hover", responsive: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"] });
    if (figure.hover && !this.hovering) {
      this.hovering = true;
      this.element.on("plotly_hover", (event) => figure.hover(event.points[0]));
      this.element.on("plotly_unhover", () => figure.hover(null));
    }
    this.width = this.element.clientWidth;
  }
}

function axis(theme, title, more) {
  return { title: { text: title, font: { size: 11, color: theme.muted }, standoff: 6 }, tickfont: { size: 11, color: theme.muted },
    gridcolor: theme.line, linecolor: theme.line, zeroline: false, automargin: true, ...more };
}

function baseLayout(theme) {
  return {
    font: { family: FONT, size: 12, color: theme.ink }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 52, r: 14, t: 8, b: 38 }, uirevision: "keep", hovermode: "x", hoverdistance: 30,
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 11, color: theme.ink }, bgcolor: "rgba(0,0,0,0)" },
    hoverlabel: { font: { family: FONT, size: 12 } }, modebar: { bgcolor: "rgba(0,0,0,0)", color: theme.muted, activecolor: theme.accent },
    dragmode: "zoom",
  };
}

/** Traces of one curve: raw (faint behind when smoothed), smoothed, and crosses where values were not finite. */
function curveTraces(series, name, position, theme, smoothing) {
  const color = theme.palette[position % theme.palette.length];
  const line = { color, width: 2, dash: DASHES[position % DASHES.length] };
  const raw = series.line();
  const few = series.nPoints <= 60;
  const traces = [];
  const common = { type: "scatter", name: inert(name), hovertemplate: "%{y:.4~g}<extra>%{fullData.name}</extra>" };
  const smoothed = smoothing > 0 && !few;
  traces.push({ ...common, ...raw, mode: few ? "lines+markers" : "lines", line: smoothed ? { ...line, width: 1, dash: "solid" } : line,
    marker: { color, size: 5, symbol: position % 24 }, opacity: smoothed ? 0.25 : 1, showlegend: !smoothed, hoverinfo: smoothed ? "skip" : undefined });
  if (smoothed) traces.push({ ...common, ...series.smooth(smoothing), mode: "lines", line });
  const marks = series.marks();
  if (marks.length) {
    traces.push({ type: "scatter", mode: "markers", name: inert(`${name}: not finite`), x: marks.map((mark) => mark.x), y: marks.map(() => 0.97), yaxis: "y9",
      text: marks.map((mark) => mark.words), hovertemplate: "%{text}<extra>%{fullData.name}</extra>",
      marker: { symbol: "x", size: 9, color: theme.bad, line: { color: theme.ink, width: 0.5 } } });
  }
  return traces;
}

const HIDDEN_AXIS = { overlaying: "y", range: [0, 1], fixedrange: true, visible: false, tickmode: "auto" };

/** What was done to the run, as lines across a chart: learning rate edits with their values, the rest thin. */
function editMarks(events, theme, lastX) {
  const shown = events.filter((event) => event.step !== null && event.kind in EDIT_WORDS).slice(-40);
  const color = (event) => (event.kind === "set" ? theme.accent : theme.muted);
  return {
    shapes: shown.map((event) => ({ type: "line", xref: "x", yref: "paper", x0: event.step, x1: event.step, y0: 0, y1: 1, layer: "above",
      line: { color: color(event), width: event.kind === "set" ? 1.5 : 1, dash: event.kind === "set" ? "dash" : "dot" } })),
    // Beside its line, on the side where there is room; one below the other, so that neighbours stay legible.
    annotations: shown.slice(-12).map((event, position) => {
      const left = event.step > 0.8 * lastX;
      return { x: event.step, xref: "x", yref: "paper", y: 1 - 0.07 * (position % 6), yanchor: "top", xanchor: left ? "right" : "left", xshift: left ? -3 : 3,
        showarrow: false, text: inert(EDIT_WORDS[event.kind](event)), font: { size: 10, color: color(event) } };
    }),
  };
}

/** A figure of several curves over steps; null while there is nothing to draw. */
function curvesFigure(store, keys, theme, { smoothing = 0, log = false, title = "", names = new Map(), shift = 0, fromZero = false } = {}) {
  const drawn = keys.map((key, position) => ({ series: store.curves.get(key), name: names.get(key) || key, position: position + shift }))
    .filter(({ series }) => series && series.block.n);
  if (!drawn.length) return null;
  // Smoothing is for what is recorded every step; what is measured now and then is drawn as it is.
  const densest = Math.max(...drawn.map(({ series }) => series.nPoints));
  const data = drawn.flatMap(({ series, name, position }) => curveTraces(series, name, position, theme, series.nPoints * 5 > densest ? smoothing : 0));
  const lastX = Math.max(...drawn.map(({ series }) => series.lastX));
  return { data, layout: { showlegend: true, xaxis: axis(theme, "step", { tickformat: "~s" }),
    yaxis: axis(theme, title, { type: log ? "log" : "linear", exponentformat: "power", rangemode: fromZero ? "tozero" : "normal", ...(log ? { dtick: undefined, minor: { showgrid: false } } : {}) }),
    yaxis9: HIDDEN_AXIS, ...editMarks(store.events, theme, lastX) } };
}

/** Machine use over time: percentages above, memory below. */
function machineFigure(store, theme) {
  const NAMES = [[/^cpu_percent$/, () => "CPU", "y"], [/^gpu(\d+)_util_percent$/, (m) => `GPU ${m[1]}`, "y"],
    [/^rss_mib$/, () => "process memory", "y2"], [/^gpu(\d+)_memory_mib$/, (m) => `GPU ${m[1]} memory`, "y2"]];
  const chosen = [];
  for (const [pattern, name, yaxis] of NAMES) {
    for (const [key, series] of [...store.machine].sort(([a], [b]) => a.localeCompare(b))) {
      const match = key.match(pattern);
      if (match && series.block.n) chosen.push({ series, name: name(match), yaxis });
    }
  }
  if (!chosen.length) return null;
  const end = Math.max(...chosen.map(({ series }) => series.lastX || 0));
  const [per, unit] = end > 7200 ? [3600, "h"] : end > 300 ? [60, "min"] : [1, "s"];
  const data = chosen.map(({ series, name, yaxis }, position) => {
    const { x, y } = series.line();
    return { type: "scatter", mode: "lines", name, x: x.map((value) => value / per), y, yaxis,
      line: { color: theme.palette[position % 8], width: 1.5, dash: DASHES[position % 8] }, hovertemplate: "%{y:,.4~g}<extra>%{fullData.name}</extra>" };
  });
  return { data, layout: { showlegend: true, xaxis: axis(theme, `time since the start (${unit})`, { anchor: "y2" }),
    yaxis: axis(theme, "use (%)", { domain: [0.56, 1], rangemode: "tozero" }), yaxis2: axis(theme, "memory (MiB)", { domain: [0, 0.44], rangemode: "tozero", tickformat: "~s", anchor: "x" }) } };
}

/** Cuts names from the left, at a dot where there is one: the end tells layers apart. */
function shortener(room) {
  return (name) => {
    if (name.length <= room) return name;
    const tail = name.slice(1 - room);
    const dot = tail.indexOf(".");
    return `…${dot >= 0 && dot < tail.length / 2 ? tail.slice(dot) : tail}`;
  };
}

/** Layers × steps as a heat map; what has no logarithm gets colours of its own. */
function layersFigure(store, theme, readout, width) {
  const layers = store.layers;
  if (!layers || !layers.block.n) return null;
  const { steps, codes, n, nRows } = layers.block;
  const edges = new Float64Array(n + 1);
  for (let i = 0; i < n; i++) edges[i] = i && steps[2 * i] <= edges[i - 1] ? edges[i - 1] + 1 : steps[2 * i];
  edges[n] = Math.max(steps[2 * n - 1], edges[n - 1] + (n > 1 ? (edges[n - 1] - edges[0]) / (n - 1) : 1));
  const z = [], special = [];
  let low = Infinity, high = -Infinity, nZero = 0, nBad = 0;
  for (let row = 0; row < nRows; row++) {
    const values = new Float32Array(n), odd = new Float32Array(n).fill(NaN);
    for (let column = 0; column < n; column++) {
      const code = codes[column * nRows + row];
      if (code === CODE_ZERO) { values[column] = NaN; odd[column] = 0; nZero++; }
      else if (code === CODE_NAN || code === CODE_INFINITE) { values[column] = NaN; odd[column] = 1; nBad++; }
      else { const value = code / 1000; values[column] = value; if (value < low) low = value; if (value > high) high = value; }
    }
    z.push(values);
    special.push(odd);
  }
  const height = Math.min(560, Math.max(190, 76 + nRows * 15));
  const every = Math.ceil(nRows / Math.max(1, Math.floor((height - 60) / 14)));
  const shown = [...Array(nRows).keys()].filter((row) => row % every === 0);
  const short = shortener(width > 800 ? 44 : 26);
  const words = STATS[layers.stat];
  const data = [{ type: "heatmap", x: edges, y: [...Array(nRows).keys()], z, zmin: Number.isFinite(low) ? low : 0, zmax: high > low ? high : low + 1,
    colorscale: "Viridis", hoverinfo: "none", hoverongaps: true,
    colorbar: { title: { text: words.scale, side: "right", font: { size: 11, color: theme.muted } }, thickness: 12, len: 1, ypad: 0, outlinewidth: 0, tickfont: { size: 11, color: theme.muted } } }];
  if (nZero || nBad) {
    data.push({ type: "heatmap", x: edges, y: data[0].y, z: special, zmin: 0, zmax: 1, showscale: false, hoverinfo: "skip",
      colorscale: [[0, theme.zero], [0.5, theme.zero], [0.5, theme.bad], [1, theme.bad]] });
  }
  const hover = (point) => {
    const now = store.layers;
    if (!point || !now || now.block.n === 0) return readout(null);
    const row = Math.round(point.y);
    let column = 0;
    while (column < now.block.n - 1 && now.block.steps[2 * column + 2] <= point.x) column++;
    const code = now.block.codes[column * now.block.nRows + row];
    const value = code === CODE_ZERO ? "exactly 0" : code === CODE_NAN ? "NaN" : code === CODE_INFINITE ? "infinite" : formatNumber(10 ** (code / 1000));
    const [first, last] = [now.block.steps[2 * column], now.block.steps[2 * column + 1]];
    const where = first === last ? `step ${formatCount(first)}` : `steps ${formatCount(first)} to ${formatCount(last)}, highest`;
    return readout(`${now.rows[row]} · ${where} · ${STATS[now.stat].name.toLowerCase()} ${value}`);
  };
  return { data, height, hover, special: { nZero, nBad }, layout: { hovermode: "closest", margin: { l: 60, r: 10, t: 8, b: 38 },
    xaxis: axis(theme, "step", { tickformat: "~s", showgrid: false }),
    yaxis: axis(theme, "", { autorange: "reversed", tickmode: "array", tickvals: shown, ticktext: shown.map((row) => inert(short(layers.rows[row]))), showgrid: false, ticks: "",
      tickfont: { size: 10, color: theme.muted } }), uirevision: `${layers.stat}${layers.group}` } };
}
