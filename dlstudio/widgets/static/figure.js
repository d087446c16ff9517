// One plotly figure: asked of the kernel when it is shown, drawn when there is room for it. page.js stands before it.

const NIGHT = new Map([...["ink", "muted", "line", "accent", "bad"].map((name) => [THEMES.light[name], THEMES.dark[name]]),
  ...THEMES.light.palette.map((color, place) => [color, THEMES.dark.palette[place]]), ["#c3ccd5", THEMES.dark.line]]);
const UNPAINTED = new Set(["x", "y", "z", "text", "customdata", "source", "hovertemplate", "ticktext"]);

/** A figure drawn for a light page, in the colours of a dark one; colour scales stay, and so does what is written on them. */
function nightly(item, key = "") {
  if (typeof item === "string") return /color(way)?$/i.test(key) ? NIGHT.get(item) ?? item : item;
  if (Array.isArray(item)) return item.map((part) => nightly(part, key));
  if (item === null || typeof item !== "object") return item;
  return Object.fromEntries(Object.entries(item).map(([name, part]) => [name, UNPAINTED.has(name) ? part : nightly(part, name)]));
}

/** The same on the ground of the page. */
function atNight({ data, layout }) {
  const clear = "rgba(0,0,0,0)";
  const hoverlabel = { bgcolor: "#1b2127", bordercolor: THEMES.dark.line, font: { color: THEMES.dark.ink } };
  return { data: nightly(data), layout: { ...nightly(layout), paper_bgcolor: clear, plot_bgcolor: clear, hoverlabel,
    modebar: { bgcolor: clear, color: THEMES.dark.muted, activecolor: THEMES.dark.accent } } };
}

/** Tells which place was clicked in the values of its axes; a click on a point is one on its values. */
function onPick(box, tell) {
  let pressed = null, point = null;
  const press = (event) => { pressed = event.target.closest(".modebar, .legend") ? null : event; point = null; };
  const release = (event) => {
    const began = pressed;
    pressed = null;
    if (!began || event.button || Math.hypot(event.clientX - began.clientX, event.clientY - began.clientY) > 4) return;
    const edge = box.getBoundingClientRect();
    const [left, top] = [event.clientX - edge.left, event.clientY - edge.top];
    setTimeout(() => {  // plotly says after this event which point it was
      const axes = {};
      for (const { xaxis, yaxis } of Object.values(box._fullLayout?._plots || {})) {
        const at = [[xaxis, left - xaxis._offset, "x"], [yaxis, top - yaxis._offset, "y"]];
        if (at.some(([axis, place]) => place < 0 || place > axis._length)) continue;
        for (const [axis, place, name] of at) {
          axes[axis._id] = point ? point[name] : axis.type === "category" ? axis._categories[Math.round(axis.p2l(place))] : axis.p2d(place);
        }
      }
      const trial = point?.customdata ?? null;
      if (trial !== null || Object.keys(axes).length) tell({ axes, trial, exact: Boolean(point) });  // 3-D has no such axes
    }, 30);
  };
  box.addEventListener("pointerdown", press, true);
  window.addEventListener("pointerup", release, true);  // plotly covers the page while a button is down
  return { listen: () => box.removeAllListeners?.("plotly_click").on("plotly_click", (event) => { point = event.points[0]; }),
    disconnect: () => window.removeEventListener("pointerup", release, true) };
}

export default {
  render({ model, el }) {
    const box = document.createElement("div");
    box.className = "dls-figure";
    box.setAttribute("role", "img");
    el.append(box);
    const client = Math.random().toString(36).slice(2);
    let figure = null, drawn = null, closed = false, deliver = null;
    const label = () => box.setAttribute("aria-label", model.get("alt"));
    const fail = (error) => {
      const said = document.createElement("p");
      said.className = "dls-fault";
      said.textContent = `The picture could not be drawn: ${error.message}`;
      box.replaceChildren(said);
    };
    const fetchPlotly = () => new Promise((resolve, reject) => {
      deliver = resolve;
      model.send({ type: "plotly", client });
      setTimeout(() => reject(new Error("the kernel did not deliver plotly.js within 60 s; run this cell again")), 60000);
    });
    const picks = model.get("picking") ? onPick(box, (pick) => model.send({ type: "pick", ...pick })) : null;
    const draw = () => {
      if (closed || !figure || figure === drawn || !box.clientWidth) return;
      const next = drawn = figure;
      plotly(fetchPlotly).then((Plotly) => {
        const { data, layout } = darkPage() ? atNight(next) : next;
        if (!closed && next === figure) return Plotly.react(box, data, layout, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
        return undefined;
      }).then(() => { picks?.listen(); box.dataset.drawn = Number(box.dataset.drawn || 0) + 1; }, fail);
    };
    const receive = (content, buffers) => {
      if (content.type === "plotly" && content.client === client) return deliver?.(buffers[0]);
      if (content.type === "figure") {
        figure = JSON.parse(new TextDecoder().decode(buffers[0]));
        box.style.minHeight = `${figure.layout.height || 0}px`;
        draw();
      }
      return undefined;
    };
    const sized = new ResizeObserver(draw);
    sized.observe(box);
    const themed = onTheme(() => { drawn = null; draw(); });
    label();
    model.on("change:alt", label);
    model.on("msg:custom", receive);
    model.send({ type: "figure", client });
    return () => {
      closed = true;
      sized.disconnect();
      themed.disconnect();
      picks?.disconnect();
      model.off("change:alt", label);
      model.off("msg:custom", receive);
      window.__dlstudioPlotly?.then((Plotly) => Plotly.purge(box), () => undefined);
    };
  },
};
