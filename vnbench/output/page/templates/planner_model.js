"use strict";
// What `vnbench plan` reckons, on the tables of this page: composed configurations, and ranks and quantiles of draws.

class PlannerModel {
  constructor(tables) {
    this.tables = tables;
    this.numDraws = tables.num_draws;
    this.ranks = Object.fromEntries(
      Object.entries(tables.ranks).map(([part, text]) => [part, new Uint16Array(unpacked(text))]));
    this.quantiles = tables.quantiles.map(text => mirrored(new Float32Array(unpacked(text)), 0));
    // Of a sum of k uniform numbers the quantiles are symmetric about k / 2.
    this.sums = tables.sums.map((text, index) => mirrored(new Float32Array(unpacked(text)), index + 1));
    // Of a forecast the ends of the bracket, -1 and 1, are percentiles.
    this.bracketed = Float64Array.from(
      { length: this.numDraws }, (_, rank) => ((rank + 0.5) / this.numDraws - 0.5) / (tables.bracketed / 2));
    this.drawnByKey = new Map();
  }

  /** Standardised errors of a part by draw: the quantile that each draw's rank has. */
  drawn(part, quantiles, key) {
    const name = `${part} ${key}`;
    if (!this.drawnByKey.has(name)) this.drawnByKey.set(name, Float64Array.from(this.ranks[part], rank => quantiles[rank]));
    return this.drawnByKey.get(name);
  }

  /** Every configuration that has the levers and workers asked for, planned, whatever its batch. */
  planned(settings) {
    const asked = Object.entries(settings.levers).filter(([, value]) => value !== null);
    return this.tables.configurations
      .filter(one => asked.every(([name, value]) => one.levers[name] === value))
      .map(one => this.plannedWith(one, settings))
      .filter(one => one !== null);
  }

  /** Those of the batch asked for; without one, those of the batches that the records were measured with. */
  ofBatch(planned, settings) {
    return planned.filter(({ configuration: one }) =>
      settings.batchSize === null ? one.is_measured_batch : one.levers.batch_size === settings.batchSize);
  }

  plannedWith(configuration, settings) {
    const run = this.composed(configuration, settings);
    if (run === null) return null;
    const verdict = { f: "fits", t: "tight", n: "does not fit", u: "unknown" }[run.verdicts[settings.memory]];
    let intervalS = snapshotInterval(run, settings);
    const k = settings.interruptions;
    let drawn = this.draws(run, settings, k, intervalS);
    if (settings.snapshots === "best" && k > 0) {
      const without = this.draws(run, settings, k, null);
      if (without.mean < drawn.mean) [intervalS, drawn] = [null, without];
    }
    return { configuration, run, verdict, intervalS, finish: this.finishOf(drawn), needBytes: run.needBytes };
  }

  /** The parts of a run in seconds; null where it was not measured with such workers, or has too few examples. */
  composed(configuration, settings) {
    const row = configuration.rows[this.tables.examples.indexOf(settings.examples)];
    if (!row) return null;
    const [numSteps, computingS, coefficients, sizes, processes, validationS, onceS, best, epochs, evidence,
      needBytes, verdicts, bracket = null, leastBytes = null] = row;
    const place = settings.workers === null ? best
      : configuration.supplies.findIndex(([workers]) => workers === settings.workers);
    if (place === -1) return null;
    const [workers, loadingError, loadingFreedom] =
      place === null ? configuration.own_loading : configuration.supplies[place];
    const [loadingS, epochS] = epochs[place ?? 0];
    const hasWorkers = place !== null && workers > 0;
    return {
      numSteps, computingS, coefficients, sizes, processes, validationS, evidence, needBytes, verdicts, bracket, leastBytes,
      workers, loadingS, loadingError, hasWorkers, epochS, onceS, numEpochs: settings.epochs,
      freedoms: [...configuration.freedoms, loadingFreedom],
      stepS: (epochS - validationS) / numSteps, workS: settings.epochs * epochS,
    };
  }

  /** Draws of the finish with so many interruptions; an interval of null takes no snapshots. */
  draws(run, settings, numInterruptions, intervalS) {
    const { snapshot_s: snapshotS, restart_s: restartS } = this.tables.run;
    const [measured, between, ofLoading] = run.freedoms;
    const coefficients = this.drawn("coefficients", this.quantiles[measured], measured);
    const sizes = this.drawn("sizes", this.quantiles[measured], measured);
    const processes = this.drawn("processes", this.quantiles[between], between);
    const loading = this.drawn("loading", this.quantiles[ofLoading], ofLoading);
    const lost = numInterruptions > 0
      ? this.drawn("interruptions", this.sums[numInterruptions - 1], numInterruptions) : null;
    const forecast = run.bracket === null ? null : this.drawn("forecast", this.bracketed, "bracket");
    const least = this.tables.smallest_factor, windowS = settings.windowS;
    const ends = new Float64Array(this.numDraws);
    let sum = 0, inTime = 0;
    for (let i = 0; i < ends.length; i++) {
      const off = run.coefficients * coefficients[i] + run.sizes * sizes[i] + run.processes * processes[i];
      const computingS = run.computingS * Math.max(least, 1 + off)
        * (forecast === null ? 1 : Math.max(least, inBracket(run.bracket, forecast[i])));
      const loadingS = run.loadingS * Math.max(least, 1 + run.loadingError * loading[i]);
      const workS = run.onceS + run.numEpochs * epochTime(run, computingS, loadingS);
      let endS = workS;
      if (intervalS !== null) endS += snapshotS * (Math.ceil(workS / intervalS) - 1);
      if (lost !== null) endS += numInterruptions * restartS + lost[i] * (intervalS === null ? workS : intervalS + snapshotS);
      ends[i] = endS;
      sum += endS;
      if (endS <= windowS) inTime += 1;
    }
    return { ends, mean: sum / ends.length, probability: inTime / ends.length };
  }

  finishOf({ ends, mean, probability }) {
    const [p10, p50, p90] = this.tables.percentiles.map(
      share => select(ends, Math.ceil(share / 100 * (ends.length - 1))));
    return { p10, p50, p90, mean, probability };
  }

  withoutSnapshots(run, settings, numInterruptions) {
    return this.finishOf(this.draws(run, settings, numInterruptions, null));
  }

  /** The fastest that fits; where none does the fastest that is tight, or, of the card measured, of which nobody knows. */
  recommended(planned, settings) {
    const isGiven = this.tables.memory[settings.memory][1] !== null;
    for (const verdict of isGiven ? ["fits", "tight"] : ["fits", "tight", "unknown"]) {
      const able = planned.filter(one => one.verdict === verdict);
      if (able.length) return this.fastest(able);
    }
    return null;
  }

  /** The fastest; of forecasts that are equally fast in other precisions and batches, that of the preferred precision. */
  fastest(able) {
    const best = able.reduce((one, other) => comesBefore(other, one) ? other : one);
    if (best.run.evidence !== "forecast") return best;
    const mayDiffer = ["precision", "batch_size", "micro_batch_size"];
    const isAlike = one => one.run.workers === best.run.workers && this.tables.lever_names.every(
      name => mayDiffer.includes(name) || one.configuration.levers[name] === best.configuration.levers[name]);
    const rank = one => this.tables.preferences[one.configuration.levers.precision];
    return able.filter(one => isAlike(one) && one.finish.p50 <= this.tables.tie * best.finish.p50)
      .reduce((one, other) => rank(other) < rank(one) || (rank(other) === rank(one) && other.finish.p50 < one.finish.p50) ? other : one);
  }

  /** Finish against the number of interruptions, with the best snapshots for each and without. */
  overInterruptions(run, settings) {
    return Array.from({ length: this.tables.max_interruptions + 1 }, (_, k) => {
      const intervalS = snapshotInterval(run, { ...settings, interruptions: k });
      return {
        with: this.finishOf(this.draws(run, settings, k, intervalS)), without: this.withoutSnapshots(run, settings, k),
      };
    });
  }
}

/** Seconds of an epoch that was drawn, as EpochTime.total_s of vnbench/analysis/models/epoch_time.py. */
function epochTime(run, computingS, loadingS) {
  return (run.hasWorkers ? Math.max(computingS, loadingS) : computingS + loadingS) + run.validationS;
}

/** Factor on a central value: 1 in the middle, and the ends of the bracket at -1 and 1. */
function inBracket([low, high], place) {
  return 1 + (place < 0 ? (1 - low) * place : (high - 1) * place);
}

function comesBefore(one, other) {
  const difference = one.finish.p50 - other.finish.p50;
  return difference < 0 || (difference === 0 && (one.needBytes ?? 0) < (other.needBytes ?? 0));
}

/** Work between snapshots as whole steps; null for none. */
function snapshotInterval(run, settings) {
  const rule = settings.snapshots, k = settings.interruptions;
  if (rule === "none") return null;
  if (rule === "epoch" || (rule === "best" && k === 0)) return run.epochS;
  const snapshotS = settings.snapshotS;
  // An interval as long as the run is none.
  if (rule !== "best" && rule >= run.workS) return null;
  const wantedS = rule === "best" ? Math.min(run.workS, Math.sqrt(2 * run.workS * snapshotS / k)) : rule;
  return Math.min(run.workS, Math.max(1, Math.round(wantedS / run.stepS)) * run.stepS);
}

function unpacked(text) {
  return Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer;
}

/** A whole table from its lower half, where the two halves add up to `total`. */
function mirrored(lower, total) {
  const whole = new Float64Array(2 * lower.length);
  for (let i = 0; i < lower.length; i++) {
    whole[i] = lower[i];
    whole[whole.length - 1 - i] = total - lower[i];
  }
  return whole;
}

/** The value of this rank, from 0 for the smallest; reorders the values (Hoare, Algorithm 65: Find, 1961). */
function select(values, rank) {
  let low = 0, high = values.length - 1;
  while (low < high) {
    const pivot = values[(low + high) >> 1];
    let i = low, j = high;
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i <= j) {
        const swapped = values[i];
        values[i++] = values[j];
        values[j--] = swapped;
      }
    }
    if (rank <= j) high = j; else if (rank >= i) low = i; else break;
  }
  return values[rank];
}
