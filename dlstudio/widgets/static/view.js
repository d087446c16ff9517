// The view itself: elements, controls, and the asking for news while it can be seen and the run is live.

const TICK_MS = 500, HURRY_MS = 20, PATIENCE_MS = 8000, RETRY_MS = 30000;
const EVENT_WORDS = { set: "Learning rate", pause: "Pause", resume: "Resume", resumed: "Resumed", stop: "Stop", checkpoint: "Checkpoint",
  early_stop: "Early stop", lost: "Lost", warning: "Warning" };

/** Make an element; text is always set as text, never as HTML. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

let nextId = 0;

class View {
  constructor(model, el) {
    this.model = model;
    this.client = Math.random().toString(36).slice(2);
    this.uid = `dls-${this.client}-${nextId++}`;
    this.store = new Store();
    this.settings = { smoothing: 0.6, log: false, stat: "grad_norm", group: 0, metrics: null, ...model.get("settings") };
    this.waiting = new Map();
    this.onMessage = this.guarded((content, buffers) => this.receive(content, buffers));
    this.build(el);
    model.on("msg:custom", this.onMessage);
    this.observe();
    this.ask();
  }

  // -- faults are shown, never swallowed ------------------------------------------------------------------------

  guarded(work) {
    return (...values) => {
      try {
        const result = work(...values);
        if (result && result.catch) result.catch((error) => this.fail(error));
        return result;
      } catch (error) {
        this.fail(error);
        return undefined;
      }
    };
  }
  fail(error) {
    const text = error && error.message ? error.message : String(error);
    this.fault.replaceChildren(h("strong", {}, "The live view has a fault. "), `The run itself goes on. ${text}`,
      h("details", {}, h("summary", {}, "Details"), h("pre", {}, String((error && error.stack) || error))));
    this.fault.hidden = false;
  }

  // -- elements ---------------------------------------------------------------------------------------------------

  build(el) {
    const button = (label, name, title) => h("button", { type: "button", class: `dls-button dls-${name}`, title, disabled: true,
      onclick: this.guarded(() => this.press(name)) }, label);
    this.buttons = { pause: button("Pause", "pause", "Pause after the current step"), resume: button("Resume", "resume", "Go on"),
      stop: button("Stop…", "stop", "Stop after the current step; asks first"),
      checkpoint: button("Checkpoint now", "checkpoint", "Save a checkpoint after the current step") };
    this.confirm = h("span", { class: "dls-confirm", role: "group", "aria-label": "Confirm the stop", hidden: true,
      onkeydown: (event) => { if (event.key === "Escape") this.askStop(false); } },
    "Stop this run?", h("button", { type: "button", class: "dls-button dls-danger dls-stop-yes", onclick: this.guarded(() => { this.askStop(false); this.command("stop"); }) }, "Yes, stop"),
    h("button", { type: "button", class: "dls-button dls-stop-no", onclick: () => this.askStop(false) }, "Keep training"));
    this.lr = h("input", { id: `${this.uid}-lr`, type: "text", inputmode: "decimal", class: "dls-lr", autocomplete: "off", spellcheck: "false", disabled: true, "aria-describedby": `${this.uid}-said` });
    this.apply = h("button", { type: "submit", class: "dls-button dls-apply", disabled: true }, "Apply");
    const lrForm = h("form", { class: "dls-lr-form", onsubmit: this.guarded((event) => { event.preventDefault(); this.applyLr(); }) },
      h("label", { for: `${this.uid}-lr` }, "Learning rate"), this.lr, this.apply);
    this.said = h("span", { id: `${this.uid}-said`, class: "dls-said", role: "status", "aria-live": "polite" });
    this.title = h("h3", { class: "dls-name" }, "…");
    this.pill = h("span", { class: "dls-pill", "data-status": "QUEUED" }, "…");
    this.facts = h("dl", { class: "dls-facts" });
    this.bar = h("div", { class: "dls-bar", role: "progressbar", "aria-label": "Progress of the run", "aria-valuemin": 0, "aria-valuemax": 100, hidden: true }, h("span", {}));
    this.fault = h("div", { class: "dls-note dls-fault", role: "alert", hidden: true });
    this.stale = h("div", { class: "dls-note dls-stale", role: "status", hidden: true });
    this.why = h("div", { class: "dls-note dls-why", role: "status", hidden: true });
    this.losses = h("div", { class: "dls-note dls-losses", role: "status", hidden: true });
    this.charts = {};
    this.journal = h("ol", { class: "dls-journal" });
    this.log = h("pre", { class: "dls-log", tabindex: 0, role: "log", "aria-label": "Last lines of the log" });
    this.readoutLine = h("p", { class: "dls-readout" });

    const smoothing = h("input", { id: `${this.uid}-smooth`, type: "range", min: 0, max: 0.99, step: 0.01, class: "dls-smoothing", value: this.settings.smoothing });
    smoothing.value = this.settings.smoothing;
    const smoothingText = h("output", { for: `${this.uid}-smooth` }, Number(this.settings.smoothing).toFixed(2));
    smoothing.addEventListener("input", this.guarded(() => { smoothingText.textContent = Number(smoothing.value).toFixed(2); this.choose({ smoothing: Number(smoothing.value) }, ["loss"], false); }));
    smoothing.addEventListener("change", this.guarded(() => this.choose({ smoothing: Number(smoothing.value) }, ["loss"])));
    const log = h("input", { id: `${this.uid}-log`, type: "checkbox", class: "dls-logaxis" });
    log.checked = this.settings.log;
    log.addEventListener("change", this.guarded(() => this.choose({ log: log.checked }, ["loss"])));
    this.picker = h("select", { class: "dls-picker", "aria-label": "Add a metric to the chart", onchange: this.guarded(() => this.addMetric(this.picker.value)) });
    this.chips = h("span", { class: "dls-chips" });
    this.stat = h("select", { id: `${this.uid}-stat`, class: "dls-stat", onchange: this.guarded(() => this.choose({ stat: this.stat.value }, ["layers"])) },
      ...Object.entries(STATS).map(([value, { name }]) => h("option", { value }, name)));
    this.stat.value = this.settings.stat;
    this.group = h("select", { class: "dls-group", "aria-label": "Watched model", hidden: true, onchange: this.guarded(() => this.choose({ group: Number(this.group.value) }, ["layers"])) });

    const card = (name, heading, tools, ...content) => h("section", { class: `dls-card dls-card-${name}`, "aria-labelledby": `${this.uid}-${name}` },
      h("header", {}, h("h4", { id: `${this.uid}-${name}` }, heading), ...tools), ...content);
    const chart = (name, build, height, empty, everyMs) => {
      const element = h("div", { class: "dls-chart dls-empty", role: "img", "data-empty": empty, "aria-labelledby": `${this.uid}-${name}` });
      this.charts[name] = new Chart(element, build, height, everyMs);
      return element;
    };
    this.root = h("div", { class: "dls-live", role: "region", "aria-label": "Live view of a run", "data-ticks": 0, "data-reading": "true" },
      h("header", { class: "dls-head" }, h("div", { class: "dls-title" }, this.title, this.pill), this.facts, this.bar),
      this.fault, this.stale, this.why, this.losses,
      h("div", { class: "dls-controls", role: "toolbar", "aria-label": "Controls of the run" },
        this.buttons.pause, this.buttons.resume, this.buttons.checkpoint, this.buttons.stop, this.confirm, lrForm, this.said),
      h("div", { class: "dls-grid" },
        card("loss", "Loss", [h("span", { class: "dls-tool" }, h("label", { for: `${this.uid}-smooth` }, "Smoothing"), smoothing, smoothingText),
          h("span", { class: "dls-tool" }, log, h("label", { for: `${this.uid}-log` }, "Log axis"))],
        chart("loss", (theme) => this.lossFigure(theme), 320, "No loss recorded so far.")),
        card("lr", "Learning rate", [], chart("lr", (theme) => this.lrFigure(theme), 320, "No learning rate recorded so far.")),
        card("metrics", "Metrics", [this.chips, this.picker], chart("metrics", (theme) => this.metricsFigure(theme), 280, "No other metric recorded so far.")),
        card("machine", "Machine", [], chart("machine", (theme) => machineFigure(this.store, theme), 280, "No machine use recorded so far.", 1900)),
        card("layers", "Layers", [h("span", { class: "dls-tool" }, h("label", { for: `${this.uid}-stat` }, "Show"), this.stat), this.group],
          chart("layers", (theme) => this.layersFigure(theme), 300, "No layer sampled so far. In a loop of your own, rec.watch(model, optimizer) does it.", 900), this.readoutLine),
        card("journal", "Journal", [], this.journal),
        card("log", "Log", [], this.log)));
    el.append(this.root);
  }

  // -- asking and answering ---------------------------------------------------------------------------------------

  observe() {
    this.seen = new IntersectionObserver(this.guarded((entries) => {
      for (const entry of entries) {
        if (entry.target === this.root) { this.shown = entry.isIntersecting; continue; }
        const chart = Object.values(this.charts).find(({ element }) => element === entry.target);
        chart.visible = entry.isIntersecting;
      }
      if (this.shown) this.ask();
      this.redraw();
    }), { rootMargin: "100px" });
    this.sized = new ResizeObserver(this.guarded(() => {
      for (const chart of Object.values(this.charts)) if (chart.width && chart.element.clientWidth !== chart.width) chart.dirty = true;
      this.redraw();
    }));
    this.seen.observe(this.root);
    for (const { element } of Object.values(this.charts)) { this.seen.observe(element); this.sized.observe(element); }
    this.themed = onTheme(this.guarded(() => this.retheme()));
    this.onVisibility = this.guarded(() => this.ask());
    document.addEventListener("visibilitychange", this.onVisibility);
    this.retheme();
  }
  retheme() {
    this.root.dataset.theme = darkPage() ? "dark" : "light";
    this.theme = THEMES[this.root.dataset.theme];
    for (const chart of Object.values(this.charts)) chart.dirty = true;
    this.redraw();
  }
  send(content) {
    try {
      this.model.send({ client: this.client, ...content });
    } catch {
      // The kernel of this view is gone; Jupyter keeps the picture but can reach nobody any more.
      this.over = true;
      this.root.dataset.detached = true;
      this.stale.textContent = "This view has lost its kernel, which was restarted or shut down. The run itself goes on: run the cell again to reattach.";
      this.stale.hidden = false;
      for (const control of [...Object.values(this.buttons), this.lr, this.apply]) control.disabled = true;
    }
  }

  /** Ask for news, unless an answer is still on its way, nobody looks, or the run is over and all is here. */
  ask() {
    clearTimeout(this.timer);
    if (this.closed || this.over || document.hidden || this.shown === false) return;
    const now = performance.now();
    if (this.askedAt && now - this.askedAt < RETRY_MS) {
      this.timer = setTimeout(() => this.ask(), 1000);
      if (now - this.askedAt > PATIENCE_MS) {
        this.stale.textContent = "The kernel has not answered for some seconds: it is busy, or was restarted. The run itself goes on. After a restart, run this cell again to reattach.";
        this.stale.hidden = false;
      }
      return;
    }
    this.askedAt = now;
    this.send({ type: "tick", ack: this.store.seq, want: this.wanted(), stat: this.settings.stat, group: this.settings.group });
    this.timer = setTimeout(() => this.ask(), 1000);
  }
  receive(content, buffers) {
    if (content.client !== this.client) return;
    if (content.type === "delta") this.takeDelta(content, buffers[0]);
    else if (content.type === "told") this.say(content.words, content.ok);
    else if (content.type === "fault") { this.askedAt = 0; this.fail(new Error(content.words)); }
    else if (content.type === "plotly") this.waiting.get("plotly")?.(buffers[0]);
  }
  takeDelta(content, buffer) {
    const began = performance.now();
    this.askedAt = 0;
    this.stale.hidden = true;
    if (content.seq !== this.store.seq + 1 && !content.reset) return this.ask();
    const changed = this.store.apply(content, new Packed(buffer));
    this.update(changed);
    this.spent = performance.now() - began;
    this.over = content.over;
    this.redraw();
    this.root.dataset.ticks = Number(this.root.dataset.ticks) + 1;
    this.root.dataset.over = content.over;
    this.root.dataset.reading = content.reading;
    clearTimeout(this.timer);
    if (!content.over) this.timer = setTimeout(() => this.ask(), content.more ? HURRY_MS : TICK_MS);
    return undefined;
  }
  fetchPlotly() {
    return new Promise((resolve, reject) => {
      this.waiting.set("plotly", resolve);
      this.send({ type: "plotly" });
      setTimeout(() => reject(new Error("The kernel did not deliver plotly.js within 60 s; run this cell again.")), 60000);
    });
  }

  // -- drawing ------------------------------------------------------------------------------------------------------

  /** Draw what is out of date and can be seen, one chart a frame, so that the page keeps answering. */
  redraw() {
    if (this.drawing || this.closed) return;
    const next = Object.values(this.charts).find((chart) => chart.due(this.over));
    if (!next) return;
    this.drawing = true;
    plotly(() => this.fetchPlotly()).then((Plotly) => requestAnimationFrame(() => {
      const began = performance.now();
      try {
        if (!this.closed) next.draw(Plotly, this.theme);
      } catch (error) {
        this.fail(error);
      }
      this.drawing = false;
      this.spent = (this.spent || 0) + performance.now() - began;
      this.root.dataset.spentMs = this.spent.toFixed(1);
      this.redraw();
    }), (error) => { this.drawing = false; this.fail(error); });
  }
  touch(...names) { for (const name of names) this.charts[name].dirty = true; }

  keyNames() { return new Map(this.store.sections.keys || []); }
  lossKeys() {
    const first = ["loss", "val/loss", "train/loss"];
    const keys = [...this.keyNames().keys()].filter((key) => /loss/i.test(key) && !/^(best|test)\//.test(key));
    return [...first.filter((key) => keys.includes(key)), ...keys.filter((key) => !first.includes(key))].slice(0, 8);
  }
  lrKeys() { return [...this.keyNames().keys()].filter((key) => /^(lr|learning_rate)\b/i.test(key)).slice(0, 4); }
  otherKeys() {
    const taken = new Set([...this.lossKeys(), ...this.lrKeys()]);
    return [...this.keyNames().keys()].filter((key) => !taken.has(key));
  }
  metricKeys() {
    const others = this.otherKeys();
    if (this.settings.metrics) return this.settings.metrics.filter((key) => others.includes(key));
    const liked = ["val/accuracy", "val/balanced_accuracy", "val/auc", "val/r2", "val/rmse", "val/mae"].filter((key) => others.includes(key)).slice(0, 3);
    return liked.length ? liked : others.filter((key) => key !== "epoch").slice(0, 1);
  }
  wanted() { return this.store.sections.keys ? [...this.lossKeys(), ...this.lrKeys(), ...this.metricKeys()] : null; }

  lossFigure(theme) {
    const { smoothing, log } = this.settings;
    return curvesFigure(this.store, this.lossKeys(), theme, { smoothing, log, title: "loss", names: this.keyNames() });
  }
  lrFigure(theme) { return curvesFigure(this.store, this.lrKeys(), theme, { title: "learning rate", names: this.keyNames(), fromZero: true }); }
  metricsFigure(theme) { return curvesFigure(this.store, this.metricKeys(), theme, { title: "value", names: this.keyNames(), shift: 1 }); }
  layersFigure(theme) {
    const figure = layersFigure(this.store, theme, (text) => { this.readoutLine.textContent = text || this.layersNote; }, this.root.clientWidth);
    if (figure) {
      const { nZero, nBad } = figure.special;
      const parts = [nZero ? "grey: exactly zero" : "", nBad ? "orange: NaN or infinite" : "",
        this.store.layers.perRow > 1 ? `a row shows the highest of ${this.store.layers.perRow} parameters` : ""].filter(Boolean);
      this.layersNote = parts.length ? `${parts.join("; ")}.` : "Point at a cell to read its value.";
      if (!this.readoutLine.textContent) this.readoutLine.textContent = this.layersNote;
    }
    return figure;
  }

  /** A choice of the viewer; kept with the widget, so that it survives a reload of the page. */
  choose(changes, names, keep = true) {
    Object.assign(this.settings, changes);
    this.touch(...names);
    for (const name of names) this.charts[name].drawnAt = -Infinity;
    this.redraw();
    if (keep) { this.model.set("settings", { ...this.settings }); this.model.save_changes(); this.over = false; this.ask(); }
  }
  addMetric(key) {
    if (key) this.choose({ metrics: [...this.metricKeys().filter((other) => other !== key), key].slice(-8) }, ["metrics"]);
    this.showMetrics();
  }
  showMetrics() {
    const names = this.keyNames(), chosen = this.metricKeys();
    this.chips.replaceChildren(...chosen.map((key) => h("button", { type: "button", class: "dls-chip", "aria-label": `Remove ${names.get(key)} from the chart`,
      onclick: this.guarded(() => { this.choose({ metrics: chosen.filter((other) => other !== key) }, ["metrics"]); this.showMetrics(); }) }, names.get(key), h("span", { "aria-hidden": "true" }, " ×"))));
    this.picker.replaceChildren(h("option", { value: "" }, "Add a metric…"), ...this.otherKeys().filter((key) => !chosen.includes(key)).map((key) => h("option", { value: key }, names.get(key))));
  }

  // -- words ----------------------------------------------------------------------------------------------------------

  update(changed) {
    const { sections } = this.store;
    if (changed.has("reset")) this.touch(...Object.keys(this.charts));
    if (changed.has("run")) { this.title.textContent = sections.run.name; this.root.setAttribute("aria-label", `Live view of the run ${sections.run.name}`); }
    if (changed.has("keys")) { this.showMetrics(); this.ask(); }
    if (changed.has("head") || changed.has("traceback") || changed.has("damage")) this.showHead();
    if (changed.has("log")) {
      const atEnd = this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - 8;
      this.log.textContent = sections.log || "Nothing has been printed yet.";
      if (atEnd) this.log.scrollTop = this.log.scrollHeight;
    }
    if (changed.has("events") || changed.has("reset")) { this.showJournal(); this.touch("loss", "lr", "metrics"); }
    if (changed.has("groups")) {
      this.group.hidden = sections.groups.length < 2;
      this.group.replaceChildren(...sections.groups.map((n, i) => h("option", { value: i }, `model ${i + 1} (${n} parameters)`)));
      this.group.value = this.settings.group;
    }
    const of = (keys) => keys.some((key) => changed.has(`curve:${key}`));
    if (of(this.lossKeys())) this.touch("loss");
    if (of(this.lrKeys())) {
      this.touch("lr");
      const last = this.store.curves.get(this.lrKeys()[0])?.last;
      if (last !== null && last !== undefined) this.lr.placeholder = formatNumber(last);
    }
    if (of(this.metricKeys())) this.touch("metrics");
    if (changed.has("machine")) this.touch("machine");
    if (changed.has("layers")) this.touch("layers");
  }
  showHead() {
    const { head, traceback, damage } = this.store.sections;
    const { status, live } = head;
    this.pill.textContent = status;
    this.pill.dataset.status = status;
    this.root.dataset.status = status;
    const of = (done, planned) => (planned ? `${formatCount(done)} of ${formatCount(planned)}` : formatCount(done));
    const speed = [head.samples_per_s !== null ? `${formatCount(asNumber(head.samples_per_s))} samples/s` : "", head.steps_per_s !== null ? `${formatNumber(asNumber(head.steps_per_s))} steps/s` : ""].filter(Boolean);
    const facts = [head.n_epochs || head.epoch ? ["Epoch", of(head.epoch, head.n_epochs)] : null, ["Step", of(head.step, head.n_steps)],
      speed.length ? ["Throughput", speed.join(" · ")] : null, live && head.left_s !== null ? ["Time left", formatDuration(head.left_s)] : null,
      ["Elapsed", formatDuration(head.elapsed_s)], head.n_params ? ["Parameters", formatCount(head.n_params)] : null].filter(Boolean);
    facts.forEach(([name, text], position) => {
      const row = this.facts.children[position] || this.facts.appendChild(h("div", {}, h("dt", {}), h("dd", {})));
      if (row.firstChild.textContent !== name) row.firstChild.textContent = name;
      if (row.lastChild.textContent !== text) row.lastChild.textContent = text;
    });
    while (this.facts.children.length > facts.length) this.facts.lastChild.remove();
    this.bar.hidden = !head.n_steps;
    if (head.n_steps) {
      const percent = Math.min(100, (100 * head.step) / head.n_steps);
      this.bar.firstChild.style.width = `${percent}%`;
      this.bar.setAttribute("aria-valuenow", percent.toFixed(0));
    }
    this.why.hidden = !(head.reason && status !== "FINISHED");
    if (!this.why.hidden) {
      const opened = this.why.querySelector("details")?.open;
      const heading = { FAILED: "The run failed: ", KILLED: "The run was stopped: ", QUEUED: "Waiting: " }[status] || "";
      this.why.dataset.status = status;
      this.why.replaceChildren(h("strong", {}, heading), head.reason, traceback ? h("details", {}, h("summary", {}, "Traceback"), h("pre", { tabindex: 0 }, traceback)) : "");
      if (opened) this.why.querySelector("details")?.setAttribute("open", "");
    }
    const lost = [head.n_lost ? `${formatCount(head.n_lost)} recorded points could not be written, so the curves have gaps; training itself goes on.` : "", ...(damage || []).map((words) => `Part of the recording cannot be read: ${words}.`)].filter(Boolean);
    this.losses.hidden = !lost.length;
    this.losses.textContent = lost.join(" ");
    this.buttons.pause.disabled = !live || status === "PAUSED";
    this.buttons.pause.hidden = status === "PAUSED";
    this.buttons.resume.disabled = !live;
    this.buttons.resume.hidden = status !== "PAUSED";
    for (const control of [this.buttons.checkpoint, this.buttons.stop, this.lr, this.apply]) control.disabled = !live;
    if (!live) this.askStop(false);
  }
  showJournal() {
    const rows = this.store.events.slice(-60).reverse().map((event) => h("li", {},
      h("time", {}, new Date(event.time * 1000).toLocaleTimeString([], { hour12: false })), h("strong", {}, EVENT_WORDS[event.kind] || event.kind),
      h("span", {}, `${event.step !== null ? `step ${formatCount(event.step)}: ` : ""}${this.eventWords(event)}`)));
    this.journal.replaceChildren(...(rows.length ? rows : [h("li", { class: "dls-none" }, "Nothing was done to this run yet. Pauses, checkpoints and learning rate edits are kept here.")]));
  }
  eventWords(event) {
    if (event.kind === "set" && event.data.lr !== undefined) {
      const old = event.data.old === null || event.data.old === undefined ? "" : `${formatNumber(asNumber(event.data.old))} → `;
      return `${old}${formatNumber(asNumber(event.data.lr))}`;
    }
    return event.message;
  }

  // -- controls -------------------------------------------------------------------------------------------------------

  say(words, ok = true) { this.said.textContent = words; this.said.classList.toggle("dls-wrong", !ok); }
  press(name) {
    if (name === "stop") this.askStop(true);
    else this.command(name);
  }
  askStop(asking) {
    if (asking === !this.confirm.hidden) return;
    const had = this.confirm.contains(document.activeElement);
    this.confirm.hidden = !asking;
    this.buttons.stop.hidden = asking;
    if (asking) this.confirm.querySelector(".dls-stop-yes").focus();
    else if (had) this.buttons.stop.focus();
  }
  applyLr() {
    const text = this.lr.value.trim(), value = Number(text);
    const right = text !== "" && Number.isFinite(value) && value > 0;
    this.lr.setAttribute("aria-invalid", String(!right));
    if (!right) return this.say(`Expected a learning rate above 0, but got ${text ? `"${text}"` : "nothing"}. Try 1e-4.`, false);
    return this.command("set", { lr: value });
  }
  command(name, more = {}) {
    this.say("Sent…");
    this.send({ type: "command", name, ...more });
    if (this.root.dataset.detached) this.say("the kernel of this view is gone.", false);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.model.off("msg:custom", this.onMessage);
    for (const watcher of [this.seen, this.sized, this.themed]) watcher.disconnect();
    document.removeEventListener("visibilitychange", this.onVisibility);
    window.__dlstudioPlotly?.then((Plotly) => { for (const { element } of Object.values(this.charts)) Plotly.purge(element); }, () => undefined);
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    return () => view.close();
  },
};
