// What the view knows of the run, put together from the answers of the kernel. No drawing here.
// live.py joins store.js, page.js, charts.js and view.js, in this order, into one ES module.

const NAN_FLAG = 1, POSITIVE_FLAG = 2, NEGATIVE_FLAG = 4;
const CODE_ZERO = -32768, CODE_NAN = 32766, CODE_INFINITE = 32767;

// Numbers that JSON cannot hold come as text.
const asNumber = (value) => (value === null || value === undefined ? null : Number(value));

/** Arrays in an answer: a DataView is not aligned, so its bytes are copied first. */
class Packed {
  constructor(view) {
    this.buffer = view ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : new ArrayBuffer(0);
  }
  doubles(at, n) { return new Float64Array(this.buffer, at, n); }
  floats(at, n) { return new Float32Array(this.buffer, at, n); }
  ints(at, n) { return new Int32Array(this.buffer, at, n); }
  shorts(at, n) { return new Int16Array(this.buffer, at, n); }
}

function grown(array, length, Type) {
  if (array.length >= length) return array;
  const larger = new Type(Math.max(length, 2 * array.length));
  larger.set(array);
  return larger;
}

/** One generation of a curve: per bucket two places, the values there and the mean; marks of non-finite values. */
class CurveBlock {
  constructor(gen) {
    this.gen = gen;
    this.n = 0;
    this.x = new Float64Array(64);
    this.y = new Float32Array(96);
    this.bad = new Map();
  }
  write(entry, packed) {
    const { start, n, n_bad: nBad } = entry;
    const [atX, atBadX, atY, atBad] = entry.at;
    this.x = grown(this.x, 2 * (start + n), Float64Array);
    this.y = grown(this.y, 3 * (start + n), Float32Array);
    this.x.set(packed.doubles(atX, 2 * n), 2 * start);
    this.y.set(packed.floats(atY, 3 * n), 3 * start);
    const badX = packed.doubles(atBadX, nBad), bad = packed.ints(atBad, 2 * nBad);
    for (let i = 0; i < nBad; i++) this.bad.set(bad[2 * i], { x: badX[i], flags: bad[2 * i + 1] });
    this.n = start + n;
  }
}

/** One generation of the layer history: per column its steps and one code per layer. */
class LayerBlock {
  constructor(gen) {
    this.gen = gen;
    this.n = 0;
    this.steps = new Float64Array(64);
    this.codes = new Int16Array(0);
  }
  write(entry, packed) {
    const { start, n, n_rows: nRows } = entry;
    this.nRows = nRows;
    this.steps = grown(this.steps, 2 * (start + n), Float64Array);
    this.codes = grown(this.codes, nRows * (start + n), Int16Array);
    this.steps.set(packed.doubles(entry.at[0], 2 * n), 2 * start);
    this.codes.set(packed.shorts(entry.at[1], n * nRows), nRows * start);
    this.n = start + n;
  }
}

/** A series whose new generation is shown only once it is here as a whole, so that nothing flickers. */
class Series {
  constructor(Block) {
    this.Block = Block;
    this.block = new Block(-1);
    this.pending = null;
    this.version = 0;
    this.nPoints = 0;
    this.size = 1;
  }
  apply(entry, packed) {
    let target = this.block;
    if (entry.gen !== target.gen) {
      if (entry.start === 0) this.pending = new this.Block(entry.gen);
      target = this.pending;
    }
    if (!target || entry.start > target.n) throw new Error("an answer of the kernel is missing a part");
    target.write(entry, packed);
    if (entry.start + entry.n < entry.of) return false;
    if (target === this.pending) { this.block = target; this.pending = null; }
    this.nPoints = entry.n_points;
    this.size = entry.size;
    this.last = asNumber(entry.last);
    this.lastX = asNumber(entry.last_x);
    this.nNonfinite = entry.n_nonfinite || 0;
    this.version += 1;
    return true;
  }
  /** Places and values as one line through the lowest and highest point of every bucket, to the very last point. */
  line() {
    const { x, y, n } = this.block;
    if (this.size === 1) {
      return { x: Float64Array.from({ length: n }, (_, i) => x[2 * i]), y: Float64Array.from({ length: n }, (_, i) => y[3 * i]) };
    }
    const goesOn = this.lastX > x[2 * n - 1] ? 1 : 0;
    const places = new Float64Array(2 * n + goesOn), values = new Float64Array(2 * n + goesOn);
    places.set(x.subarray(0, 2 * n));
    for (let i = 0; i < n; i++) { values[2 * i] = y[3 * i]; values[2 * i + 1] = y[3 * i + 1]; }
    if (goesOn) { places[2 * n] = this.lastX; values[2 * n] = this.last; }
    return { x: places, y: values };
  }
  /** Moving average of the bucket means, without the pull towards zero at the start; gaps are passed over. */
  smooth(smoothing) {
    const { x, y, n } = this.block;
    const places = new Float64Array(n), values = new Float64Array(n);
    let total = 0, weight = 0;
    for (let i = 0; i < n; i++) {
      const mean = y[3 * i + 2];
      if (Number.isFinite(mean)) { total = smoothing * total + mean; weight = smoothing * weight + 1; }
      places[i] = (x[2 * i] + x[2 * i + 1]) / 2;
      values[i] = weight ? total / weight : NaN;
    }
    return { x: places, y: values };
  }
  /** Where values were not finite: place, and which kinds in words. */
  marks() {
    return [...this.block.bad.values()].map(({ x, flags }) => ({
      x,
      words: [[NAN_FLAG, "NaN"], [POSITIVE_FLAG, "+∞"], [NEGATIVE_FLAG, "−∞"]].filter(([bit]) => flags & bit).map(([, word]) => word).join(", "),
    }));
  }
}

/** Everything known of the run. */
class Store {
  constructor() {
    this.seq = 0;
    this.clear();
  }
  clear() {
    this.sections = {};
    this.curves = new Map();
    this.machine = new Map();
    this.layers = null;
    this.events = [];
  }
  /** Take in one answer; returns the names of what changed. */
  apply(content, packed) {
    const changed = new Set();
    if (content.reset) { this.clear(); changed.add("reset"); }
    this.seq = content.seq;
    for (const name of ["head", "run", "keys", "machine_keys", "groups", "damage", "traceback", "log"]) {
      if (name in content) { this.sections[name] = content[name]; changed.add(name); }
    }
    for (const event of content.events || []) {
      // Of checkpoints in a row only the last is of interest.
      if (event.kind === "checkpoint" && this.events.at(-1)?.kind === "checkpoint") this.events.pop();
      this.events.push(event);
      changed.add("events");
    }
    this.events = this.events.slice(-500);
    for (const entry of content.curves) {
      const family = entry.family === "machine" ? this.machine : this.curves;
      if (!family.has(entry.key)) family.set(entry.key, new Series(CurveBlock));
      if (family.get(entry.key).apply(entry, packed)) changed.add(entry.family === "machine" ? "machine" : `curve:${entry.key}`);
    }
    if (content.layers) {
      const entry = content.layers;
      if (entry.rows) {
        this.layers = new Series(LayerBlock);
        Object.assign(this.layers, { rows: entry.rows, perRow: entry.per_row, nParameters: entry.n_parameters, stat: entry.stat, group: entry.group });
      }
      if (this.layers.apply(entry, packed)) changed.add("layers");
    }
    return changed;
  }
}
