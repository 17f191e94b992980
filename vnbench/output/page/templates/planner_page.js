"use strict";
// The planner's controls, its state in the address, its answer and its two charts.

const model = new PlannerModel(JSON.parse(document.getElementById("planner-tables").textContent));
const tables = model.tables;
const form = document.getElementById("planner-controls");
const batches = [...new Set(tables.configurations.map(one => one.levers.batch_size))].sort((a, b) => a - b);
const selects = [...form.querySelectorAll("select[data-lever]")];

const DEFAULTS = {
  "examples": `${tables.run.examples}`, "epochs": `${tables.run.epochs}`, "batch-size": "any",
  "num-workers": "any", "memory": "0", "window": `${tables.run.window_s === null ? 12 : tables.run.window_s / 3600}`,
  "interruptions": `${tables.run.interruptions}`, "snapshot-interval": "best",
};
selects.forEach(select => { DEFAULTS[select.name] = "any"; });

/** Controls that hold a place in a list rather than the value itself. */
const LISTS = { "examples": tables.examples.map(String), "batch-size": ["any", ...batches.map(String)] };

function readState() {
  return Object.fromEntries(Object.keys(DEFAULTS).map(name => {
    const value = form.elements[name].value;
    return [name, LISTS[name] ? LISTS[name][Number(value)] : value];
  }));
}

/** Put a state into the controls; what a control does not offer is left at its default. */
function showState(state) {
  for (const [name, fallback] of Object.entries(DEFAULTS)) {
    const control = form.elements[name], wanted = state[name] ?? fallback;
    if (LISTS[name]) {
      const place = LISTS[name].indexOf(wanted);
      control.value = place >= 0 ? place : LISTS[name].indexOf(fallback);
    } else if (control.tagName === "SELECT") {
      control.value = [...control.options].some(option => option.value === wanted) ? wanted : fallback;
    } else {
      const isUsable = Number(wanted) > 0 || (wanted === "0" && name === "interruptions");
      control.value = isUsable && Number.isFinite(Number(wanted)) ? wanted : fallback;
    }
  }
}

function settingsOf(state) {
  const levers = Object.fromEntries(selects.map(select => [
    select.dataset.lever, state[select.name] === "any" ? null : JSON.parse(select.selectedOptions[0].dataset.value)]));
  const rule = state["snapshot-interval"];
  return {
    levers, batchSize: state["batch-size"] === "any" ? null : Number(state["batch-size"]), examples: Number(state.examples), epochs: Math.max(1, Math.round(Number(state.epochs))),
    workers: state["num-workers"] === "any" ? null : Number(state["num-workers"]), memory: Number(state.memory),
    windowS: Number(state.window) > 0 ? Number(state.window) * 3600 : NaN, interruptions: Number(state.interruptions),
    snapshots: ["best", "epoch", "none"].includes(rule) ? rule : Number(rule), snapshotS: tables.run.snapshot_s,
  };
}

function duration(seconds) {
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 59.95) return `${Number(seconds.toPrecision(3))} s`;
  const whole = Math.round(seconds), minutes = Math.round(seconds / 60);
  const [size, first, second, parts] = whole < 3600 ? [60, "min", "s", whole]
    : minutes < 72 * 60 ? [60, "h", "min", minutes] : [24, "d", "h", Math.round(seconds / 3600)];
  const [large, rest] = [Math.floor(parts / size), parts % size];
  return rest ? `${large.toLocaleString("en")} ${first} ${rest} ${second}` : `${large.toLocaleString("en")} ${first}`;
}

/** A duration as a command line takes it, in the largest unit that leaves it whole: 12h, 90m. */
function written(seconds) {
  const whole = Number(seconds.toPrecision(6));
  const [unit, size] = [["h", 3600], ["m", 60]].find(([, size]) => whole % size === 0) ?? ["s", 1];
  return `${whole / size}${unit}`;
}

function timeUnit(longestS) {
  return [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]].find(([, seconds]) => longestS >= 3 * seconds) ?? ["s", 1];
}

function gibibytes(bytes) {
  return bytes >= 2 ** 30 ? `${Number((bytes / 2 ** 30).toPrecision(3))} GiB` : `${Number((bytes / 2 ** 20).toPrecision(3))} MiB`;
}

function percent(share) { // as probability() in output/words/capacity_plan.py tells it
  const told = Math.round(100 * share);
  return told > 0 && told < 5 ? "under 5 %" : told > 95 && told < 100 ? "over 95 %" : `${told} %`;
}
const range = finish => `${duration(finish.p50)} (80 %: ${duration(finish.p10)} to ${duration(finish.p90)})`;
const numbered = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function workersOf(best) {
  return best.run.workers === null ? "" : `, ${numbered(best.run.workers, "worker")}`;
}

function answerLines(best, settings) {
  const limit = tables.memory[settings.memory], without = model.withoutSnapshots(best.run, settings, settings.interruptions);
  const need = best.needBytes === null ? "unknown"
    : `${best.run.leastBytes === null ? "" : `${gibibytes(best.run.leastBytes)} to `}${gibibytes(best.needBytes)}`;
  const lines = [
    `${range(best.finish)} with ${best.configuration.words}${workersOf(best)}.`,
    Number.isNaN(settings.windowS) ? "Give a window in hours to see whether it finishes in time."
      : `Probability that it finishes within ${duration(settings.windowS)}: ${percent(best.finish.probability)}`
        + (settings.interruptions ? ` (${percent(without.probability)} without snapshots).` : "."),
    `Worst-case memory ${need}${limit[1] === null ? "" : ` of ${limit[0]}`}: ${best.verdict}. Evidence: ${best.run.evidence}.`,
  ];
  if (settings.workers !== null) {
    const left = tables.configurations.filter(one => one.supplies.every(([workers]) => workers !== settings.workers)).length;
    if (left) lines.push(`${numbered(left, "configuration")} left out: no loader of their micro-batch was measured with so many workers.`);
  }
  if (settings.interruptions) {
    const steps = best.intervalS === null ? null : Math.max(1, Math.round(best.intervalS / best.run.stepS));
    lines.push(steps === null ? "No snapshots are taken."
      : `A snapshot every ${duration(best.intervalS)} (${numbered(steps, "step")}); without any: ${range(without)}.`);
  }
  return lines;
}

/** What the expected time is made of, in seconds, in the order of the bar. */
function partsOf(best, settings) {
  const run = best.run, k = settings.interruptions, intervalS = best.intervalS;
  const workS = run.onceS + run.workS;
  const waitS = run.epochS - run.validationS - run.computingS;
  const lostS = k * (tables.run.restart_s + (intervalS === null ? workS : intervalS + settings.snapshotS) / 2);
  return [
    ["computing", settings.epochs * run.computingS], ["waiting for data", settings.epochs * waitS],
    ["validation", settings.epochs * run.validationS], ["start-up and first shapes", run.onceS],
    ["snapshots", intervalS === null ? 0 : settings.snapshotS * (Math.ceil(workS / intervalS) - 1)],
    ["interruptions", lostS],
  ].filter(([, seconds]) => seconds > 0);
}

function drawParts(parts, settings, isForecast) {
  const totalS = parts.reduce((sum, [, seconds]) => sum + seconds, 0);
  const bar = document.getElementById("planner-bar"), legend = document.getElementById("planner-parts");
  const isInside = settings.windowS <= 1.5 * totalS, scaleS = isInside ? Math.max(totalS, settings.windowS) * 1.02 : totalS;
  const svg = shape("svg", { viewBox: "0 0 1000 34", preserveAspectRatio: "none", role: "img", "aria-label": `Expected ${duration(totalS)}, part by part` });
  let from = 0;
  parts.forEach(([name, seconds]) => {
    const wide = 1000 * seconds / scaleS;
    svg.append(shape("rect", { x: from, y: 4, width: wide, height: 26, class: `part ${name.split(" ")[0]}` }));
    if (isForecast && name === "computing") {
      svg.append(shape("path", { d: hatchOfBox(from, from + wide, 4, 30, 13), class: "hatch over" }));
    }
    from += wide;
  });
  if (isInside) svg.append(shape("line", { x1: 1000 * settings.windowS / scaleS, x2: 1000 * settings.windowS / scaleS, y1: 0, y2: 34, class: "window" }));
  bar.replaceChildren(svg);
  legend.replaceChildren(...parts.map(([name, seconds]) => {
    const entry = element("li"), swatch = shape("svg", { width: 12, height: 12, "aria-hidden": "true" });
    swatch.append(shape("rect", { width: 12, height: 12, class: `part ${name.split(" ")[0]}` }));
    entry.append(swatch, ` ${name} ${duration(seconds)}${isForecast && name === "computing" ? " (hatched: forecast)" : ""}`);
    return entry;
  }), ...(isInside ? [element("li", {}, `dotted line: the window, ${duration(settings.windowS)}`)] : []));
}

function drawBatches(planned, settings, best) {
  const able = planned.filter(one => one.verdict !== "does not fit");
  const series = tables.precisions.filter(name => able.some(one => one.configuration.levers.precision === name)).map(name => ({
    name, className: name, style: tables.precisions.indexOf(name),
    points: batches.map((batch, x) => {
      const own = able.filter(one => one.configuration.levers.precision === name && one.configuration.levers.batch_size === batch);
      if (!own.length) return null;
      const fastest = own.reduce((one, other) => comesBefore(other, one) ? other : one);
      const isChosen = best !== null && fastest.configuration === best.configuration;
      const isHollow = fastest.run.evidence !== "measured", isForecast = fastest.run.evidence === "forecast";
      return { x, y: fastest.finish.p50, low: fastest.finish.p10, high: fastest.finish.p90, isChosen, isHollow, isForecast,
        workS: fastest.run.workS };
    }).filter(point => point !== null),
  }));
  const figure = document.getElementById("planner-batches");
  figure.hidden = series.length === 0;
  if (figure.hidden) return;
  const fastest = series.reduce((one, other) =>
    Math.min(...other.points.map(point => point.y)) < Math.min(...one.points.map(point => point.y)) ? other : one);
  const first = fastest.points[0];
  // Only the work counts steps: interruptions cost what they cost.
  const countedS = batch => first.y - first.workS * (1 - batches[first.x] / batch);
  const counted = {
    name: `if a step took what it does at batch ${batches[first.x]}`, className: "counting", style: 1, isPlain: true,
    points: batches.map((batch, x) => ({ x, y: countedS(batch) })).filter(point => point.x >= first.x),
  };
  const shown = fastest.points.length > 1 ? [...series, counted] : series;
  drawChart(figure, {
    labels: batches.map(String), xTitle: "batch size (examples per optimizer step)", series: shown,
    unit: timeUnit(Math.max(...series.flatMap(one => one.points.map(point => point.high)))),
    line: { y: settings.windowS, name: "window" },
    summary: `Wall clock against batch size; the table below holds the numbers`,
  });
}

function drawInterruptions(settings, best) {
  const figure = document.getElementById("planner-interruptions");
  figure.hidden = best === null;
  if (figure.hidden) return;
  const rows = model.overInterruptions(best.run, settings);
  const curve = (which, name, style) => ({
    name, className: which, style, isBand: true, isForecast: best.run.evidence === "forecast",
    points: rows.map((row, x) => ({ x, y: row[which].p50, low: row[which].p10, high: row[which].p90, isChosen: which === "with" && x === settings.interruptions })),
  });
  drawChart(figure, {
    labels: rows.map((_, k) => `${k}`), xTitle: "interruptions (number)", series: [curve("with", "with snapshots", 0), curve("without", "without snapshots", 1)],
    unit: timeUnit(rows.at(-1).without.p90), line: { y: settings.windowS, name: "window" },
    summary: "Wall clock against interruptions, with snapshots and without; the table below holds the numbers",
  });
}

function commandOf(state, settings) {
  const words = [form.dataset.command, "--examples", state.examples, "--epochs", `${settings.epochs}`];
  const option = (name, value) => words.push(`--${name}`, value);
  if (state["batch-size"] !== "any") option("batch-size", state["batch-size"]);
  if (state["num-workers"] !== "any") option("num-workers", state["num-workers"]);
  const held = selects.filter(select => state[select.name] !== "any").map(select => `${select.name}=${state[select.name]}`);
  // A text of PYTORCH_ALLOC_CONF may hold what a shell reads as its own.
  const quoted = text => /^[\w.,:=-]*$/.test(text) ? text : `'${text}'`;
  if (held.length) option("hold", quoted(held.join(",")));
  if (settings.memory) option("memory", tables.memory[settings.memory][0].replace(" ", ""));
  if (!Number.isNaN(settings.windowS)) option("window", written(settings.windowS));
  if (settings.interruptions) option("interruptions", `${settings.interruptions}`);
  if (settings.snapshots !== "best") option("snapshot-interval", typeof settings.snapshots === "number" ? written(settings.snapshots) : settings.snapshots);
  return words.join(" ");
}

function nothingFits(planned, settings) {
  const known = planned.filter(one => one.needBytes !== null);
  if (!planned.length) return "Nothing that was measured is like that: set a control back to any.";
  if (!known.length) return `No configuration is known to fit; measure the worst case (for images of your own: --images DIR in place of --widths and --heights) with: ${tables.measure_memory}`;
  const smallest = known.reduce((one, other) => other.needBytes < one.needBytes ? other : one);
  return `Nothing fits into ${tables.memory[settings.memory][0]}: the smallest needs ${gibibytes(smallest.needBytes)}, with ${smallest.configuration.words}.`;
}

function update() {
  const state = readState(), settings = settingsOf(state);
  for (const [name, list] of Object.entries(LISTS)) {
    const value = list[Number(form.elements[name].value)];
    const words = value === "any" ? "the fastest that fits" : Number(value).toLocaleString("en");
    form.elements[name].setAttribute("aria-valuetext", words);
    document.getElementById(`${name}-value`).textContent = words;
  }
  for (const name of ["epochs", "interruptions"]) document.getElementById(`${name}-value`).textContent = state[name];
  const every = model.planned(settings), planned = model.ofBatch(every, settings);
  const best = model.recommended(planned, settings);
  const answer = document.getElementById("planner-answer");
  answer.replaceChildren(...(best === null ? [nothingFits(planned, settings)] : answerLines(best, settings)).map(line => element("p", {}, line)));
  answer.dataset.plan = JSON.stringify(best === null ? null : {
    levers: { ...best.configuration.levers, num_workers: best.run.workers }, ...best.finish, interval_s: best.intervalS,
    need_bytes: best.needBytes, verdict: best.verdict, evidence: best.run.evidence,
  });
  document.getElementById("planner-now").hidden = best === null;
  if (best !== null) drawParts(partsOf(best, settings), settings, best.run.evidence === "forecast");
  drawBatches(every, settings, best);
  drawInterruptions(settings, best);
  const words = commandOf(state, settings).split(" ").flatMap(word => [element("span", { class: "word" }, word), " "]);
  document.getElementById("planner-command").replaceChildren(...words.slice(0, -1));
  const changed = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  const address = changed.length ? `#${new URLSearchParams(changed)}` : location.pathname + location.search;
  history.replaceState(null, "", address);
}

let isWaiting = false;
/** Answer after the next frame, however many changes come until then. */
function soon() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => { isWaiting = false; update(); });
}

function fromAddress() {
  showState(Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
  update();
}

form.addEventListener("input", soon);
form.addEventListener("submit", event => event.preventDefault());
document.getElementById("planner-presets").addEventListener("click", event => {
  const preset = event.target.dataset.preset;
  if (preset === undefined) return;
  showState(preset === "" ? {} : Object.fromEntries(new URLSearchParams(preset)));
  update();
});
addEventListener("hashchange", fromAddress);
addEventListener("resize", soon);
fromAddress();
