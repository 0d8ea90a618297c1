"use strict";
/* Draws the charts of a page from the data that lies in it. Nothing is fetched; texts are put into the page as texts. */

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const HIDDEN = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
const PALETTE = ["#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#a6761d", "#666666", "#e7298a", "#66a61e"];
const NARROW = 600, PAPER = 660;

/* Texts: hidden characters are shown by their numbers; for plotly, which reads a little HTML, that is escaped too. */
const visible = (value) => String(value ?? "").replace(HIDDEN, (c) => "\\u" + c.codePointAt(0).toString(16).padStart(4, "0"));
const plain = (value) => visible(value).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (value, most = 28) => { const text = visible(value); return text.length > most ? text.slice(0, most - 1) + "…" : text; };
/* Lines of so many characters at most, broken between words; a word that is longer is broken in itself. */
function wrapped(value, most = innerWidth < NARROW ? 36 : 60) {
  const lines = [""];
  for (const word of visible(value).split(" ")) for (const part of word.match(new RegExp(`.{1,${most}}`, "gu")) ?? []) {
    const last = lines[lines.length - 1];
    if (last && last.length + 1 + part.length > most) lines.push(part); else lines[lines.length - 1] = last ? `${last} ${part}` : part;
  }
  return lines.map(plain).join("<br>");
}
const fixed = (value, digits) => (value === null || value === undefined ? "—" : value.toFixed(digits));
/* As nas/units.py writes them, so that page and terminal agree digit for digit. */
const decimals = (v) => (v > 0 ? Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(v)))) : 0);
function runtime({ runtime_ms: ms, runtime_low_ms: low, runtime_high_ms: high }) {
  if (ms === null) return "—";
  const text = ms.toFixed(Math.max(1, decimals(ms))); let digits = decimals(low);
  while (digits < 6 && !(+low.toFixed(digits) <= +text && +text <= +high.toFixed(digits))) digits++;
  return `${text} (${low.toFixed(digits)}–${high.toFixed(digits)})`;
}
function count(n) {
  if (n === null) return "—";
  const rounded = n >= 1e4 ? +n.toPrecision(3) : n;
  for (const [limit, from, unit] of [[1e9, 1e9, "G"], [1e6, 1e6, "M"], [1e3, 1e4, "k"]]) if (rounded >= from) return `${+(rounded / limit).toPrecision(3)} ${unit}`;
  return String(n);
}
const words = (value) => String(value).replaceAll("_", " ");
const named = (c) => c.name ?? `trial ${c.trial}`;
const spread = (at) => (at.psnr_half_width_db === null ? "" : ` ± ${fixed(at.psnr_half_width_db, 2)}`);

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = visible(text);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function table(headings, rows, text = []) {
  const made = element("table"), head = element("tr"), body = element("tbody");
  headings.forEach((h, i) => head.append(element("th", h, text.includes(i) ? { class: "text" } : {})));
  for (const row of rows) {
    const line = element("tr");
    row.forEach((cell, i) => { const td = element("td", cell instanceof Node ? undefined : cell, text.includes(i) ? { class: "text" } : {}); if (cell instanceof Node) td.append(cell); line.append(td); });
    body.append(line);
  }
  const top = element("thead"); top.append(head); made.append(top, body);
  return made;
}

/* Studies: a page shows one, a comparison several. */
const studies = data.studies ?? [{ label: data.overview.name, candidates: data.candidates, front: data.front }];

function openCandidate(study, candidate) {
  const box = document.querySelector("#candidate .content"), genes = element("dl");
  for (const [gene, value] of Object.entries(candidate.genes)) genes.append(element("dt", gene), element("dd", value));
  const trainings = [
    ...candidate.history.map((r) => [`rung ${r.rung + 1}`, r.steps, fixed(r.psnr_db, 3), fixed(r.ssim, 4), fixed(r.train_s, 1), fixed(r.compile_s, 1)]),
    ...candidate.finals.map((r) => [`final, seed ${r.seed}`, r.steps, fixed(r.psnr_db, 3), fixed(r.ssim, 4), fixed(r.train_s, 1), fixed(r.compile_s, 1)]),
  ];
  box.replaceChildren(
    element("h2", (studies.length > 1 ? `${study.label}: ` : "") + `trial ${candidate.trial}` + (candidate.name ? `, ${candidate.name}` : "")),
    element("p", candidate.network),
    element("p", `${runtime(candidate)} ms predicted; ${count(candidate.parameters)} parameters; ${count(candidate.macs)} MACs; ${candidate.hash}`));
  if (candidate.reason) box.append(element("p", candidate.reason, { class: "note" }));
  if (candidate.duplicate_of !== null) box.append(element("p", `A repeat of trial ${candidate.duplicate_of}, whose result it shares.`, { class: "note" }));
  if (trainings.length) { const scroll = element("div", undefined, { class: "scroll" }); scroll.append(table(["training", "steps", "PSNR dB", "SSIM", "s training", "s compiling"], trainings, [0])); box.append(scroll); }
  box.append(element("h3", "Genes"), genes);
  $("candidate").showModal();
}

function openTrial(number, trial) {
  const candidate = studies[number].candidates.find((each) => each.trial === trial);
  if (candidate) openCandidate(studies[number], candidate);
}

/* Charts */
const colours = () => { const style = getComputedStyle(document.body); const of = (n) => style.getPropertyValue(n).trim(); return { ink: of("--ink"), quiet: of("--quiet"), line: of("--line"), ground: of("--panel"), accent: of("--accent") }; };

function layout(more = {}) {
  const c = colours(), axis = { gridcolor: c.line, zerolinecolor: c.line, linecolor: c.quiet, automargin: true };
  const { xaxis = {}, yaxis = {}, ...rest } = more, paper = document.documentElement.hasAttribute("data-print") ? { autosize: false, width: PAPER } : {};
  return { font: { color: c.ink, family: "system-ui, sans-serif", size: 13 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 56, r: 12, t: 12, b: 48 }, hovermode: "closest",
    hoverlabel: { align: "left", bgcolor: c.ground, font: { color: c.ink } }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest, ...paper };
}

/* A touch screen has no hover: its toolbar would stay over the data. Nothing may be sent away, so the button for it goes. */
const CONFIG = { responsive: true, displaylogo: false, displayModeBar: matchMedia("(hover: none)").matches ? false : "hover",
  showSendToCloud: false, plotlyServerURL: "", modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"] };
const charts = new Map();
function draw(id, traces, more) { charts.set(id, $(id)); return Plotly.react($(id), traces, layout(more), CONFIG); }

/* Labels are put where they cover no other label and no marked point; where there is no such place, hovering tells. */
function placeLabels(id, points, others, ends = []) {
  const chart = $(id), full = chart._fullLayout, { xaxis, yaxis } = full, c = colours();
  const pen = document.createElement("canvas").getContext("2d"); pen.font = "12px system-ui, sans-serif";
  const spots = points.map((p) => ({ ...p, px: xaxis.d2p(p.x), py: yaxis.d2p(p.y) })).filter((p) => p.px >= 0 && p.px <= xaxis._length && p.py >= 0 && p.py <= yaxis._length);
  const around = (p, far) => [p.px - far, p.py - far, p.px + far, p.py + far];
  const taken = spots.map((p) => around(p, 8)), annotations = [];
  const dots = others.map((p) => around({ px: xaxis.d2p(p.x), py: yaxis.d2p(p.y) }, 4));
  const hits = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  /* Ends of lines keep their places; names go elsewhere. */
  for (const p of ends) {
    const [px, py] = [xaxis.d2p(p.x), yaxis.d2p(p.y)], w = pen.measureText(p.label).width, box = [px - w - 2, py - 7, px, py + 7];
    if (px < 0 || px > xaxis._length || box[1] < 0 || box[3] > yaxis._length || taken.some((t) => hits(t, box))) continue;
    taken.push(box);
    annotations.push({ x: xaxis.type === "log" ? Math.log10(p.x) : p.x, y: p.y, text: plain(p.label), xanchor: "right", showarrow: false, font: { size: 10, color: c.quiet }, bgcolor: c.ground, borderpad: 0, captureevents: false });
  }
  for (const p of spots) {
    const w = pen.measureText(p.label).width + 8, h = 18;
    /* Beside every dot where there is room, else on dots that have no label. */
    search: for (const free of [[...taken, ...dots], taken]) for (const far of [0, 14, 30, 50]) for (const [dx, dy] of [[1, 0], [-1, 0], [0, -1], [0, 1], [1, -1], [-1, -1], [1, 1], [-1, 1]]) {
      const x = p.px + dx * (w / 2 + 9 + far), y = p.py + dy * (h / 2 + 9 + far), box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2];
      if (box[0] < 0 || box[1] < 0 || box[2] > xaxis._length || box[3] > yaxis._length || free.some((t) => hits(t, box))) continue;
      taken.push(box);
      const shared = { x: xaxis.type === "log" ? Math.log10(p.x) : p.x, y: p.y, text: plain(p.label), font: { size: 12, color: c.ink }, bgcolor: c.ground, opacity: 0.9, borderpad: 0, captureevents: false };
      annotations.push(far ? { ...shared, ax: x - p.px, ay: y - p.py, showarrow: true, arrowhead: 0, arrowwidth: 1, arrowcolor: c.quiet, standoff: 8 } : { ...shared, showarrow: false, xshift: x - p.px, yshift: p.py - y });
      break search;
    }
  }
  chart._labels = true;
  return Plotly.relayout(chart, { annotations }).then(() => { chart._labels = false; });
}

function frontHover(study, candidate, at) {
  const genes = Object.entries(candidate.genes).map(([g, v]) => `${g}=${v}`).join(" ");
  const where = studies.length > 1 ? `${plain(short(study.label, 40))}, ` : "";
  return `<b>${where}trial ${candidate.trial}${candidate.name ? " " + plain(candidate.name) : ""}</b><br>${fixed(at.psnr_db, 2)}${spread(at)} dB, ${runtime(candidate)} ms, score ${fixed(at.score, 3)}<br>${wrapped(genes)}`;
}

function scoreLines(offsets, [low, high], [fastest, slowest]) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20], scores = offsets.flatMap(([, o]) => [low + o, high + o]);
  const from = Math.min(...scores), to = Math.max(...scores), step = steps.find((s) => (to - from) / s <= 14) ?? 50;
  const x = [], y = [], text = [], ends = [], seen = offsets.filter(([ms]) => ms >= fastest && ms <= slowest);
  for (let s = Math.ceil(from / step) * step; s <= to; s += step) { for (const [ms, o] of offsets) { x.push(ms); y.push(s - o); text.push(`score ${+s.toFixed(2)}`); } x.push(null); y.push(null); text.push("");
    const end = seen.findLast(([, o]) => s - o > low && s - o < high); if (end) ends.push({ x: end[0], y: s - end[1], label: String(+s.toFixed(2)) }); }
  return { ends, x, y, text, mode: "lines", line: { color: colours().quiet, width: 0.6 }, opacity: 0.6, hoverinfo: "text", name: "equal score", showlegend: true };
}

/* Round values in a logarithmic range, as fine as their number allows. */
function roundTicks([from, to], most) {
  const grids = [[1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 8, 8.5, 9, 9.5], [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9], [1, 1.5, 2, 3, 4, 6, 8], [1, 2, 5], [1]];
  for (const grid of grids) {
    const found = [];
    for (let power = Math.floor(from); power <= to; power++) for (const digit of grid) { const value = +(digit * 10 ** power).toPrecision(3); if (Math.log10(value) >= from && Math.log10(value) <= to) found.push(value); }
    if (found.length <= most) return found;
  }
  return [];
}

function drawFront(steps) {
  const traces = [], labels = [], dots = [], all = [], intervals = [], c = colours(), many = studies.length > 1;
  studies.forEach((study, number) => {
    const at = (candidate) => candidate.at[many ? study.front.chosen : steps];
    const trained = study.candidates.filter((candidate) => candidate.verdict === "train" && at(candidate));
    const front = trained.filter((candidate) => at(candidate).on_front).sort((a, b) => a.runtime_ms - b.runtime_ms);
    const colour = PALETTE[number % PALETTE.length], label = many ? plain(short(study.label, 24)) + ": " : "";
    const trace = (members, more) => ({ x: members.map((m) => m.runtime_ms), y: members.map((m) => at(m).psnr_db), text: members.map((m) => frontHover(study, m, at(m))), customdata: members.map((m) => [number, m.trial]), hovertemplate: "%{text}<extra></extra>", ...more });
    all.push(...trained.map((m) => at(m).psnr_db), ...front.flatMap((m) => [1, -1].map((sign) => at(m).psnr_db + sign * (at(m).psnr_half_width_db ?? 0))));
    intervals.push(...front.flatMap((m) => [m.runtime_low_ms, m.runtime_high_ms]));
    traces.push(trace(trained.filter((m) => !m.name && !at(m).on_front), { mode: "markers", name: label + "networks", marker: { color: colour, opacity: 0.4, size: 7 } }));
    traces.push(trace(front, { mode: "lines+markers", name: label + "Pareto front", line: { color: colour, width: 2 }, marker: { color: colour, size: 9 },
      error_x: { type: "data", symmetric: false, array: front.map((m) => m.runtime_high_ms - m.runtime_ms), arrayminus: front.map((m) => m.runtime_ms - m.runtime_low_ms), color: colour, thickness: 0.6, width: 0 },
      error_y: { type: "data", array: front.map((m) => at(m).psnr_half_width_db ?? 0), color: colour, thickness: 1, width: 3 } }));
    traces.push(trace(trained.filter((m) => m.name), { mode: "markers", name: label + "published designs", marker: { color: many ? colour : "#d62728", symbol: "star", size: 13, line: { color: c.ground, width: 1 } } }));
    labels.push(...[...new Set([...front, ...trained.filter((m) => m.name)])].map((m) => ({ x: m.runtime_ms, y: at(m).psnr_db, label: short(named(m)) })));
    dots.push(...trained.map((m) => ({ x: m.runtime_ms, y: at(m).psnr_db })));
    study.over = study.candidates.filter((m) => m.verdict === "infeasible" && m.runtime_ms !== null);
  });
  const low = all.length ? Math.min(...all) : 0, high = all.length ? Math.max(...all) : 1, margin = Math.max(0.1, (high - low) * 0.12);
  const offsets = studies.find((s) => s.front.score_offsets.length)?.front.score_offsets ?? [], range = [low - margin, high + margin];
  studies.forEach((study, number) => { if (study.over.length) traces.push({ x: study.over.map((m) => m.runtime_ms), y: study.over.map(() => range[0]), text: study.over.map((m) => `trial ${m.trial}<br>${wrapped(m.reason)}`), customdata: study.over.map((m) => [number, m.trial]), hovertemplate: "%{text}<extra></extra>", mode: "markers", name: "over a limit, not trained", marker: { symbol: "line-ns-open", color: c.quiet, opacity: 0.5, size: 9 } }); });
  const times = studies.flatMap((s) => s.candidates.filter((m) => m.runtime_ms !== null && (m.verdict === "train" || m.verdict === "infeasible")).map((m) => m.runtime_ms));
  /* Room for the intervals of the front, but not so much that its dots lie too close to be told apart. */
  const [fastest, slowest] = [Math.min(...times), Math.max(...times)], most = 1.3;
  const ends = [Math.max(Math.min(fastest, ...intervals), fastest / most) * 0.95, Math.min(Math.max(slowest, ...intervals), slowest * most) * 1.05].map(Math.log10);
  const lines = offsets.length ? scoreLines(offsets, range, ends.map((e) => 10 ** e)) : null;
  if (lines) traces.unshift(lines);
  const chart = $("chart-front"), narrow = chart.clientWidth < NARROW;
  const ticks = roundTicks(ends, narrow ? 4 : 9);
  draw("chart-front", traces, { xaxis: { title: { text: "predicted runtime, ms" }, type: "log", range: ends, tickvals: ticks, ticktext: ticks.map(String) }, yaxis: { title: { text: "validation PSNR, dB" }, range } })
    .then(() => placeLabels("chart-front", labels, dots, lines?.ends));
  chart.removeAllListeners?.("plotly_click"); chart.removeAllListeners?.("plotly_relayout");
  chart.on("plotly_click", ({ points }) => { const [number, trial] = points[0].customdata ?? []; if (trial !== undefined) openTrial(number, trial); });
  chart.on("plotly_relayout", (change) => { if (!chart._labels && !("annotations" in change)) placeLabels("chart-front", labels, dots, lines?.ends); });
  if (!many) drawFrontTable(studies[0], steps);
}

function drawFrontTable(study, steps) {
  const rows = study.candidates.filter((m) => m.verdict === "train" && m.at[steps]?.on_front).sort((a, b) => a.runtime_ms - b.runtime_ms);
  $("table-front").replaceChildren(table(["trial", "PSNR dB", "SSIM", "ms (interval)", "score", "parameters", "MACs", "network"],
    rows.map((m) => { const button = element("button", m.trial, { class: "link" }), at = m.at[steps]; button.onclick = () => openCandidate(study, m); return [button, fixed(at.psnr_db, 2) + spread(at), fixed(at.ssim, 4), runtime(m), fixed(at.score, 2), count(m.parameters), count(m.macs), (m.name ? `★ ${m.name} ` : "") + m.network]; }), [7]));
}

function drawAnytime(over) {
  const c = colours(), traces = [];
  const series = data.studies ? data.studies.filter((s) => s.anytime).map((s) => [short(s.label, 24) + ": ", s.anytime]) : [["", data.anytime]];
  const areas = !data.hypervolume_note;
  series.forEach(([label, anytime], i) => {
    const x = anytime.rows.map((r) => (over === "elapsed_s" ? r.elapsed_s / 60 : r.candidates));
    traces.push({ x, y: anytime.rows.map((r) => r.score), name: plain(label) + "best score", line: { shape: "hv", color: PALETTE[i % PALETTE.length] }, mode: "lines" });
    if (areas) traces.push({ x, y: anytime.rows.map((r) => r.hypervolume), name: plain(label) + "hypervolume", yaxis: "y2", line: { shape: "hv", dash: "dot", color: PALETTE[data.studies ? i % PALETTE.length : 1] }, mode: "lines" });
  });
  draw("chart-anytime", traces, { margin: { l: 56, r: 64, t: 12, b: 48 }, hovermode: "x unified", xaxis: { title: { text: over === "elapsed_s" ? "minutes of searching" : "candidates trained" }, rangemode: "tozero" }, yaxis: { title: { text: "score" } }, ...(!areas ? {} : { yaxis2: { title: { text: "hypervolume, dB · ms" }, overlaying: "y", side: "right", tickmode: "auto", rangemode: "tozero", showgrid: false, zeroline: false, color: c.ink } }) });
}

const SPENT = [["train_s", "training"], ["compile_s", "compiling"], ["evaluate_s", "judging"], ["waiting_s", "waiting"]];

/* Of studies that are compared, in shares: their budgets differ. */
function drawShares() {
  const rows = data.studies.filter((s) => s.spending?.worker_s);
  draw("chart-spending", SPENT.map(([key, name], i) => ({ type: "bar", orientation: "h", y: rows.map((s) => plain(short(s.label, 24))), x: rows.map((s) => s.spending[key] / s.spending.worker_s), name, marker: { color: PALETTE[i] }, hovertemplate: `%{x:.1%} ${name}<extra></extra>` })),
    { barmode: "stack", xaxis: { title: { text: "share of the workers' time" }, tickformat: ".0%" }, yaxis: { type: "category", autorange: "reversed" } });
}

function drawSpending() {
  if (data.studies) return drawShares();
  const rows = data.spending.by_rung, names = SPENT.filter(([key]) => rows.every((r) => r[key] !== null));
  draw("chart-spending", names.map(([key, name], i) => ({ type: "bar", orientation: "h", y: rows.map((r) => `${r.steps} steps`), x: rows.map((r) => r[key] / 60), name, marker: { color: PALETTE[i] }, hovertemplate: `%{x:.2f} min ${name}<extra></extra>` })),
    { barmode: "stack", xaxis: { title: { text: "minutes of workers" } }, yaxis: { type: "category", autorange: "reversed" } });
}

/* The best have colours and names, all others are grey. Finals end close together: each network has its own place beside their steps. */
const MOST_NAMED = 8;
function drawLearning() {
  const quiet = colours().quiet, members = data.finalists.map((trial) => data.candidates[trial]), titled = members.slice(0, MOST_NAMED);
  const beside = (place) => 1.045 ** (place - (titled.length - 1) / 2);
  const traces = members.flatMap((m, i) => {
    const isNamed = i < MOST_NAMED, colour = isNamed ? PALETTE[i] : quiet, label = plain(short(named(m))), at = isNamed ? beside(i) : 1;
    const shared = { opacity: isNamed ? 1 : 0.35, legendgroup: isNamed ? m.trial : "others", hovertemplate: "%{text}: %{y:.3f} dB<extra></extra>" };
    return [{ ...shared, x: m.history.map((r) => r.steps), y: m.history.map((r) => r.psnr_db), text: m.history.map((r) => `${label}, ${r.steps} steps`), mode: "lines+markers", name: isNamed ? label : "others", line: { color: colour, width: isNamed ? 2 : 1 }, marker: { size: isNamed ? 6 : 4 }, showlegend: i <= MOST_NAMED },
      { ...shared, x: m.finals.map((r, seed) => r.steps * at * 1.009 ** (seed - (m.finals.length - 1) / 2)), y: m.finals.map((r) => r.psnr_db), text: m.finals.map((r) => `${label}, seed ${r.seed}, ${r.steps} steps`), mode: "markers", marker: { color: colour, symbol: "circle-open", size: isNamed ? 9 : 6, line: { width: isNamed ? 2 : 1 } }, showlegend: false }];
  }).reverse();
  draw("chart-learning", traces, { legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "reversed" }, xaxis: { title: { text: "training steps" }, type: "log", tickvals: data.front.steps, ticktext: data.front.steps.map(String) }, yaxis: { title: { text: "validation PSNR, dB" } } });
}

/* Of studies that are compared: the genes that matter most in any of them, a bar for each study. */
function drawImportances() {
  const known = data.studies.filter((s) => s.genes?.importances.length), share = (s, gene) => s.genes.importances.find((r) => r.gene === gene)?.share ?? 0;
  const most = (gene) => Math.max(...known.map((s) => share(s, gene))), genes = [...new Set(known.flatMap((s) => s.genes.importances.map((r) => r.gene)))].sort((a, b) => most(b) - most(a)).slice(0, 10).reverse();
  if (!known.length) { $("chart-importance").hidden = true; return; }
  draw("chart-importance", known.map((s) => ({ type: "bar", orientation: "h", x: genes.map((g) => share(s, g)), y: genes.map((g) => plain(words(g))), name: plain(short(s.label, 24)), hovertemplate: "%{y}: %{x:.1%}<extra></extra>", marker: { color: PALETTE[data.studies.indexOf(s) % PALETTE.length] } })),
    { barmode: "group", xaxis: { title: { text: "share of importance" }, tickformat: ".0%" }, yaxis: { type: "category" } });
}

function drawImportance() {
  if (data.studies) return drawImportances();
  const rows = data.genes.importances.slice(0, 12).reverse();
  draw("chart-importance", [{ type: "bar", orientation: "h", x: rows.map((r) => r.share), y: rows.map((r) => plain(words(r.gene))), text: rows.map((r) => wrapped(r.meaning)), textposition: "none", hovertemplate: "%{text}<br>%{x:.1%}<extra></extra>", marker: { color: PALETTE[0] } }],
    { xaxis: { title: { text: "share of importance" }, tickformat: ".0%" }, yaxis: { type: "category" } });
}

/* Hundreds of lines say as much as thousands and are drawn at once: the best, and others at even distances. */
const MOST_LINES = 500;
function someOf(trained, first) {
  if (trained.length <= MOST_LINES) return trained;
  const ranked = [...trained].sort((a, b) => b.at[first].score - a.at[first].score), best = ranked.slice(0, MOST_LINES / 2), rest = ranked.slice(MOST_LINES / 2);
  return [...best, ...best.map((_, i) => rest[Math.floor((i * rest.length) / best.length)])];
}

function drawGenes() {
  const first = data.front.steps[0], all = data.candidates.filter((m) => m.verdict === "train" && m.at[first]), trained = someOf(all, first);
  if ($("lines")) $("lines").textContent = trained.length < all.length ? `${trained.length} of ${all.length} networks are drawn: the best half of these, and others at even distances.` : "";
  const scores = trained.map((m) => m.at[first].score), dimensions = data.genes.importances.slice(0, 7).map(({ gene }) => {
    const values = [...new Set(trained.map((m) => m.genes[gene] ?? "—"))].sort((a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b))));
    return { label: wrapped(words(gene), 13), values: trained.map((m) => values.indexOf(m.genes[gene] ?? "—")), tickvals: values.map((_, i) => i), ticktext: values.map((v) => plain(short(words(v), 16))) };
  });
  dimensions.push({ label: "predicted ms", values: trained.map((m) => m.runtime_ms), tickformat: ".0f" }, { label: `score at ${first}`, values: scores, tickformat: ".1f" });
  const c = colours();
  draw("chart-genes", [{ type: "parcoords", dimensions, line: { color: scores, colorscale: [[0, c.line], [1, c.accent]], showscale: false }, labelfont: { color: c.ink, size: 12 }, tickfont: { color: c.ink, size: 11 }, rangefont: { color: c.quiet, size: 10 } }], { margin: { l: 100, r: 60, t: 64, b: 24 } });
}

function drawAll() {
  if ($("chart-front")) drawFront($("steps")?.value);
  if ($("chart-anytime")) drawAnytime($("over").value);
  if ($("chart-spending")) drawSpending();
  if ($("chart-learning")) drawLearning();
  if ($("chart-importance")) drawImportance();
  if ($("chart-genes") && charts.has("chart-genes")) drawGenes();
  document.body.dataset.drawn = "yes";
}

/* On paper: light, as wide as a page, nothing folded; charts are drawn again, as their colours are part of them. */
function asOnPaper(begins) {
  document.documentElement.toggleAttribute("data-print", begins);
  document.querySelectorAll("details").forEach((each) => { if (begins) { each.dataset.was = each.open; each.open = true; } else each.open = each.dataset.was === "true"; });
  if (begins && $("chart-genes")) charts.set("chart-genes", $("chart-genes"));
  drawAll();
  if (!begins) charts.forEach((chart) => Plotly.Plots.resize(chart));
}

/* plotly.js lies packed in the page. */
async function unpackPlotly() {
  const bytes = Uint8Array.from(atob($("plotly").textContent), (c) => c.charCodeAt(0));
  const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  const script = element("script"); script.textContent = text; document.head.append(script); script.textContent = "";
}

function openPhotos(strip) {
  const box = document.querySelector("#zoom .content"), slider = document.querySelector("#zoom input");
  const panes = [...strip.querySelectorAll("span")].map((span) => {
    const figure = element("figure"), pane = element("div", undefined, { class: "pane" }), image = element("img", undefined, { alt: span.querySelector("img").alt });
    image.src = span.querySelector("img").src; pane.append(image); figure.append(element("figcaption", image.alt), pane);
    return [figure, pane, image];
  });
  const resize = () => panes.forEach(([, , image]) => { image.style.width = `${image.naturalWidth * slider.value}px`; });
  slider.oninput = resize;
  panes.forEach(([, pane]) => pane.addEventListener("scroll", () => panes.forEach(([, other]) => { if (other !== pane && (other.scrollTop !== pane.scrollTop || other.scrollLeft !== pane.scrollLeft)) other.scrollTo(pane.scrollLeft, pane.scrollTop); })));
  box.replaceChildren(...panes.map(([figure]) => figure));
  $("zoom").showModal(); resize();
}

document.querySelectorAll(".strip").forEach((strip) => { strip.onclick = () => openPhotos(strip); strip.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); openPhotos(strip); } }; });
document.querySelectorAll("[data-trial]").forEach((button) => { button.onclick = () => openTrial(0, Number(button.dataset.trial)); });
if ($("download")) $("download").onclick = () => {
  const link = element("a", undefined, { download: "report.json", href: URL.createObjectURL(new Blob([$("data").textContent], { type: "application/json" })) });
  link.click(); URL.revokeObjectURL(link.href);
};

unpackPlotly().then(() => {
  drawAll();
  if ($("steps")) $("steps").onchange = () => drawFront($("steps").value);
  if ($("over")) $("over").onchange = () => drawAnytime($("over").value);
  dark.addEventListener("change", drawAll);
  let waiting; addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => { if ($("chart-front")) drawFront($("steps")?.value); }, 200); });
  /* The parallel coordinates take longest, so they wait until they are looked at. */
  if ($("chart-genes")) new IntersectionObserver(([seen], watch) => { if (seen.isIntersecting) { watch.disconnect(); drawGenes(); } }, { rootMargin: "200px" }).observe($("chart-genes"));
  addEventListener("beforeprint", () => asOnPaper(true));
  addEventListener("afterprint", () => asOnPaper(false));
}).catch((error) => {
  document.querySelectorAll(".chart").forEach((chart) => { chart.style.height = "auto"; chart.textContent = "This browser cannot draw the chart: it needs DecompressionStream (any browser since 2023). Tables and numbers are complete."; });
  console.warn(error.message);
});
