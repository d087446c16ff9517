// One plotly figure: asked of the kernel when it is shown, drawn when there is room for it. charts.js stands before it.

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
    const draw = () => {
      if (closed || !figure || figure === drawn || !box.clientWidth) return;
      const next = drawn = figure;
      plotly(fetchPlotly).then((Plotly) => {
        if (!closed && next === figure) return Plotly.react(box, next.data, next.layout, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
        return undefined;
      }).then(() => { box.dataset.drawn = Number(box.dataset.drawn || 0) + 1; }, fail);
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
    label();
    model.on("change:alt", label);
    model.on("msg:custom", receive);
    model.send({ type: "figure", client });
    return () => {
      closed = true;
      sized.disconnect();
      model.off("change:alt", label);
      model.off("msg:custom", receive);
      window.__dlstudioPlotly?.then((Plotly) => Plotly.purge(box), () => undefined);
    };
  },
};
