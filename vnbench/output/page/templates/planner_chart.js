"use strict";
// Line charts as SVG at the size of the screen, each with its numbers as a table for who cannot see it.

const SVG = "http://www.w3.org/2000/svg";
const MARKERS = ["circle", "square", "triangle", "diamond"];
/** Half the width of the box that a forecast is drawn as. */
const BOX = 4;
const DASHES = ["", "7 4", "13 3", "9 3 2 3"];

function element(name, attributes = {}, text = null) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

function shape(name, attributes, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

function marker(kind, x, y, className) {
  const d = {
    circle: `M${x - 4} ${y}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0`,
    square: `M${x - 4} ${y - 4}h8v8h-8z`,
    triangle: `M${x} ${y - 5}l5 9h-10z`,
    diamond: `M${x} ${y - 5.5}l5 5.5l-5 5.5l-5 -5.5z`,
  }[MARKERS[kind % MARKERS.length]];
  return shape("path", { d, class: `${className} mark` });
}

/** Strokes that mark what was forecast: lines up to the right, clipped to a box. */
function hatchOfBox(left, right, top, bottom, gap = 5) {
  const wide = right - left, d = [];
  for (let y = top + gap; y < bottom + wide; y += gap) {
    const [x0, y0] = y > bottom ? [left + (y - bottom), bottom] : [left, y];
    const [x1, y1] = y - wide < top ? [left + (y - top), top] : [right, y - wide];
    if (x1 > x0) d.push(`M${x0} ${y0}L${x1} ${y1}`);
  }
  return d.join("");
}

/** The same of a band between two lines of points: upright strokes from the one to the other. */
function hatchOfBand(points, gap = 7) {
  const d = [];
  for (let i = 1; i < points.length; i++) {
    const [one, other] = [points[i - 1], points[i]], steps = Math.max(1, Math.round((other.x - one.x) / gap));
    for (let step = i === 1 ? 0 : 1; step <= steps; step++) {
      const share = step / steps, along = name => one[name] + share * (other[name] - one[name]);
      d.push(`M${along("x")} ${along("low")}V${along("high")}`);
    }
  }
  return d.join("");
}

/** Round steps of an axis from 0 that need at most `most` of them. */
function axisSteps(top, most) {
  const raw = top / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(factor => factor * power).find(one => one >= raw - 1e-12);
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, index) => Number((index * step).toPrecision(6)));
}

/**
 * Draw into a figure. `chart` has labels of the x axis, xTitle, unit ([name, seconds]), series ({name, className, style,
 * points: [{x, y, low, high, isForecast}], isBand, isForecast}), and line ({y, name}, or null); times are in seconds.
 */
function drawChart(figure, chart) {
  const holder = figure.querySelector(".drawing");
  const width = Math.max(260, holder.clientWidth), height = 250;
  const left = 50, right = 14, top = 10, bottom = 40;
  const [unit, unitS] = chart.unit;
  const highest = Math.max(...chart.series.flatMap(one => one.points.map(point => point.high ?? point.y)));
  const hasLine = chart.line !== null && chart.line.y <= 1.5 * highest;
  const top_s = 1.06 * Math.max(highest, hasLine ? chart.line.y : 0);
  const inner = width - left - right;
  const x = index => left + inner * (index + 0.5) / chart.labels.length;
  const y = seconds => height - bottom - (height - top - bottom) * seconds / top_s;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": chart.summary });
  for (const value of axisSteps(top_s / unitS, 5)) {
    svg.append(
      shape("line", { x1: left, x2: width - right, y1: y(value * unitS), y2: y(value * unitS), class: "grid" }),
      shape("text", { x: left - 6, y: y(value * unitS) + 4, "text-anchor": "end" }, `${value}`));
  }
  const every = Math.ceil(chart.labels.length * 34 / inner);
  chart.labels.forEach((label, index) => {
    if (index % every === 0) svg.append(shape("text", { x: x(index), y: height - bottom + 17, "text-anchor": "middle" }, label));
  });
  svg.append(
    shape("text", { x: left + inner / 2, y: height - 5, "text-anchor": "middle" }, chart.xTitle),
    shape("text", { transform: `translate(12 ${(height - bottom + top) / 2}) rotate(-90)`, "text-anchor": "middle" }, `wall clock (${unit})`));
  // Marks that share a tick stand side by side in its band.
  if (chart.series.filter(one => !one.isPlain && !one.isBand).length > 1) svg.prepend(...chart.labels.map((_, index) =>
    shape("rect", { x: x(index - 0.42), y: top, width: x(index + 0.42) - x(index - 0.42), height: height - bottom - top, class: "tick" })));
  if (hasLine) svg.append(shape("line", { x1: left, x2: width - right, y1: y(chart.line.y), y2: y(chart.line.y), class: "window" }));
  const apart = chart.series.some(one => one.points.some(point => point.isForecast)) ? 2 * BOX + 2 : 5;
  chart.series.forEach((one, place) => {
    const shift = one.isBand || one.isPlain || chart.series.length === 1 ? 0 : apart * (place - (chart.series.length - 1) / 2);
    const at = point => x(point.x) + shift;
    if (one.isBand) {
      const upper = one.points.map(point => `${at(point)} ${y(point.high)}`);
      const lower = one.points.map(point => `${at(point)} ${y(point.low)}`).reverse();
      svg.append(shape("path", { d: `M${[...upper, ...lower].join("L")}Z`, class: `${one.className} band` }));
      if (one.isForecast) {
        const ends = one.points.map(point => ({ x: at(point), low: y(point.low), high: y(point.high) }));
        svg.append(shape("path", { d: hatchOfBand(ends), class: `${one.className} hatch` }));
      }
    }
    const path = `M${one.points.map(point => `${at(point)} ${y(point.y)}`).join("L")}`;
    svg.append(shape("path", { d: path, class: `${one.className} line`, "stroke-dasharray": DASHES[one.style % DASHES.length] }));
    for (const point of one.points) {
      if (!one.isBand && point.isForecast) {
        const [x0, x1, y0, y1] = [at(point) - BOX, at(point) + BOX, y(point.high), y(point.low)];
        svg.append(shape("path", { d: `M${x0} ${y0}H${x1}V${y1}H${x0}Z${hatchOfBox(x0, x1, y0, y1)}`, class: `${one.className} hatch` }));
      } else if (!one.isBand && point.high !== undefined) {
        const d = `M${at(point)} ${y(point.low)}V${y(point.high)}M${at(point) - 4} ${y(point.low)}h8M${at(point) - 4} ${y(point.high)}h8`;
        svg.append(shape("path", { d, class: `${one.className} bar` }));
      }
      if (!one.isPlain) svg.append(marker(one.style, at(point), y(point.y), `${one.className}${point.isHollow ? " hollow" : ""}`));
      if (point.isChosen) svg.append(shape("circle", { cx: at(point), cy: y(point.y), r: 9, class: "chosen" }));
    }
  });
  holder.replaceChildren(svg);
  const shown = hasLine ? [...chart.series, { name: chart.line.name, className: "window", isPlain: true, style: 2 }] : chart.series;
  figure.querySelector(".legend").replaceChildren(...shown.map(legendEntry));
  figure.querySelector("table").replaceChildren(...numberRows(chart));
}

function legendEntry(one) {
  const entry = element("li"), sample = shape("svg", { width: 30, height: 12, "aria-hidden": "true" });
  const line = { d: "M0 6H30", class: one.className === "window" ? "window" : `${one.className} line` };
  sample.append(shape("path", { ...line, "stroke-dasharray": one.className === "window" ? "2 3" : DASHES[one.style % DASHES.length] }));
  if (!one.isPlain) sample.append(marker(one.style, 15, 6, one.className));
  entry.append(sample, ` ${one.name}`);
  return entry;
}

function numberRows(chart) {
  const head = element("tr");
  head.append(element("th", { scope: "col" }, chart.xTitle), ...chart.series.map(one => element("th", { scope: "col" }, one.name)));
  return [head, ...chart.labels.map((label, index) => {
    const row = element("tr");
    row.append(element("th", { scope: "row" }, label), ...chart.series.map(one => {
      const point = one.points.find(candidate => candidate.x === index);
      if (!point) return element("td", {}, "-");
      const range = point.high === undefined ? "" : ` (80 %: ${duration(point.low)} to ${duration(point.high)})`;
      return element("td", {}, duration(point.y) + range);
    }));
    return row;
  })];
}
