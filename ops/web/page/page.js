"use strict";

const $ = (id) => document.getElementById(id);

// put sets a text only if it is new, so that a selection survives.
function put(id, text) {
  const e = typeof id === "string" ? $(id) : id;
  if (e.textContent !== text) e.textContent = text;
}

function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

const number = new Intl.NumberFormat("en");

function scaled(v, base, units) {
  let i = 0;
  while (v >= base && i < units.length - 1) { v /= base; i++; }
  return (i > 0 && v < 10 ? v.toFixed(1) : Math.round(v).toString()) + units[i];
}
const packets = (v) => scaled(v, 1000, ["", "k", "M", "G"]) + " packets/s";
const bits = (v) => scaled(v, 1000, [" bit/s", " kbit/s", " Mbit/s", " Gbit/s"]);
const bytes = (v) => scaled(v, 1024, [" B", " KiB", " MiB", " GiB"]);

function duration(s) {
  const d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
  if (d > 0) return `${d} d ${h} h`;
  if (h > 0) return `${h} h ${m} min`;
  return m > 0 ? `${m} min` : `${Math.floor(s)} s`;
}

// rate returns how much a counter grows in a second. A counter that falls belongs to another process.
const seen = new Map();
function rate(name, value) {
  const now = performance.now(), last = seen.get(name);
  if (!last || value < last.value) { seen.set(name, { now, value, rate: 0 }); return 0; }
  if (now - last.now < 500) return last.rate;
  const r = (value - last.value) * 1000 / (now - last.now);
  seen.set(name, { now, value, rate: r });
  return r;
}

// bars shows a list of {label, part, text, full} as bars.
function bars(where, list) {
  const box = $(where);
  while (box.children.length > list.length) box.lastChild.remove();
  list.forEach((x, i) => {
    let row = box.children[i];
    if (!row) {
      row = element("div", undefined, "bar");
      const track = element("i");
      track.append(element("b"));
      row.append(element("span"), track, element("span", "", "n"));
      box.append(row);
    }
    put(row.children[0], x.label);
    row.children[1].className = x.full ? "full" : "";
    row.children[1].firstChild.style.width = `${Math.min(100, Math.max(0, 100 * x.part))}%`;
    put(row.children[2], x.text);
  });
}

// rows fills the body of a table with a list of lists of cells.
function rows(where, list, numeric) {
  const body = $(where).tBodies[0];
  while (body.rows.length > list.length) body.lastElementChild.remove();
  list.forEach((cells, i) => {
    const row = body.rows[i] || body.insertRow();
    cells.forEach((text, j) => {
      const cell = row.cells[j] || row.insertCell();
      cell.className = numeric.includes(j) ? "n" : "";
      put(cell, text);
    });
  });
}

const shows = {
  status(s) {
    const state = s.paused ? "paused" : s.ready ? "ready" : "not ready";
    put("state", state);
    $("state").className = "badge " + (state === "ready" ? "good" : "bad");
    put("since", "up " + duration(s.uptime_seconds));
    put("version", s.version.version);
    notices([...(s.not_ready || []), ...(s.warnings || [])]);

    for (const i of s.interfaces || []) {
      const n = i.side.endsWith("6") ? "6" : "4";
      put("link" + n, i.name + (i.up ? "" : " (down)"));
      $("link" + n).classList.toggle("down", !i.up);
      put("about" + n, `MTU ${i.mtu}, engine ${i.engine}` + (i.bursts ? ", bursts" : ""));
    }
    put("pool6", (s.pool6 || []).join(", ") || "no pool6");

    for (const t of s.traffic || []) {
      const p = rate("packets " + t.direction, t.packets), b = rate("bytes " + t.direction, t.bytes);
      put("rate" + t.direction, `${packets(p)}, ${bits(8 * b)}`);
      const arrows = { "6to4": ".out", "4to6": ".in" }[t.direction];
      if (arrows) document.querySelectorAll("#topology " + arrows).forEach((a) => a.classList.toggle("busy", p > 0));
    }

    let used = 0, ports = 0, sessions = 0;
    for (const p of s.protocols || []) { used += p.pool4_used; ports += p.pool4_ports; sessions += p.sessions; }
    put("used", ports ? `${(100 * used / ports).toFixed(used && used < ports / 10 ? 1 : 0)} %` : "empty");
    put("usedof", ports ? `${number.format(used)} of ${number.format(ports)} ports in use` : "");
    bars("protocols", (s.protocols || []).map((p) => ({
      label: p.protocol.toUpperCase(), part: p.pool4_ports ? p.pool4_used / p.pool4_ports : 0, full: p.pool4_ports > 0 && p.pool4_used > 0.8 * p.pool4_ports,
      text: `${number.format(p.pool4_used)} of ${number.format(p.pool4_ports)}`,
    })));
    put("sessions", number.format(sessions));
    protocols = s.protocols || [];
    showStates();

    const m = s.memory;
    if (m) put("memory", `memory ${bytes(m.used_bytes)} of ${bytes(m.limit_bytes)}` + (m.scarce ? ": scarce, new sessions are refused" : ""));
    const o = s.offloads;
    if (o) put("offloads", `offloads ${o.mode}` + (o.reason ? `: ${o.reason}` : ""));
    const k = s.state;
    if (k) put("kept", k.dir ? "sessions survive a restart" + (k.restored ? `; ${number.format(k.restored_sessions || 0)} restored at the start` : "") : "sessions end with nat64d" + (k.why ? `: ${k.why}` : ""));
    workers(s.interfaces || []);
  },

  stats(list) {
    const drops = list.filter((c) => c.kind === "drop" && c.value > 0).sort((a, b) => b.value - a.value);
    rows("drops", drops.slice(0, 8).map((c) => {
      const reason = (c.labels && c.labels.reason) || c.name;
      return [reason, number.format(c.value), rate("drop " + reason, c.value).toFixed(0), c.help];
    }), [1, 2]);
    $("drops").hidden = drops.length === 0;
    $("nodrops").hidden = drops.length > 0;

    states = list.filter((c) => c.name === "nat64_sessions" && c.labels && c.labels.state && c.value > 0);
    showStates();
    const dns = (name) => list.filter((c) => c.kind === "dns64" && c.name.includes(name)).reduce((n, c) => n + c.value, 0);
    const queries = dns("dns64_queries"), hits = dns("cache_hits"), misses = dns("cache_misses");
    put("queries", rate("dns64", queries).toFixed(0));
    put("cache", hits + misses ? `${(100 * hits / (hits + misses)).toFixed(0)} % of ${number.format(queries)} answered from the cache` : "no queries yet");
  },

  pool4(list) {
    const addresses = [...new Set(list.map((e) => e.address))];
    put("pool4", addresses.length === 0 ? "pool4 is empty" : "from " + addresses.slice(0, 3).join(", ") + (addresses.length > 3 ? ` and ${addresses.length - 3} more` : ""));
  },

  clients(all) {
    const list = all.clients || [];
    rows("clients", list.map((c) => [c.client, number.format(c.ports), number.format(c.sessions), bits(8 * c.bytes_per_second)]), [1, 2, 3]);
    $("clients").hidden = list.length === 0;
    $("noclients").hidden = list.length > 0;
    put("total", all.total > list.length ? `the ${list.length} with most ports of ${number.format(all.total)}` : "");
  },

  dns64(d) {
    $("dnscard").hidden = false;
    rows("upstreams", (d.upstreams || []).map((u) => [u.upstream, u.up ? "up" : "down: " + (u.error || "?"), `${(1000 * u.latency_seconds).toFixed(0)} ms`]), [2]);
  },
};

function notices(list) {
  const box = $("notices");
  if (box.dataset.text === JSON.stringify(list)) return;
  box.dataset.text = JSON.stringify(list);
  box.replaceChildren(...list.map((text) => element("li", text)));
  box.hidden = list.length === 0;
}

// showStates shows the sessions by state if the counters have them, else by protocol.
let states = [], protocols = [];
function showStates() {
  const list = states.length > 0
    ? states.map((c) => ({ label: c.labels.protocol.toUpperCase() + (c.labels.state === "active" ? "" : " " + c.labels.state.toLowerCase().replaceAll("_", " ")), n: c.value }))
    : protocols.map((p) => ({ label: p.protocol.toUpperCase(), n: p.sessions }));
  const most = Math.max(1, ...list.map((x) => x.n));
  bars("states", list.map((x) => ({ label: x.label, part: x.n / most, text: number.format(x.n) })));
}

function workers(interfaces) {
  bars("workers", interfaces.flatMap((i) => i.workers.map((w, n) => ({
    label: `${i.side} ${n}`, part: w.busy_ratio, full: w.busy_ratio > 0.9, text: `${(100 * w.busy_ratio).toFixed(0)} %, CPU ${w.processors}`,
  }))));
}

// chart draws the ports in use during the last hour. A gap in the samples is a gap in the line: nat64d did not run.
function chart(list) {
  const svg = $("chart"), end = list.length ? list[list.length - 1].time : 0, begin = end - 3600;
  const most = Math.max(1, ...list.map((s) => s.used)) * 1.1;
  const x = (s) => 600 * (s.time - begin) / 3600, y = (s) => 120 - 116 * s.used / most;
  const line = list.map((s, i) => `${i && s.time - list[i - 1].time < 30 ? "L" : "M"}${x(s).toFixed(1)} ${y(s).toFixed(1)}`).join("");
  const path = (d, className) => {
    const p = document.createElementNS("http://www.w3.org/2000/svg", "path");
    p.setAttribute("d", d);
    p.setAttribute("class", className);
    return p;
  };
  const area = list.length > 1 ? `M${x(list[0]).toFixed(1)} 120` + line.replaceAll("M", "L") + `L600 120Z` : "";
  svg.replaceChildren(path(area, "area"), path(line, "line"));
  put("oldest", list.length > 1 ? duration(end - Math.max(begin, list[0].time)) + " ago" : "");
  put("peak", list.length ? `peak ${number.format(Math.max(...list.map((s) => s.used)))}` : "");
}

async function loadHistory() {
  try {
    const answer = await fetch("v1/history");
    if (answer.ok) chart(await answer.json());
  } catch { /* the events show that the gateway is gone */ }
}

function connect() {
  const source = new EventSource("v1/events");
  for (const [name, show] of Object.entries(shows)) {
    source.addEventListener(name, (e) => show(JSON.parse(e.data)));
  }
  source.onerror = () => {
    put("state", "no answer");
    $("state").className = "badge bad";
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

connect();
loadHistory();
setInterval(loadHistory, 10000);
