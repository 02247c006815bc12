/* The neuron browser: pages from data chunks, each a script that calls mmneurons(name, data).
   Texts of models and data enter the page as text nodes and attributes only, never as markup. */
(function () {
  "use strict";

  /* ------------------------------------------------------------------ data */

  const chunks = new Map();
  const waiting = new Map();

  window.mmneurons = function (name, data) {
    chunks.set(name, data);
  };

  function load(name) {
    if (chunks.has(name)) return Promise.resolve(chunks.get(name));
    if (!waiting.has(name)) {
      waiting.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = "data/" + name + ".js";
        script.onload = () => {
          script.remove();
          waiting.delete(name);
          if (chunks.has(name)) resolve(chunks.get(name));
          else reject(new Error("data/" + name + ".js holds something else"));
        };
        script.onerror = () => {
          waiting.delete(name);
          reject(new Error("data/" + name + ".js is missing"));
        };
        document.head.append(script);
      }));
    }
    return waiting.get(name);
  }

  let index = null;
  let colours = null;

  function unpack(text) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return bytes;
  }

  /* n whole numbers, of one byte each or of two; all 0 where there is no text. */
  function unpackPlaces(text, n) {
    if (!text) return new Uint8Array(n);
    const bytes = unpack(text);
    if (bytes.length === n) return bytes;
    const places = new Uint16Array(bytes.length / 2);
    for (let i = 0; i < places.length; i++) places[i] = bytes[2 * i] | (bytes[2 * i + 1] << 8);
    return places;
  }

  function colourTable(hex) {
    const table = new Uint8Array(256 * 3);
    for (let i = 0; i < table.length; i++) table[i] = parseInt(hex.substr(2 * i, 2), 16);
    return table;
  }

  function colour(value) {
    const i = 3 * Math.max(0, Math.min(255, Math.round(value)));
    return "rgb(" + colours[i] + "," + colours[i + 1] + "," + colours[i + 2] + ")";
  }

  function inkOn(value) {
    const i = 3 * Math.max(0, Math.min(255, Math.round(value)));
    const bright = 0.2126 * colours[i] + 0.7152 * colours[i + 1] + 0.0722 * colours[i + 2];
    return bright > 120 ? "#111" : "#fff";
  }

  /* ------------------------------------------------------- building a page */

  const SVG = "http://www.w3.org/2000/svg";

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "style") Object.assign(node.style, value);
      else node.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return node;
  }

  function put(node, ...children) {
    node.replaceChildren();
    return fill(node, null, children);
  }

  const el = (tag, attributes, ...children) =>
    fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) =>
    fill(document.createElementNS(SVG, tag), attributes, children);

  function number(value, digits) {
    if (value === null || value === undefined) return "–";
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const size = Math.abs(value);
    if (digits === undefined) return size && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : Number(value.toPrecision(3)).toString();
    return value.toFixed(digits);
  }

  const percent = (value) =>
    value === null || value === undefined ? "–" : (value < 0.1 ? String(Number((100 * value).toPrecision(2))) : (100 * value).toFixed(0)) + " %";

  const plural = (n, one, more) => number(n) + " " + (n === 1 ? one : more || one + "s");

  function say(text) {
    document.getElementById("said").textContent = text;
  }

  /* A token as it can be seen: the tokenizer's mark for a space kept, white space spelt out. */
  function visible(token) {
    if (token.trim()) return token;
    return Array.from(token, (c) => (c === " " ? "␣" : c === "\n" ? "\\n" : c === "\t" ? "\\t" : c)).join("") || "(empty)";
  }

  function tokenList(tokens, most) {
    if (!tokens) return el("span", { class: "faint" }, "not decoded");
    return el("span", { class: "tokens" }, tokens.slice(0, most).map((t) => el("span", { class: "token" }, visible(t))));
  }

  const methodDot = (m) => el("span", { class: "dot", style: { background: index.methods[m].colour } });

  const noteOf = (m) => (index.methods[m].note ? index.methods[m].label + ": " + index.methods[m].note : index.methods[m].label);

  function methodLabel(m) {
    return el("span", { class: "method", title: noteOf(m) }, methodDot(m), index.methods[m].label);
  }

  function methodShort(m) {
    return el("span", { class: "method", title: noteOf(m) }, methodDot(m), index.methods[m].short);
  }

  function select(label, options, value, change) {
    const box = el("select", { onchange: () => change(box.value) },
      options.map(([key, text]) => el("option", { value: key }, text)));
    box.value = value;
    if (box.selectedIndex < 0) box.selectedIndex = 0;
    return field(label, box);
  }

  let fields = 0;

  function field(label, box, ...more) {
    if (!box.id) box.id = "field" + ++fields;
    return el("div", { class: "field" }, el("label", { for: box.id }, label), box, more);
  }

  function choice(label, name, options, value, change) {
    return el("fieldset", { class: "choice" }, el("legend", { class: "unseen" }, label),
      options.map(([key, text]) => el("label", null,
        el("input", { type: "radio", name: name, value: key, checked: key === value, onchange: () => change(key) }),
        el("span", null, text))));
  }

  function table(heads, rows, caption) {
    return el("div", { class: "scroll" }, el("table", null,
      caption && el("caption", null, caption),
      el("thead", null, el("tr", null, heads.map((h) => el("th", { scope: "col" }, h)))),
      el("tbody", null, rows.map((row) => el("tr", null, row.map((cell) =>
        el("td", typeof cell === "string" && /^[–\d.,e+-]+( %)?$/.test(cell) ? { class: "n" } : null, cell)))))));
  }

  function legend(low, high, what) {
    const stops = [];
    for (let i = 0; i <= 8; i++) stops.push(colour((255 * i) / 8));
    return el("div", { class: "legend" },
      el("span", null, number(low)),
      el("span", { class: "ramp", style: { background: "linear-gradient(90deg," + stops.join(",") + ")" } }),
      el("span", null, number(high)), el("span", { class: "faint" }, what));
  }

  /* --------------------------------------------------------------- heatmaps */

  /* Bilinear between the centres of the patches, constant beyond the outermost ones. */
  function enlarged(bytes, grid, width, height) {
    const [rows, columns] = grid;
    const out = new Float32Array(width * height);
    for (let y = 0; y < height; y++) {
      const fy = Math.max(0, Math.min(rows - 1, ((y + 0.5) * rows) / height - 0.5));
      const y0 = Math.floor(fy), y1 = Math.min(rows - 1, y0 + 1), wy = fy - y0;
      for (let x = 0; x < width; x++) {
        const fx = Math.max(0, Math.min(columns - 1, ((x + 0.5) * columns) / width - 0.5));
        const x0 = Math.floor(fx), x1 = Math.min(columns - 1, x0 + 1), wx = fx - x0;
        const top = bytes[y0 * columns + x0] * (1 - wx) + bytes[y0 * columns + x1] * wx;
        const low = bytes[y1 * columns + x0] * (1 - wx) + bytes[y1 * columns + x1] * wx;
        out[y * width + x] = top * (1 - wy) + low * wy;
      }
    }
    return out;
  }

  function percentile(values, share) {
    const sorted = Float32Array.from(values).sort();
    const at = share * (sorted.length - 1), low = Math.floor(at);
    return sorted[low] + (at - low) * (sorted[Math.min(sorted.length - 1, low + 1)] - sorted[low]);
  }

  function paint(canvas, bytes, grid, mode) {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (mode === "picture" || !bytes) return;
    const values = enlarged(bytes, grid, canvas.width, canvas.height);
    const image = context.createImageData(canvas.width, canvas.height);
    const bar = mode === "mask" ? percentile(values, 0.95) : 0;
    for (let i = 0; i < values.length; i++) {
      if (mode === "mask") {
        image.data[4 * i + 3] = values[i] > bar ? 0 : 205;
      } else {
        const c = 3 * Math.round(values[i]);
        image.data[4 * i] = colours[c];
        image.data[4 * i + 1] = colours[c + 1];
        image.data[4 * i + 2] = colours[c + 2];
        image.data[4 * i + 3] = 158;
      }
    }
    context.putImageData(image, 0, 0);
  }

  /* A picture with a layer for its map; draw(bytes, grid, mode) paints that. */
  function picture(file, alt, side) {
    const image = el("img", { src: file, alt: alt, loading: "lazy", decoding: "async" });
    const canvas = el("canvas", { class: "over", "aria-hidden": "true" });
    const frame = el("div", { class: "frame" }, image, canvas);
    let latest = null;
    function draw() {
      if (!latest || !image.naturalWidth) return;
      const scale = side / Math.max(image.naturalWidth, image.naturalHeight);
      canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
      canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
      const [bytes, grid, mode] = latest;
      const shown = bytes ? mode : "picture";
      frame.dataset.mode = shown;
      paint(canvas, bytes, grid, shown);
    }
    image.addEventListener("load", draw);
    return { frame, image, draw: (bytes, grid, mode) => { latest = [bytes, grid, mode]; draw(); } };
  }

  const MODES = [["picture", "Picture"], ["heatmap", "Heatmap"], ["mask", "Mask"]];
  let mode = "heatmap";

  function modeChoice(change) {
    return choice("What is shown", "mode", MODES, mode, (key) => setMode(key, change));
  }

  function setMode(key, change) {
    mode = key;
    for (const box of document.querySelectorAll("input[name=mode]")) box.checked = box.value === key;
    rememberMode();
    change();
  }

  /* The heatmap is what an address without a word about it shows. */
  const rememberMode = () => remember({ show: mode === "heatmap" ? "" : mode });

  function takeMode(query) {
    if (MODES.some(([key]) => key === query.get("show"))) mode = query.get("show");
  }

  /* Values of a stored map by patch, for the CSV; a byte was kept of each. */
  function patchValues(text, grid, low, high) {
    return Array.from(unpack(text), (byte, i) => ({ patch_row: Math.floor(i / grid[1]) + 1, patch_column: (i % grid[1]) + 1, value: Number((low + ((high - low) * byte) / 255).toPrecision(5)) }));
  }

  /* ------------------------------------------------------------------ links */

  const link = (path, parameters) => {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(parameters || {})) if (value !== "" && value !== null && value !== undefined) query.set(key, value);
    const text = query.toString();
    return "#/" + path.map(encodeURIComponent).join("/") + (text ? "?" + text : "");
  };

  function route() {
    const text = location.hash.replace(/^#\/?/, "");
    const cut = text.indexOf("?");
    const path = (cut < 0 ? text : text.slice(0, cut)).split("/").filter(Boolean).map((part) => {
      try { return decodeURIComponent(part); } catch (error) { return part; }
    });
    return { path: path, query: new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1)) };
  }

  /* Puts what was chosen on the page that is shown into its address. */
  function remember(values) {
    const { path, query } = route();
    history.replaceState(null, "", link(path, Object.assign(Object.fromEntries(query), values)));
  }

  /* What an address asks for and this run does not have; all is shown instead. */
  function strangers(list) {
    return list.length ? el("p", { class: "note" }, "This run has no " + list.join(" and no ") + "; shown is what there is without that choice.") : null;
  }

  const modelAt = (name) => index.models.findIndex((m) => m.name === name);

  function neuronName(model, where) {
    return index.models[model].modules[where[0]].name + "/L" + where[1] + ".U" + where[2];
  }

  function neuronLink(model, where) {
    const m = index.models[model];
    return link(["neuron", m.name, m.modules[where[0]].name, "L" + where[1] + ".U" + where[2]]);
  }

  /* ------------------------------------------------- rows of all the models */

  const rowsOf = (model) => load("rows" + model);

  function whereOf(rows, neuron) {
    const n = rows.neurons;
    return [n.module[neuron], n.layer[neuron], n.unit[neuron]];
  }

  const placesOf = new Map();

  /* Number of a neuron by its place, as text. */
  async function placeOf(model, where) {
    const rows = await rowsOf(model);
    if (!placesOf.has(model)) {
      const found = new Map();
      for (let i = 0; i < rows.neurons.unit.length; i++) found.set(whereOf(rows, i).join("."), i);
      placesOf.set(model, found);
    }
    const place = placesOf.get(model).get(where.join("."));
    return place === undefined ? -1 : place;
  }

  /* One table of all rows, in columns, with the texts in lower case that filters look at. */
  const tables = new Map();

  async function joinedRows(model) {
    const key = String(model);
    if (tables.has(key)) return tables.get(key);
    const numbers = model < 0 ? index.models.map((_, i) => i) : [model];
    const parts = await Promise.all(numbers.map(rowsOf));
    const size = parts.reduce((sum, part) => sum + part.neuron.length, 0);
    const out = {
      size: size, model: new Uint8Array(size), neuron: new Uint32Array(size), local: new Uint32Array(size),
      method: new Uint16Array(size), group: new Uint32Array(size), layer: new Uint16Array(size),
      rank: new Float64Array(size), score: new Float64Array(size), samples: new Uint32Array(size),
      groups: [], groupsLow: [], tokens: [], tokensLow: [], wheres: [], orders: new Map(),
    };
    const groupAt = new Map();
    let at = 0;
    parts.forEach((part, k) => {
      const first = out.tokens.length;
      part.neurons.unit.forEach((_, i) => {
        const texts = part.neurons.tokens[i];
        out.tokens.push(texts);
        out.tokensLow.push(texts ? texts.join("\n").toLowerCase() : "");
        out.wheres.push(whereOf(part, i));
      });
      const groups = part.groups.map((name) => {
        if (!groupAt.has(name)) {
          groupAt.set(name, out.groups.length);
          out.groups.push(name);
          out.groupsLow.push(name.toLowerCase());
        }
        return groupAt.get(name);
      });
      for (let i = 0; i < part.neuron.length; i++, at++) {
        out.model[at] = numbers[k];
        out.local[at] = part.neuron[i];
        out.neuron[at] = first + part.neuron[i];
        out.method[at] = part.method[i];
        out.group[at] = groups[part.group[i]];
        out.layer[at] = part.neurons.layer[part.neuron[i]];
        out.rank[at] = part.rank[i] === null ? Infinity : part.rank[i];
        out.score[at] = part.score[i] === null ? NaN : part.score[i];
        out.samples[at] = part.samples[i];
      }
    });
    tables.set(key, out);
    return out;
  }

  /* All rows in the order of a column; kept, so that a filter only walks through it. */
  function ordered(rows, sort, down) {
    const key = sort + (down ? "-" : "+");
    if (rows.orders.has(key)) return rows.orders.get(key);
    const order = new Uint32Array(rows.size);
    for (let i = 0; i < order.length; i++) order[i] = i;
    const sign = down ? -1 : 1;
    const byText = (list) => {
      const places = new Uint32Array(list.length);
      list.map((text, i) => [text, i]).sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : a[1] - b[1])).forEach((pair, place) => { places[pair[1]] = place; });
      return places;
    };
    let value;
    if (sort === "neuron") value = (i) => rows.neuron[i];
    else if (sort === "group") { const places = byText(rows.groupsLow); value = (i) => places[rows.group[i]]; }
    else if (sort === "tokens") { const places = byText(rows.tokensLow); value = (i) => places[rows.neuron[i]]; }
    else value = (i) => rows[sort][i];
    const values = new Float64Array(rows.size);
    for (let i = 0; i < values.length; i++) {
      const v = value(i);
      values[i] = Number.isFinite(v) ? v * sign : Infinity; // what has no value comes last
    }
    order.sort((a, b) => (values[a] < values[b] ? -1 : values[a] > values[b] ? 1 : rows.rank[a] < rows.rank[b] ? -1 : rows.rank[a] > rows.rank[b] ? 1 : a - b));
    rows.orders.set(key, order);
    return order;
  }

  function filtered(rows, f) {
    const order = ordered(rows, f.sort, f.down);
    const token = f.token.toLowerCase(), group = f.group.toLowerCase();
    const exact = group && rows.groupsLow.includes(group);
    const tokenFits = token ? Uint8Array.from(rows.tokensLow, (text) => (text.includes(token) ? 1 : 0)) : null;
    const groupFits = group ? Uint8Array.from(rows.groupsLow, (text) => ((exact ? text === group : text.includes(group)) ? 1 : 0)) : null;
    const method = f.method === "" ? -1 : index.methods.findIndex((m) => m.key === f.method);
    const layer = f.layer === "" ? -1 : Number(f.layer);
    const out = new Uint32Array(rows.size);
    let n = 0;
    for (let k = 0; k < order.length; k++) {
      const i = order[k];
      if (method >= 0 && rows.method[i] !== method) continue;
      if (layer >= 0 && rows.layer[i] !== layer) continue;
      if (groupFits && !groupFits[rows.group[i]]) continue;
      if (tokenFits && !tokenFits[rows.neuron[i]]) continue;
      if (f.module !== "" && index.models[rows.model[i]].modules[rows.wheres[rows.neuron[i]][0]].name !== f.module) continue;
      out[n++] = i;
    }
    return out.subarray(0, n);
  }

  /* ------------------------------------------------------------------ pages */

  let page = {}; // what the keyboard and the CSV button do on the page that is shown
  let turn = 0;
  let slashed = false; // whether the page that is asked for is to begin with its search
  let trail = null; // neurons in the order of the table that was looked at last

  const pages = { "": overview, table: tablePage, model: modelPage, neuron: neuronPage, pictures: picturesPage, picture: picturePage, compare: comparePage, "left-out": leftOutPage };

  async function show() {
    const mine = ++turn;
    const { path, query } = route();
    const main = document.getElementById("main");
    const name = path[0] || "";
    const next = {};
    let content;
    try {
      if (!Object.hasOwn(pages, name)) throw new Error("There is no such page.");
      content = await pages[name](path.slice(1), query, next);
    } catch (error) {
      content = el("section", { class: "card" }, el("h1", null, "Not here"), el("p", null, error.message), el("p", null, el("a", { href: "#/" }, "Back to the overview")));
      next.title = "Not here";
    }
    if (mine !== turn) return; // another page was asked for meanwhile
    page = next;
    document.title = (next.title ? next.title + " – " : "") + "Neuron browser";
    put(main, content);
    main.dataset.page = name;
    document.getElementById("csv").disabled = !next.csv;
    for (const a of document.querySelectorAll("#nav a")) {
      const own = a.getAttribute("href").replace(/^#\/?/, "");
      const here = own === name || (own === "table" && name === "neuron") || (own === "pictures" && name === "picture") || (own === "" && name === "model");
      if (here) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
    }
    if (next.shown) next.shown();
    window.scrollTo(0, 0);
    main.focus({ preventScroll: true });
    if (slashed && next.slash) next.slash();
    slashed = false;
    main.dataset.ready = String(mine);
  }

  function head(title, ...more) {
    return el("div", { class: "head" }, el("h1", null, title), more);
  }

  /* -- overview */

  function bars(values, inert, hue, label, ends) {
    const most = Math.max(1, ...values), width = 168, height = 34, step = width / values.length;
    return svg("svg", { viewBox: "0 0 " + width + " " + (height + 2), class: "bars", role: "img", "aria-label": label },
      values.map((v, i) => svg("rect", { x: (i * step + step * 0.1).toFixed(2), width: (step * 0.8).toFixed(2), y: (height - (height * v) / most).toFixed(2), height: ((height * v) / most).toFixed(2), fill: hue, opacity: inert.includes(i) ? 0.35 : 1 }, svg("title", null, ends(i, v)))),
      svg("rect", { x: 0, y: height, width: width, height: 1, class: "axis" }));
  }

  function layerBars(model, key, module) {
    const m = index.models[model];
    const of = m.modules.find((own) => own.name === module);
    const values = (m.layers[key] || {})[module] || [];
    const at = index.methods.findIndex((own) => own.key === key);
    const most = values.indexOf(Math.max(...values));
    const label = index.methods[at].label + ": neurons in each layer of " + module + "; most, " + number(values[most]) + ", in layer " + most;
    return bars(values, of.inert, index.methods[at].colour, label, (i, v) => "layer " + i + ": " + plural(v, "neuron") + (of.inert.includes(i) ? " (reaches no output)" : ""));
  }

  const unitsOf = (m) => m.modules.reduce((sum, own) => sum + own.units.reduce((a, b) => a + b, 0), 0);

  /* Neurons in each layer for the CSV, by method and module. */
  function layerRows(m, keys) {
    return keys.flatMap((key) => Object.entries(m.layers[key] || {}).flatMap(([module, counts]) => counts.map((n, layer) => (
      { model: m.label, kind: "layer", method: key, module: module, layer: layer, neurons: n, units: m.modules.find((own) => own.name === module).units[layer] }))));
  }

  function overview(path, query, next) {
    next.title = "";
    next.csv = () => sheet(["model", "kind", "paper", "data", "method", "module", "layer", "neurons", "with_a_page", "units", "rows"], index.models.flatMap((m) => [
      { model: m.label, kind: "model", paper: m.papers.map((p) => index.papers[p]).join("; "), data: m.data.join("; "), neurons: m.found, with_a_page: m.neurons, units: unitsOf(m), rows: m.rows },
      ...layerRows(m, Object.keys(m.layers))]));
    const cards = index.models.map((m, i) => {
      const keys = Object.keys(m.layers).filter((key) => index.methods.find((own) => own.key === key).ranked);
      const drawn = [];
      for (const key of keys) for (const [module, values] of Object.entries(m.layers[key])) if (values.some((v) => v > 0)) drawn.push([key, module]);
      return el("section", { class: "card model" },
        el("h2", null, el("a", { href: link(["model", m.name]) }, m.label.split(" (")[0])),
        el("p", { class: "faint" }, m.label.includes(" (") ? m.label.slice(m.label.indexOf("(")) : ""),
        el("p", { class: "facts" }, m.papers.map((p) => el("span", { class: "tag" }, index.papers[p]))),
        el("dl", { class: "numbers" },
          el("div", null, el("dt", null, "neurons found"), el("dd", null, number(m.found))),
          el("div", null, el("dt", null, "with a page"), el("dd", null, number(m.neurons))),
          el("div", null, el("dt", null, "units in all"), el("dd", null, number(unitsOf(m))))),
        el("div", { class: "profiles" }, drawn.slice(0, 4).map(([key, module]) => el("figure", null, layerBars(i, key, module),
          el("figcaption", null, methodLabel(index.methods.findIndex((own) => own.key === key)), module === "language" ? "" : ", " + module)))),
        el("p", { class: "links" }, el("a", { href: link(["model", m.name]) }, "Map of layers and units"), el("a", { href: link(["table"], { model: m.name }) }, "Its neurons")));
    });
    return [
      head("Neurons of the run “" + index.run + "”",
        el("p", { class: "lead" }, "Which neurons carry a concept, an object or a domain through a multimodal model, where on pictures they are active, which words they raise, and what happens when they are changed. Each effect stands beside that of random neurons.")),
      index.notes.map((note) => el("p", { class: "note" }, note)),
      el("div", { class: "cards" }, cards),
      el("section", { class: "card" }, el("h2", null, "How to read it"),
        el("ul", null,
          el("li", null, "A neuron is one unit of a feed-forward layer, written language/L21.U3432; layers and units count from 0."),
          el("li", null, "Rank 1 is a sample's best neuron. Rows of the table have a rank of at most " + index.best + "; of random neurons, drawn as a control, there is none."),
          el("li", null, "Of each model the neurons of which most was recorded, maps and effects, have a page; then come those of the best ranks. Bars: neurons in each layer, each counted once a sample; pale ones are in layers that reach no output."),
          el("li", null, "What was not recorded is said where it would stand.")))];
  }

  /* -- map of a model */

  async function modelPage(path, query, next) {
    const model = modelAt(path[0]);
    if (model < 0) throw new Error("This run has no model of that name.");
    const m = index.models[model];
    const all = await load("units" + model);
    const keys = Object.keys(all).filter((key) => all[key].units.length);
    const asked = query.get("method");
    const key = keys.includes(asked) ? asked : keys[0] || "";
    const here = key ? all[key] : { units: [], n: 0 };
    next.title = m.label;
    next.csv = () => sheet(["model", "kind", "method", "module", "layer", "unit", "samples", "neurons", "units"], [
      ...here.units.map(([mod, layer, unit, n]) => ({ model: m.label, kind: "unit", method: key, module: m.modules[mod].name, layer: layer, unit: unit, samples: n })),
      ...layerRows(m, [key])]);
    const at = index.methods.findIndex((own) => own.key === key);
    const most = Math.max(1, ...here.units.map((u) => u[3]));
    const counted = at < 0 ? "samples" : index.methods[at].counted;
    const readout = el("p", { class: "readout", "aria-live": "polite" }, "Point at a unit, or move over the map with the arrow keys; a click or Enter opens its page.");
    const maps = m.modules.map((module, number_) => unitMap(model, number_, here.units.filter((u) => u[0] === number_), most, readout, counted));
    const rows = [];
    m.modules.forEach((module) => module.units.forEach((units, layer) => {
      const found = ((m.layers[key] || {})[module.name] || [])[layer] || 0;
      if (found) rows.push([module.name, el("a", { href: link(["table"], { model: m.name, method: key, layer: layer, module: module.name }) }, "layer " + layer), number(units), number(found), module.inert.includes(layer) ? "reaches no output" : ""]);
    }));
    return [
      el("p", { class: "crumb" }, el("a", { href: "#/" }, "Overview"), " / ", m.label.split(" (")[0]),
      head(m.label, el("p", { class: "lead" }, "Every layer and unit. Coloured are the units that the method finds, by the number of " + counted + " in which they are among its " + index.best + " best.")),
      strangers(asked && asked !== key ? ["method “" + asked + "” for this model"] : []),
      el("div", { class: "row" },
        select("Method", keys.map((k) => [k, index.methods.find((own) => own.key === k).label]), key, (value) => go(link(["model", m.name], { method: value }))),
        legend(1, most, counted),
        el("a", { class: "button", href: link(["table"], { model: m.name, method: key }) }, "These in the table")),
      at >= 0 && index.methods[at].note ? el("p", { class: "faint" }, index.methods[at].note + ".") : null,
      here.n > here.units.length ? el("p", { class: "note" }, "Shown are the " + number(here.units.length) + " units of most samples, of " + number(here.n) + ".") : null,
      el("section", { class: "card" }, maps, readout),
      el("section", { class: "card" }, el("h2", null, "By layer"), rows.length ? table(["module", "layer", "units", "neurons found", ""], rows) : el("p", null, "This method found no neuron."))];
  }

  function unitMap(model, module, units, most, readout, counted) {
    const own = index.models[model].modules[module];
    const columns = Math.max(1, ...own.units), layers = own.units.length;
    const bins = Math.min(columns, 1536);
    const height = Math.max(8, Math.min(22, Math.round(240 / layers)));
    const cells = new Map();
    for (const [, layer, unit, n] of units) {
      const bin = Math.floor((unit * bins) / columns);
      const id = layer * bins + bin;
      const old = cells.get(id);
      if (!old || old[1] < n) cells.set(id, [unit, n]);
    }
    const canvas = el("canvas", { width: bins, height: layers * height, class: "units", style: { height: layers * height + "px" }, tabindex: 0, role: "img",
      "aria-label": own.name + ": " + plural(layers, "layer") + " of " + number(columns) + " units; " + plural(units.length, "unit") + " found" });
    const context = canvas.getContext("2d");
    const look = getComputedStyle(document.documentElement);
    context.fillStyle = look.getPropertyValue("--empty").trim() || "#eee";
    for (let layer = 0; layer < layers; layer++) context.fillRect(0, layer * height, Math.ceil((own.units[layer] * bins) / columns), height - 1);
    const wide = Math.max(1, Math.ceil(bins / 480));
    for (const [id, [, n]] of [...cells].sort((a, b) => a[1][1] - b[1][1])) {
      context.fillStyle = colour((255 * n) / most);
      context.fillRect(id % bins, Math.floor(id / bins) * height, wide, height - 1);
    }
    const found = [...cells].sort((a, b) => a[0] - b[0]);
    let cursor = -1;
    async function tell(id) {
      const cell = cells.get(id);
      if (!cell) return;
      const where = [module, Math.floor(id / bins), cell[0]];
      const place = await placeOf(model, where);
      const rows = await rowsOf(model);
      const tokens = place >= 0 ? rows.neurons.tokens[place] : null;
      put(readout,
        place >= 0 ? el("a", { href: neuronLink(model, where) }, neuronName(model, where)) : neuronName(model, where) + " (no page)",
        " in " + plural(cell[1], counted.slice(0, -1)) + " ", tokens ? tokenList(tokens, 5) : "");
      return place >= 0 ? neuronLink(model, where) : null;
    }
    function nearest(event) {
      const box = canvas.getBoundingClientRect();
      const x = Math.floor(((event.clientX - box.left) / box.width) * bins);
      const layer = Math.floor(((event.clientY - box.top) / box.height) * layers);
      const reach = Math.ceil((6 * bins) / box.width);
      for (let away = 0; away <= reach; away++) for (const sign of [-1, 1]) {
        const id = layer * bins + x + sign * away;
        if (x + sign * away >= 0 && x + sign * away < bins && cells.has(id)) return id;
      }
      return -1;
    }
    canvas.addEventListener("mousemove", (event) => { const id = nearest(event); canvas.style.cursor = id >= 0 ? "pointer" : ""; if (id >= 0) tell(id); });
    canvas.addEventListener("click", async (event) => { const id = nearest(event); if (id >= 0) { const to = await tell(id); if (to) go(to); } });
    canvas.addEventListener("keydown", async (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && found.length) {
        event.preventDefault();
        cursor = (cursor + step + found.length) % found.length;
        tell(found[cursor][0]);
      } else if (event.key === "Enter" && cursor >= 0) { const to = await tell(found[cursor][0]); if (to) go(to); }
    });
    return el("figure", { class: "map" }, el("figcaption", null, own.name, el("span", { class: "faint" }, " layers 0 to " + (layers - 1) + " from top to bottom, units from left to right")), canvas);
  }

  /* -- table of neurons */

  const COLUMNS = [["neuron", "Neuron"], ["method", "Method"], ["group", "Concept, object or domain"], ["rank", "Best rank"], ["samples", "Samples"], ["score", "Mean score"], ["tokens", "Decoded tokens"]];
  const ROW = 38;

  async function tablePage(path, query, next) {
    const f = { model: query.get("model") || "", method: query.get("method") || "", module: query.get("module") || "", group: query.get("group") || "", layer: query.get("layer") || "", token: query.get("token") || "", sort: query.get("sort") || "rank", down: query.get("down") === "1" };
    const model = f.model ? modelAt(f.model) : -1;
    if (f.model && model < 0) throw new Error("This run has no model of that name.");
    const rows = await joinedRows(model);
    let found = new Uint32Array(0), marked = 0;
    next.title = "Neurons";
    const models = index.models.filter((m, i) => model < 0 || i === model);
    const methods = index.methods.filter((own) => models.some((m) => m.layers[own.key]));
    const modules = [...new Set(models.flatMap((m) => m.modules.map((own) => own.name)))];
    const deepest = Math.max(...models.flatMap((m) => m.modules.map((own) => own.units.length)));
    const strange = [];
    const check = (key, known, instead, what) => {
      if (f[key] === instead || known.includes(f[key])) return;
      strange.push(what + " “" + f[key] + "”");
      f[key] = instead;
    };
    check("method", methods.map((own) => own.key), "", "method");
    check("module", modules, "", "module");
    check("layer", Array.from({ length: deepest }, (_, i) => String(i)), "", "layer");
    check("sort", COLUMNS.map((c) => c[0]), "rank", "column");
    const count = el("p", { class: "count", role: "status" });
    const body = el("tbody");
    const heads = COLUMNS.map(([key, label]) => el("th", { scope: "col", class: "c-" + key, "aria-sort": "none" }, el("button", { type: "button", onclick: () => { f.down = f.sort === key ? !f.down : false; f.sort = key; apply(); } }, label)));
    const scroller = el("div", { class: "rows", tabindex: 0, role: "region", "aria-label": "Neurons; j and k move, Enter opens" },
      el("table", { class: "neurons", "aria-rowcount": 0 }, el("thead", null, el("tr", null, heads)), body));

    function line(k) {
      const i = found[k], m = rows.model[i], where = rows.wheres[rows.neuron[i]];
      const rank = rows.rank[i];
      return el("tr", { "aria-rowindex": k + 2, class: k === marked ? "marked" : null, onclick: (event) => { marked = k; if (!event.target.closest("a")) open(k); } },
        el("td", { class: "c-neuron" }, el("a", { href: neuronLink(m, where) }, neuronName(m, where)), model < 0 && index.models.length > 1 ? el("span", { class: "of" }, index.models[m].label.split(" (")[0]) : null),
        el("td", { class: "c-method" }, methodShort(rows.method[i])),
        el("td", { class: "c-group" }, rows.groups[rows.group[i]]),
        el("td", { class: "c-rank n" }, Number.isFinite(rank) ? number(rank) : "drawn"),
        el("td", { class: "c-samples n" }, number(rows.samples[i])),
        el("td", { class: "c-score n" }, number(Number.isNaN(rows.score[i]) ? null : rows.score[i])),
        el("td", { class: "c-tokens" }, tokenList(rows.tokens[rows.neuron[i]], 5)));
    }
    let first = -1, last = -1;
    function draw(force) {
      const from = Math.max(0, Math.floor(scroller.scrollTop / ROW) - 8);
      const to = Math.min(found.length, from + Math.ceil((scroller.clientHeight || 640) / ROW) + 16);
      if (!force && from === first && to === last) return;
      first = from; last = to;
      const gap = (n) => el("tr", { class: "gap", "aria-hidden": "true" }, el("td", { colspan: COLUMNS.length, style: { height: n * ROW + "px" } }));
      const lines = [];
      if (from) lines.push(gap(from));
      for (let k = from; k < to; k++) lines.push(line(k));
      if (to < found.length) lines.push(gap(found.length - to));
      body.replaceChildren(...lines);
    }
    function apply(quiet) {
      const start = performance.now();
      found = filtered(rows, f);
      marked = 0;
      scroller.scrollTop = 0;
      draw(true);
      const took = performance.now() - start;
      count.textContent = number(found.length) + " of " + plural(rows.size, "row");
      count.dataset.ms = took.toFixed(2);
      count.dataset.found = found.length;
      scroller.firstChild.setAttribute("aria-rowcount", found.length + 1);
      heads.forEach((th, i) => th.setAttribute("aria-sort", COLUMNS[i][0] !== f.sort ? "none" : f.down ? "descending" : "ascending"));
      const seen = new Set();
      trail = () => { // only when asked: next and previous on a neuron's page
        const list = [];
        for (const i of found) {
          const name = rows.model[i] + "." + rows.local[i];
          if (!seen.has(name)) { seen.add(name); list.push([rows.model[i], rows.local[i]]); }
        }
        trail = () => list;
        return list;
      };
      if (!quiet) history.replaceState(null, "", link(["table"], { model: f.model, method: f.method, module: f.module, group: f.group, layer: f.layer, token: f.token, sort: f.sort === "rank" ? "" : f.sort, down: f.down ? "1" : "" }));
    }
    function open(k) {
      if (k < found.length) go(neuronLink(rows.model[found[k]], rows.wheres[rows.neuron[found[k]]]));
    }
    function move(step) {
      if (!found.length) return;
      marked = Math.max(0, Math.min(found.length - 1, marked + step));
      const top = marked * ROW, visibleHeight = scroller.clientHeight - ROW;
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      if (top + ROW > scroller.scrollTop + visibleHeight) scroller.scrollTop = top + ROW - visibleHeight;
      draw(true);
      const i = found[marked];
      say(neuronName(rows.model[i], rows.wheres[rows.neuron[i]]) + ", " + rows.groups[rows.group[i]]);
    }
    scroller.addEventListener("scroll", () => draw(false), { passive: true });
    const typed = (key, label, list) => {
      const box = el("input", { type: "search", value: f[key], placeholder: "any", list: list ? "list-" + key : null, autocomplete: "off", spellcheck: "false", oninput: () => { f[key] = box.value.trim(); apply(); } });
      if (key === "token") box.id = "token";
      return field(label, box, list ? el("datalist", { id: "list-" + key }, list.map((text) => el("option", { value: text }))) : null);
    };
    next.csv = () => [["model", "neuron", "module", "layer", "unit", "method", "group", "best_rank", "samples", "mean_score", "tokens"],
      ...Array.from(found, (i) => {
        const m = rows.model[i], where = rows.wheres[rows.neuron[i]];
        return [index.models[m].label, neuronName(m, where), index.models[m].modules[where[0]].name, where[1], where[2], index.methods[rows.method[i]].key, rows.groups[rows.group[i]], Number.isFinite(rows.rank[i]) ? rows.rank[i] : "", rows.samples[i], Number.isNaN(rows.score[i]) ? "" : rows.score[i], rows.tokens[rows.neuron[i]] ? JSON.stringify(rows.tokens[rows.neuron[i]]) : ""];
      })];
    next.move = move;
    next.enter = () => open(marked);
    next.shown = () => apply(true);
    next.slash = () => document.getElementById("token").focus();
    const setModel = (value) => go(link(["table"], Object.assign({}, { method: "", group: f.group, token: f.token, sort: f.sort === "rank" ? "" : f.sort, down: f.down ? "1" : "" }, { model: value })));
    return [
      head("Neurons", el("p", { class: "lead" }, "A row is a neuron that a method finds for a concept, an object or a domain.")),
      strangers(strange),
      el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
        select("Model", [["", "all"], ...index.models.map((m) => [m.name, m.label.split(" (")[0]])], f.model, setModel),
        select("Method", [["", "all"], ...methods.map((own) => [own.key, own.label])], f.method, (v) => { f.method = v; apply(); }),
        modules.length > 1 ? select("Module", [["", "all"], ...modules.map((name) => [name, name])], f.module, (v) => { f.module = v; apply(); }) : null,
        select("Layer", [["", "all"], ...Array.from({ length: deepest }, (_, i) => [String(i), String(i)])], f.layer, (v) => { f.layer = v; apply(); }),
        typed("group", "Concept, object or domain", rows.groups.slice().sort()),
        typed("token", "Token"),
        count),
      scroller];
  }

  /* -- a neuron */

  async function neuronPage(path, query, next) {
    const model = modelAt(path[0]);
    const place = /^L(\d+)\.U(\d+)$/.exec(path[2] || "");
    if (model < 0 || !place) throw new Error("This run has no neuron of that name.");
    const m = index.models[model];
    const where = [m.modules.findIndex((own) => own.name === path[1]), Number(place[1]), Number(place[2])];
    const local = where[0] < 0 ? -1 : await placeOf(model, where);
    if (local < 0) throw new Error("This neuron has no page: of each model the neurons of which most was recorded have one, then those of the best ranks.");
    const [rows, chunk] = await Promise.all([rowsOf(model), load("neurons" + model + "-" + Math.floor(local / m.chunk))]);
    const own = chunk[local % m.chunk];
    takeMode(query);
    const name = path[1] + "/" + path[2];
    next.title = name;

    let list = trail ? trail() : null;
    let at = list ? list.findIndex(([a, b]) => a === model && b === local) : -1;
    if (at < 0) { list = rows.neurons.unit.map((_, i) => [model, i]); at = local; }
    const where_ = trail && at >= 0 && list !== null && list.length !== rows.neurons.unit.length ? "in the table" : "in the list";
    const to = async (step) => {
      const [a, b] = list[(at + step + list.length) % list.length];
      go(neuronLink(a, whereOf(await rowsOf(a), b)));
    };
    next.move = to;

    const inert = m.modules[where[0]].inert.includes(where[1]);
    const draws = [];
    const parts = own.parts.map((part) => activePart(m, part, draws));
    const mapped = parts.some((part) => part.maps);
    const redraw = () => draws.forEach((draw) => draw());
    next.mode = (key) => setMode(key, redraw);
    next.shown = () => { if (mapped) rememberMode(); redraw(); };
    next.csv = () => sheet(["model", "neuron", "kind", "method", "group", "what", "value", "score", "n", "random_control", "n_random", "picture", "patch_row", "patch_column"], [
      ...own.ranks.map((r) => ({ kind: "rank", method: index.methods[r[0]].key, group: r[2], what: "best rank", value: r[1], score: r[6], n: r[4] })),
      ...own.effects.map((e) => ({ kind: "effect", method: index.methods[e[0]].key, group: e[1], what: e[2], value: e[3], n: e[4], random_control: e[5], n_random: e[6] })),
      ...own.parts.flatMap((part) => [
        ...part.shares.map((s) => ({ kind: "share of tokens", group: s[0], what: s[2], value: s[1] })),
        ...part.pictures.map((tile) => ({ kind: "most active", group: tile.group, what: part.label, value: tile.value, picture: tile.heading })),
        ...part.selected.map((tile) => ({ kind: "selected", method: index.methods[tile.method].key, group: tile.group, what: "rank", value: tile.rank, score: tile.score, picture: tile.heading })),
        ...part.pictures.filter((tile) => tile.map).flatMap((tile) => patchValues(tile.map, part.grid, ...part.scale).map((cell) => Object.assign({ kind: "map", group: tile.group, what: "activation", picture: tile.heading }, cell)))]),
      ...(own.tokens || []).map((t) => ({ kind: "token", group: t[0], what: "probability", value: t[1] })),
    ].map((row) => Object.assign({ model: m.label, neuron: name }, row)));

    const ranks = own.ranks.filter((r) => r[4] > 0), never = own.ranks.filter((r) => r[4] === 0 && index.methods[r[0]].ranked);
    return [
      el("p", { class: "crumb" }, el("a", { href: "#/" }, "Overview"), " / ", el("a", { href: link(["model", m.name]) }, m.label.split(" (")[0]), " / ", el("a", { href: link(["table"], { model: m.name, layer: where[1], module: path[1] }) }, path[1] + " layer " + where[1])),
      el("div", { class: "head split" },
        el("div", null, el("h1", null, name), el("p", { class: "lead" }, m.label, inert ? el("span", { class: "warn" }, " This layer reaches no output.") : null)),
        el("div", { class: "pager" }, el("button", { type: "button", onclick: () => to(-1), "aria-label": "Previous neuron" }, "← previous"), el("span", { class: "faint" }, number(at + 1) + " of " + number(list.length) + " " + where_), el("button", { type: "button", onclick: () => to(1), "aria-label": "Next neuron" }, "next →"))),
      el("div", { class: "two" },
        el("section", { class: "card" }, el("h2", null, "Words it raises"), tokenBars(own.tokens, path[1], m)),
        el("section", { class: "card" }, el("h2", null, "Rank under each method"),
          ranks.length ? table(["method", "best rank", "for", "score", "found in"], ranks.map((r) => [
            methodLabel(r[0]), r[1] === null ? "drawn" : number(r[1]),
            r[3] === null ? r[2] : el("a", { href: "#/picture/" + r[3] + "?model=" + encodeURIComponent(m.name) }, r[2]),
            r[6] === null ? "–" : number(r[6]), number(r[4]) + " of " + number(r[5]) + (index.methods[r[0]].counted === "samples" ? "" : " " + index.methods[r[0]].counted)])) : null,
          never.length ? el("p", { class: "faint" }, "Not among the neurons recorded by: " + never.map((r) => index.methods[r[0]].label + " (" + (r[7] === 0 ? "none recorded" : "at most " + number(r[7]) + " a sample") + ")").join("; ") + ".") : null)),
      el("section", { class: "card" }, el("h2", null, "Effect of changing neurons, beside random ones"), effects(own.effects)),
      mapped ? el("div", { class: "row sticky" }, modeChoice(redraw)) : null,
      parts.map((part) => part.node)];
  }

  function tokenBars(tokens, module, m) {
    if (!tokens) return el("p", { class: "none" }, module === "language" ? (m.decoded ? "This neuron was not decoded." : "The neurons of this model were not decoded.") : "Only neurons of the language model decode to words.");
    const most = Math.max(...tokens.map((t) => t[1]), 1e-12);
    return [el("p", { class: "faint" }, "Probabilities of the words under its output alone. A full bar is " + percent(most) + "."),
      el("ol", { class: "tokenbars" }, tokens.map(([text, p]) => el("li", null,
        el("span", { class: "token" }, visible(text)), el("span", { class: "meter", "aria-hidden": "true" }, el("span", { style: { width: (100 * p) / most + "%" } })), el("span", { class: "n" }, percent(p)))))];
  }

  function effects(list) {
    if (!list.length) return el("p", { class: "none" }, "No effect was recorded: this neuron was not among those that were changed.");
    const most = Math.max(1e-9, ...list.flatMap((e) => [e[3] || 0, e[5] || 0]));
    const top = most <= 1 ? 1 : most;
    // A loss may be below 0; a negative width would be no width at all, and the bar as long as its cell.
    const width = (value) => ({ width: (100 * Math.max(0, value || 0)) / top + "%" });
    return [el("p", { class: "faint" }, "Measured with all selected neurons of a sample or domain changed together, not this one alone; means over the samples that it was selected for."),
      el("div", { class: "scroll" }, el("table", { class: "effects" },
        el("thead", null, el("tr", null, ["measure", "method", "for", "these neurons", "random neurons", ""].map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", null, list.map((e) => el("tr", null,
          el("td", null, e[2]), el("td", null, methodLabel(e[0])), el("td", null, e[1]),
          el("td", { class: "n", title: plural(e[4], "caption or reply", "captions or replies") }, number(e[3])),
          el("td", { class: "n", title: e[6] ? plural(e[6], "caption or reply", "captions or replies") : "no control" }, e[5] === null ? "no control" : number(e[5])),
          el("td", null, el("span", { class: "pair", "aria-hidden": "true" },
            el("span", { class: "own", style: width(e[3]) }), el("span", { class: "random", style: width(e[5]) })))))))) ];
  }

  /* The pictures with a neuron's maps or largest values, then those for which it was selected. */
  function activePart(m, part, draws) {
    const maps = part.pictures.some((own) => own.map);
    const tile = (own, shown, right, more) => el("li", null, el("a", { href: link(["picture", String(own.picture)], { model: m.name, concept: own.concept || "" }), class: "tile" }, shown,
      el("span", { class: "under" }, el("strong", null, own.group), el("span", { class: "n" }, right)),
      el("span", { class: "faint small" }, own.heading), more));
    const cards = part.pictures.map((own) => {
      const shown = picture(own.file, own.alt, 224);
      const bytes = own.map ? unpack(own.map) : null;
      draws.push(() => shown.draw(bytes, part.grid, mode));
      return tile(own, shown.frame, part.label.startsWith("share") ? percent(own.value) : number(own.value));
    });
    const chosen = part.selected.map((own) => tile(own, el("div", { class: "frame" }, el("img", { src: own.file, alt: own.alt, loading: "lazy", decoding: "async" })), "rank " + number(own.rank),
      el("span", { class: "small by" }, methodShort(own.method), el("span", { class: "n" }, "score " + number(own.score)))));
    const some = part.n_selected > chosen.length ? number(chosen.length) + " of " + plural(part.n_selected, "picture") : plural(chosen.length, "picture");
    const lone = (maps ? "Other pictures" : "Pictures") + " for which it was selected, without a map: " + some + ", the best ranks first";
    const heading = maps ? (part.mapped === 1 ? "The one picture with a map of it" : "Where it is most active of the " + number(part.mapped) + " pictures with a map of it") : cards.length ? "Pictures on which it is most active" : chosen.length ? lone : "Pictures";
    return { maps: maps, node: el("section", { class: "card" },
      el("h2", null, heading),
      el("p", { class: "faint" }, index.papers[part.paper] + ". " + part.data + "."),
      part.recorded ? el("p", { class: "faint" }, part.recorded + ".") : null,
      cards.length ? el("p", null, "Numbers: " + part.label + ". ", maps ? "Heatmaps share one scale; masks show where a map is above its 95th percentile." : "") : null,
      maps && part.spread ? el("p", { class: "faint" }, "This model reads pictures through queries: activations at these are spread over the patches that they read.") : null,
      maps ? legend(part.scale[0], part.scale[1], "activation") : null,
      cards.length ? el("ul", { class: "tiles" }, cards) : null,
      part.why ? el("p", { class: "none" }, part.why) : null,
      chosen.length ? [cards.length ? el("h3", null, lone) : null, el("ul", { class: "tiles" + (cards.length ? " small" : "") }, chosen)] : null,
      el("h3", null, "Share of tokens at which it is active"),
      part.shares.length ? el("ul", { class: "shares" }, part.shares.map(([what, value, of]) => el("li", null, el("span", null, what), el("span", { class: "meter", "aria-hidden": "true" }, el("span", { style: { width: 100 * value + "%" } })), el("span", { class: "n" }, percent(value)), el("span", { class: "faint small" }, of)))) : null,
      el("p", { class: "faint" }, shareNote(part))) };
  }

  function shareNote(part) {
    if (part.paper === "mmneuron") return "Of all tokens that the module sees, by domain; image and text tokens were counted together.";
    if (part.shares.length) return "Of image tokens of the samples whose maps were recorded. Activations at text tokens were not recorded.";
    return "Not recorded for this neuron.";
  }

  /* -- pictures */

  async function picturesPage(path, query, next) {
    const list = await load("pictures");
    next.title = "Pictures";
    let word = query.get("text") || "", paper = query.get("paper") || "", found = [];
    const wall = el("ul", { class: "tiles small" }), count = el("p", { class: "count", role: "status" });
    const papers = [...new Set(list.map((own) => own[3]))];
    const strange = paper && !papers.includes(paper) ? ["paper “" + paper + "”"] : [];
    if (strange.length) paper = "";
    const low = list.map((own) => own[4].map(([, text, groups]) => [text, ...groups].join("\n").toLowerCase()));
    function apply(quiet) {
      const asked = word.toLowerCase();
      // Of a picture that several models have seen, the first whose words fit is shown.
      found = list.map((own, i) => [own, i, own[4][low[i].findIndex((text) => text.includes(asked))]]).filter(([own, , view]) => view && (!paper || own[3] === paper));
      wall.replaceChildren(...found.slice(0, 600).map(([own, i, view]) => el("li", null, el("a", { href: link(["picture", String(i)], { model: index.models[view[0]].name }), class: "tile" }, el("div", { class: "frame" }, el("img", { src: own[2], alt: view[1], loading: "lazy", decoding: "async" })), el("span", { class: "under clip" }, view[1])))));
      count.textContent = plural(found.length, "picture") + (found.length > 600 ? ", the first 600 are shown" : "");
      if (!quiet) history.replaceState(null, "", link(["pictures"], { text: word, paper: paper }));
    }
    const box = el("input", { type: "search", value: word, placeholder: "any", oninput: () => { word = box.value.trim(); apply(); } });
    next.shown = () => apply(true);
    next.slash = () => box.focus();
    next.csv = () => [["name", "heading", "paper", "model", "text", "groups"], ...found.flatMap(([own]) => own[4].map(([model, text, groups]) => [own[0], own[1], own[3], index.models[model].label, text, JSON.stringify(groups)]))];
    return [head("Pictures", el("p", { class: "lead" }, "With what the models say of them. Open one to see which neurons are active where.")),
      strangers(strange),
      el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
        papers.length > 1 ? select("Paper", [["", "all"], ...papers.map((key) => [key, index.papers[key]])], paper, (value) => go(link(["pictures"], { text: word, paper: value }))) : null,
        field("Caption, question or concept", box), count),
      wall];
  }

  async function picturePage(path, query, next) {
    const at = Number(path[0]);
    if (!Number.isInteger(at) || at < 0 || at >= index.pictures.n) throw new Error("This run has no such picture.");
    const views = (await load("pictures" + Math.floor(at / index.pictures.chunk)))[at % index.pictures.chunk];
    const asked = views.findIndex((own) => index.models[own.model].name === query.get("model"));
    const view = views[asked < 0 ? 0 : asked];
    const m = index.models[view.model];
    const rows = await rowsOf(view.model);
    const whole = (key, n) => (/^\d+$/.test(query.get(key) || "") && Number(query.get(key)) < n ? Number(query.get(key)) : -1);
    let sample = Math.max(0, whole("concept", view.samples.length));
    takeMode(query);
    next.title = view.heading;
    next.move = (step) => go(link(["picture", String((at + step + index.pictures.n) % index.pictures.n)], { model: m.name }));

    const big = picture(view.file, view.alt, 448);
    const patch = el("div", { class: "patchbox", hidden: true });
    big.frame.append(patch);
    const side = el("div", { class: "lists" });
    const under = el("section", { class: "card patchlist", "aria-live": "polite" });
    const scaleBox = el("div"), mapBox = el("div");
    let which = whole("map", view.samples[sample].maps.length);

    function neuronItem([place, name, rank, score]) {
      const tokens = place >= 0 ? rows.neurons.tokens[place] : null;
      return el("li", null, el("span", { class: "n rank" }, number(rank)), place >= 0 ? el("a", { href: neuronLink(view.model, whereOf(rows, place)) }, name) : el("span", { title: "no page" }, name), tokens ? tokenList(tokens, 3) : null);
    }
    function lists() {
      const own = view.samples[sample];
      put(side, el("h2", null, "Neurons for “" + own.group + "”"),
        own.found.length ? own.found.map(([method, list]) => el("section", null, el("h3", null, methodLabel(method)), el("ol", { class: "neuronlist" }, list.map(neuronItem)))) : el("p", { class: "none" }, "No method found a neuron for it."));
      if (own.maps.length) {
        if (which < 0 || which >= own.maps.length) which = Math.min(2, own.maps.length - 1);
        put(mapBox, own.maps.length > 1 ? select("Map", own.maps.map((map, i) => [String(i), map[0]]), String(which), (v) => { which = Number(v); remember({ map: v }); redraw(); }) : el("p", { class: "faint" }, "Map: " + own.maps[0][0]));
      } else {
        put(mapBox, el("p", { class: "none" }, view.why || "No activation map of these neurons was recorded."));
      }
      words.forEach(([node, number_]) => node.setAttribute("aria-pressed", String(number_ === sample)));
      redraw();
    }
    function redraw() {
      const map = view.samples[sample].maps[which];
      big.draw(map ? unpack(map[1]) : null, view.grid, mode);
      put(scaleBox, map ? legend(map[2], map[3], "activation") : "");
    }
    next.mode = (key) => setMode(key, redraw);

    const words = [];
    const sentence = el("p", { class: "caption" }, view.text.map(([piece, number_]) => {
      if (number_ === null) return piece;
      const word = el("button", { type: "button", class: "word", title: "Neurons for " + view.samples[number_].group, onclick: () => { sample = number_; remember({ model: m.name, concept: sample || "" }); lists(); } }, piece);
      words.push([word, number_]);
      return word;
    }));

    /* Patches: hover, or focus and arrow keys. */
    const p = view.patches;
    let places = null, values = null, cell = [0, 0], pinned = false;
    if (p) { values = unpack(p.values); places = unpackPlaces(p.places, values.length); }
    /* The neurons that are most active at a patch, and their activations there. */
    function atPatch(patch_) {
      const first = patch_ * p.most;
      return Array.from({ length: p.most }, (_, k) => [p.neurons[places[first + k]], p.scale[0] + ((p.scale[1] - p.scale[0]) * values[first + k]) / 255]);
    }
    function tellPatch(row, column) {
      cell = [row, column];
      const [rows_, columns] = view.grid;
      Object.assign(patch.style, { left: (100 * column) / columns + "%", top: (100 * row) / rows_ + "%", width: 100 / columns + "%", height: 100 / rows_ + "%" });
      patch.hidden = false;
      const list = atPatch(row * columns + column);
      put(under, el("h2", null, "At patch row " + (row + 1) + ", column " + (column + 1)),
        el("ol", { class: "neuronlist" }, list.map(([place, value]) => el("li", null, el("span", { class: "n rank" }, number(value)), el("a", { href: neuronLink(view.model, whereOf(rows, place)) }, neuronName(view.model, whereOf(rows, place))), tokenList(rows.neurons.tokens[place], 3)))),
        el("p", { class: "faint" }, "The largest activations here, of the " + plural(p.n, "neuron") + " with a page whose maps of this picture were recorded. Click to keep, click again to let go."));
    }
    if (p) {
      big.frame.tabIndex = 0;
      big.frame.classList.add("patched");
      big.frame.setAttribute("role", "application");
      big.frame.setAttribute("aria-label", view.alt + " Arrow keys move over its patches.");
      const under_ = (event) => {
        const box = big.frame.getBoundingClientRect(), [r, c] = view.grid;
        return [Math.max(0, Math.min(r - 1, Math.floor(((event.clientY - box.top) / box.height) * r))), Math.max(0, Math.min(c - 1, Math.floor(((event.clientX - box.left) / box.width) * c)))];
      };
      big.frame.addEventListener("mousemove", (event) => { if (!pinned) tellPatch(...under_(event)); });
      big.frame.addEventListener("click", (event) => { pinned = !pinned; tellPatch(...under_(event)); });
      big.frame.addEventListener("keydown", (event) => {
        const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
        if (!step) return;
        event.preventDefault();
        tellPatch(Math.max(0, Math.min(view.grid[0] - 1, cell[0] + step[0])), Math.max(0, Math.min(view.grid[1] - 1, cell[1] + step[1])));
      });
      under.append(el("h2", null, "Patches"), el("p", { class: "faint" }, "Point at a patch of the picture to see which neurons are most active there, or give the picture the focus and use the arrow keys."));
    } else {
      under.append(el("h2", null, "Patches"), el("p", { class: "none" }, view.why || "No activation map of this picture was recorded for a neuron with a page."));
    }
    next.shown = () => { if (view.samples.some((own) => own.maps.length)) rememberMode(); lists(); };
    next.csv = () => sheet(["picture", "model", "kind", "group", "method", "rank", "neuron", "score", "what", "patch_row", "patch_column", "value", "text"], [
      { kind: "text", text: view.text.map(([piece]) => piece).join("") },
      ...view.details.map(([key, text]) => ({ kind: "detail", what: key, text: text })),
      ...view.others.map((own) => ({ kind: "other picture", text: own.text })),
      ...view.samples.flatMap((own) => own.found.flatMap(([method, list]) => list.map(([, name, rank, score]) => ({ kind: "neuron", group: own.group, method: index.methods[method].key, rank: rank, neuron: name, score: score })))),
      ...view.samples.flatMap((own) => own.maps.flatMap(([what, text, low, high]) => patchValues(text, view.grid, low, high).map((value) => Object.assign({ kind: "map", group: own.group, what: what }, value)))),
      ...(p ? Array.from({ length: view.grid[0] * view.grid[1] }, (_, i) => atPatch(i).map(([place, value], k) => ({ kind: "patch", rank: k + 1, neuron: neuronName(view.model, whereOf(rows, place)), patch_row: Math.floor(i / view.grid[1]) + 1, patch_column: (i % view.grid[1]) + 1, value: Number(value.toPrecision(5)) }))).flat() : []),
    ].map((row) => Object.assign({ picture: view.heading, model: m.label }, row)));
    return [
      el("p", { class: "crumb" }, el("a", { href: "#/pictures" }, "Pictures"), " / ", view.heading),
      el("div", { class: "head split" }, el("div", null, el("h1", null, view.heading[0].toUpperCase() + view.heading.slice(1)), el("p", { class: "lead" }, view.data + ". " + index.papers[view.paper] + ".")),
        el("div", { class: "pager" }, el("button", { type: "button", onclick: () => next.move(-1), "aria-label": "Previous picture" }, "← previous"), el("span", { class: "faint" }, number(at + 1) + " of " + number(index.pictures.n)), el("button", { type: "button", onclick: () => next.move(1), "aria-label": "Next picture" }, "next →"))),
      strangers(asked < 0 && query.get("model") ? ["view of this picture by a model “" + query.get("model") + "”"] : []),
      views.length > 1 ? el("div", { class: "tabs", role: "group", "aria-label": "Models" }, views.map((own) => el("a", { href: link(["picture", String(at)], { model: index.models[own.model].name }), class: "button", "aria-current": own === view ? "true" : null }, index.models[own.model].label.split(" (")[0]))) : null,
      el("div", { class: "two wide" },
        el("div", null,
          el("section", { class: "card" }, sentence, el("p", { class: "faint small" }, view.paper === "mmneuron" ? "The question; click it for the neurons of its domain." : "The caption by " + m.label.split(" (")[0] + "; click a marked word for its neurons."),
            el("div", { class: "big" }, big.frame), view.samples.some((own) => own.maps.length) ? el("div", { class: "row" }, modeChoice(redraw), scaleBox) : null, mapBox,
            view.spread && view.grid ? el("p", { class: "faint" }, "This model reads pictures through queries: activations at these are spread over the patches that they read.") : null),
          view.others.length ? el("section", { class: "card" }, el("h2", null, "Without the object"), el("ul", { class: "tiles small" }, view.others.map((own) => el("li", null, el("div", { class: "frame" }, el("img", { src: own.file, alt: own.alt, loading: "lazy" })), el("span", { class: "small" }, own.text))))) : null,
          view.details.length ? el("section", { class: "card" }, el("h2", null, "More"), el("dl", { class: "details" }, view.details.map(([key, text]) => el("div", null, el("dt", null, key), el("dd", null, text === "" ? "(empty)" : text))))) : null),
        el("div", null, under, el("section", { class: "card" }, side)))];
  }

  /* -- comparison */

  async function comparePage(path, query, next) {
    const parts = await load("compare");
    next.title = "Compare";
    next.csv = () => sheet(["model", "paper", "kind", "what", "method", "other_method", "group", "module", "layer", "value", "low", "high", "n"], parts.flatMap((part) => {
      const m = index.models[part.model], keys = part.methods.map((k) => index.methods[k].key);
      return [
        ...part.rates.map(([what, method, value, low, high, n]) => ({ kind: "measure", what: what, method: method, value: value, low: low, high: high, n: n })),
        ...(part.overlaps || []).flatMap((row, i) => row.map((value, j) => ({ kind: "overlap", method: keys[i], other_method: keys[j], value: value }))),
        ...layerRows(m, keys).map(({ method, module, layer, neurons }) => ({ kind: "layer", what: "neurons", method: method, module: module, layer: layer, value: neurons })),
        ...part.counts.map(([group, module, n]) => ({ kind: "domain", what: "neurons", group: group, module: module, value: n })),
      ].map((row) => Object.assign({ model: m.label, paper: part.paper }, row));
    }));
    const papers = [...new Set(parts.map((part) => part.paper))];
    return [head("Methods and models side by side", el("p", { class: "lead" }, "In which layers each method finds its neurons, how many two methods have in common, and what changing them does beside random ones.")),
      papers.map((paper) => {
        const own = parts.filter((part) => part.paper === paper);
        return el("section", { class: "card" }, el("h2", null, index.papers[paper]), el("p", { class: "faint" }, [...new Set(own.map((part) => part.data))].join("; ")),
          el("h3", null, "Neurons in each layer"), profiles(own),
          own.some((part) => part.overlaps) ? [el("h3", null, "Neurons that two methods have in common"), el("p", { class: "faint" }, "Of the " + index.best + " best of each sample, or all where there are fewer: the number that both have over the smaller number; means over samples."), own.filter((part) => part.overlaps).map(overlapTable)] : null,
          own.some((part) => part.counts.length) ? [el("h3", null, "Neurons of each domain"), countTable(own)] : null,
          el("h3", null, "What changing neurons does"), ratesTable(own));
      })];
  }

  function profiles(parts) {
    const rows = [];
    for (const part of parts) {
      const m = index.models[part.model];
      for (const k of part.methods) {
        const key = index.methods[k].key;
        for (const [module, values] of Object.entries(m.layers[key] || {})) if (values.some((v) => v > 0)) rows.push([part.model, k, module]);
      }
    }
    if (!rows.length) return el("p", { class: "none" }, "No neuron was found.");
    return el("ul", { class: "profilegrid" }, rows.map(([model, k, module]) => el("li", null, layerBars(model, index.methods[k].key, module),
      el("span", { class: "small" }, parts.length > 1 ? el("strong", null, index.models[model].label.split(" (")[0] + " ") : null, methodLabel(k), index.models[model].modules.length > 1 ? ", " + module : null))));
  }

  function overlapTable(part) {
    return el("div", { class: "scroll" }, el("table", { class: "matrix" }, el("caption", null, index.models[part.model].label.split(" (")[0]),
      el("thead", null, el("tr", null, el("td"), part.methods.map((k, i) => el("th", { scope: "col", title: index.methods[k].label }, methodDot(k), i + 1)))),
      el("tbody", null, part.methods.map((k, i) => el("tr", null, el("th", { scope: "row" }, i + 1 + " ", methodLabel(k)),
        part.methods.map((_, j) => {
          const v = part.overlaps[i][j];
          return el("td", { class: "n", style: v === null ? {} : { background: colour(255 * v), color: inkOn(255 * v) }, title: index.methods[part.methods[i]].label + " and " + index.methods[part.methods[j]].label }, v === null ? "–" : v.toFixed(2));
        }))))));
  }

  function countTable(parts) {
    const groups = [...new Set(parts.flatMap((part) => part.counts.map((c) => c[0])))];
    const rows = [];
    for (const part of parts) for (const module of [...new Set(part.counts.map((c) => c[1]))]) rows.push([index.models[part.model].label.split(" (")[0], module, ...groups.map((group) => number((part.counts.find((c) => c[0] === group && c[1] === module) || [0, 0, 0])[2]))]);
    return table(["model", "module", ...groups], rows);
  }

  function ratesTable(parts) {
    const blocks = parts.map((part) => {
      const whats = [...new Set(part.rates.map((r) => r[0]))];
      if (!whats.length) return el("p", { class: "none" }, index.models[part.model].label.split(" (")[0] + ": nothing was measured.");
      const top = Math.max(1, ...part.rates.map((r) => r[4] === null ? r[2] || 0 : r[4]));
      return el("details", { open: parts.length === 1 || part === parts[0] ? true : null }, el("summary", null, index.models[part.model].label),
        el("div", { class: "scroll" }, el("table", { class: "rates" }, el("thead", null, el("tr", null, ["measure", "neurons", "value", "interval", ""].map((h) => el("th", { scope: "col" }, h)))),
          el("tbody", null, whats.flatMap((what) => part.rates.filter((r) => r[0] === what).map((r, i) => el("tr", { class: i ? null : "first" }, el("td", null, i ? "" : what), el("td", null, rateMethod(r[1])), el("td", { class: "n" }, number(r[2])), el("td", { class: "n faint" }, r[3] === null ? "–" : number(r[3]) + " to " + number(r[4])),
            el("td", null, interval(r, top)))))))));
    });
    return [el("p", { class: "faint" }, "Intervals are bootstrap, 95 %; of random neurons in MMNeuron, the least and the largest over draws. Grey: random neurons."), blocks];
  }

  function rateMethod(key) {
    const at = index.methods.findIndex((own) => own.key === key);
    if (at >= 0) return methodLabel(at);
    return { random: "random neurons", "random/plain": "random neurons", dape: "domain neurons", none: "nothing changed" }[key] || key;
  }

  function interval(r, top) {
    if (r[2] === null) return el("span", { class: "faint" }, "not measured");
    const x = (v) => (120 * Math.max(0, Math.min(top, v))) / top;
    const grey = r[1].startsWith("random");
    return svg("svg", { viewBox: "0 0 124 12", class: "interval" + (grey ? " grey" : ""), "aria-hidden": "true" },
      svg("rect", { x: 2, y: 5.5, width: 120, height: 1, class: "axis" }),
      r[3] === null ? null : svg("rect", { x: 2 + x(r[3]), y: 4.5, width: Math.max(1, x(r[4]) - x(r[3])), height: 3, class: "span" }),
      svg("circle", { cx: 2 + x(r[2]), cy: 6, r: 3.2, class: "point" }));
  }

  /* -- what was left out */

  async function leftOutPage(path, query, next) {
    const parts = await load("exclusions");
    next.title = "Left out";
    next.csv = () => [["model", "paper", "stage", "sample_id", "group", "reason", "detail"], ...parts.flatMap((part) => part.rows.map((r) => [index.models[part.model].label, part.paper, ...r]))];
    return [head("What was left out, and why"), parts.map((part) => {
      const counts = new Map();
      for (const r of part.rows) counts.set(r[0] + ": " + r[3], (counts.get(r[0] + ": " + r[3]) || 0) + 1);
      return el("section", { class: "card" }, el("h2", null, index.models[part.model].label.split(" (")[0]), el("p", { class: "faint" }, index.papers[part.paper]),
        part.rows.length ? [el("p", { class: "facts" }, [...counts].map(([what, n]) => el("span", { class: "tag" }, what + " " + n))),
          el("details", null, el("summary", null, plural(part.rows.length, "row")), table(["stage", "sample", "concept, object or domain", "reason", "detail"], part.rows.slice(0, 1000)), part.rows.length > 1000 ? el("p", { class: "faint" }, "The first 1,000; the CSV has all.") : null)] : el("p", null, "Nothing."));
    })];
  }

  /* ------------------------------------------------------- the whole window */

  function go(hash) {
    if (location.hash === hash) show(); else location.hash = hash;
  }

  function stored(value) {
    try {
      if (value === undefined) return localStorage.getItem("mmneurons-theme");
      localStorage.setItem("mmneurons-theme", value);
    } catch (error) { /* pages inside a report may keep nothing */ }
    return null;
  }

  function isDark() {
    const set = document.documentElement.dataset.theme;
    return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function switchTheme() {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    stored(document.documentElement.dataset.theme);
    if (document.getElementById("main").dataset.page === "model") show();
  }

  /* A table from rows by name; what a row does not have stays empty. */
  function sheet(names, rows) {
    return [names, ...rows.map((row) => names.map((name) => row[name]))];
  }

  /* Texts come from models and data. Spreadsheets would run one that begins like a formula, so an
     apostrophe, which they do not show, makes a text of it. */
  function csvText(rows) {
    const cell = (value) => {
      let text = value === null || value === undefined ? "" : String(value);
      if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
      return /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
    };
    return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  }

  function saveCsv() {
    if (!page.csv) return;
    const url = URL.createObjectURL(new Blob([csvText(page.csv())], { type: "text/csv;charset=utf-8" }));
    const name = "mmneurons-" + index.run + "-" + (document.getElementById("main").dataset.page || "overview") + ".csv";
    const anchor = el("a", { href: url, download: name });
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    say("Saved " + name);
  }

  let going = -Infinity;
  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !index) return;
    const typing = event.target.closest && event.target.closest("input:not([type=radio]), select, textarea");
    if (event.key === "Escape" && typing) { typing.blur(); return; }
    if (typing || document.getElementById("keys").open) return;
    const places = { o: "#/", n: "#/table", p: "#/pictures", c: "#/compare", l: "#/left-out" };
    if (event.timeStamp - going < 1200 && places[event.key]) { going = -Infinity; event.preventDefault(); go(places[event.key]); return; }
    going = -Infinity;
    const modes = { p: "picture", h: "heatmap", m: "mask" };
    if (event.key === "g") going = event.timeStamp;
    else if (event.key === "/") { event.preventDefault(); if (page.slash) page.slash(); else { slashed = true; go("#/table"); } }
    else if (event.key === "j" && page.move) page.move(1);
    else if (event.key === "k" && page.move) page.move(-1);
    else if (event.key === "ArrowDown" && page.enter && !event.target.closest("canvas")) { event.preventDefault(); page.move(1); }
    else if (event.key === "ArrowUp" && page.enter && !event.target.closest("canvas")) { event.preventDefault(); page.move(-1); }
    else if (event.key === "Enter" && page.enter && !event.target.closest("a, button")) page.enter();
    else if (modes[event.key] && page.mode) page.mode(modes[event.key]);
    else if (event.key === "c") saveCsv();
    else if (event.key === "d") switchTheme();
    else if (event.key === "?") document.getElementById("keys").showModal();
  }

  const theme = stored();
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  document.getElementById("theme").addEventListener("click", switchTheme);
  document.getElementById("csv").addEventListener("click", saveCsv);
  document.getElementById("help").addEventListener("click", () => document.getElementById("keys").showModal());
  document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); document.getElementById("main").focus(); });
  document.addEventListener("keydown", key);
  window.addEventListener("hashchange", show);

  load("index").then((data) => {
    index = data;
    colours = colourTable(data.colours);
    document.getElementById("run").textContent = data.run;
    return show();
  }).catch((error) => {
    document.getElementById("main").replaceChildren(el("section", { class: "card" }, el("h1", null, "No data"), el("p", null, error.message)));
  });
})();
